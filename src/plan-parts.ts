/** The parts of a plan, each made from its draft. A part with a fault is made as well as it can be, so that the next fault is found too. */
import { type Fault, KeyfoldError, reasonOf, shown } from "./errors.ts"
import type { Codec } from "./model/codec.ts"
import { toDurationMs } from "./model/duration.ts"
import type { TimeoutKind } from "./model/group-state.ts"
import { keyText } from "./model/key.ts"
import type { Operator } from "./model/operator.ts"
import type { ActorPlan, InitialState, InputPlan, SinkDefinition, StartAt } from "./model/stage.ts"
import { type Definition, definitionOf, type TopicDefinition } from "./model/topic.ts"
import type { EndDraft, GroupDraft, SourceDraft, StageDraft, StepDraft } from "./plan.ts"

/** Collects the faults of one job. */
export class FaultList {
  readonly all: Fault[] = []

  add(message: string, code = "job-invalid"): void {
    if (!this.all.some((fault) => fault.message === message)) this.all.push({ code, message })
  }
}

/** A misspelt option would otherwise mean its default, in silence. */
export const checkOptionNames = (options: unknown, known: readonly string[], what: string, faults: FaultList): void => {
  if (typeof options !== "object" || options === null) return
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) faults.add(`${what} has no option ${shown(name)}: the options are ${known.join(", ")}`)
  }
}

/** The steps before the first grouping, and each grouping with what follows it. */
export const splitSteps = (
  steps: readonly StepDraft[],
  faults: FaultList
): { before: readonly StepDraft[]; groups: readonly GroupDraft[] } => {
  const before: StepDraft[] = []
  const groups: { key: unknown; stage: StageDraft; after: StepDraft[] }[] = []
  let key: { readonly value: unknown } | undefined
  for (const step of steps) {
    if (step.kind === "group") key = { value: step.key }
    else if (step.kind === "stage") {
      if (key === undefined) faults.add("a state function needs groupByKey() before it")
      groups.push({ key: key?.value, stage: step, after: [] })
      key = undefined
    } else (groups.at(-1)?.after ?? before).push(step)
  }
  if (key !== undefined) faults.add("groupByKey() without a state function behind it does nothing")
  return { before, groups }
}

export const planInput = (draft: SourceDraft, common: readonly StepDraft[], faults: FaultList): Extract<InputPlan, { kind: "source" }> => {
  const defined = definitionOf(draft.source)
  checkOptionNames(draft.options, ["startAt", "through"], "from", faults)
  const startAt = planStartAt(draft.startAt ?? "earliest", faults)
  const operators = planOperators([...draft.steps, ...common], faults)
  if (defined !== undefined && defined.kind !== "foreach") return { kind: "source", source: defined, startAt, operators }
  faults.add("`from` takes what topic() or stream() made")
  return { kind: "source", source: standIn, startAt, operators }
}

/** Stands for a topic that was none, while the other faults are collected. */
const standIn: TopicDefinition = {
  kind: "topic",
  name: "unknown",
  codec: { contentType: "", fingerprint: "", encode: () => new Uint8Array(), decode: () => undefined },
  key: () => "",
  partitions: undefined
}

const planStartAt = (startAt: unknown, faults: FaultList): StartAt => {
  if (startAt === "earliest" || startAt === "latest") return startAt
  const time = (startAt as { readonly time?: unknown } | null)?.time
  if (typeof time === "number" && Number.isFinite(time)) return { time }
  faults.add(`startAt must be "earliest", "latest" or { time: milliseconds }, got ${shown(startAt)}`)
  return "earliest"
}

export const planOperators = (steps: readonly StepDraft[], faults: FaultList): Operator[] =>
  steps.flatMap((step): Operator[] => {
    if (step.kind === "watermark") return [planWatermark(step, faults)]
    if (step.kind === "map" || step.kind === "filter" || step.kind === "flatMap") {
      checkFunction(step.fn, `${step.kind} takes a synchronous function: it runs inside the turn`, faults)
      return [{ kind: step.kind, fn: step.fn } as Operator]
    }
    faults.add(step.kind === "fault" ? step.message : "`through` may only use map, filter, flatMap and withWatermark")
    return []
  })

const planWatermark = (step: Extract<StepDraft, { kind: "watermark" }>, faults: FaultList): Operator => {
  checkOptionNames(step.options, ["idleAfter", "advanceWhenIdle", "late"], "withWatermark", faults)
  const { idleAfter = "1 minute", advanceWhenIdle = false, late } = (step.options ?? {}) as Record<string, unknown>
  checkFunction(step.eventTime, "withWatermark takes a synchronous function from an event to its time in milliseconds", faults)
  if (typeof advanceWhenIdle !== "boolean") faults.add(`advanceWhenIdle must be true or false, got ${shown(advanceWhenIdle)}`)
  return {
    kind: "watermark",
    declaration: {
      eventTime: step.eventTime as () => unknown,
      delayMs: planDuration(step.delay, 0, "the watermark delay", faults),
      idleAfterMs: planDuration(idleAfter, 1, "idleAfter", faults),
      advanceWhenIdle: advanceWhenIdle === true,
      late: late === undefined ? undefined : planSink(late, "the late sink", faults)
    }
  }
}

const planDuration = (duration: unknown, least: 0 | 1, what: string, faults: FaultList): number => {
  try {
    return toDurationMs(duration as string, least, what)
  } catch (thrown) {
    faults.add(reasonOf(thrown))
    return least
  }
}

export const planSinks = (end: EndDraft, faults: FaultList): SinkDefinition[] => {
  const sinks: readonly unknown[] = Array.isArray(end.sinks) ? end.sinks : []
  if (end.route !== undefined) checkFunction(end.route, "to(route) takes a synchronous function from a result to its sink", faults)
  if (typeof end.route === "function" && sinks.length === 0) {
    faults.add("to(route) needs `routes`, the list of every sink that it may answer: recovery must know them")
  }
  return sinks.flatMap((sink) => planSink(sink, "a sink of to()", faults) ?? [])
}

const planSink = (sink: unknown, what: string, faults: FaultList): SinkDefinition | undefined => {
  const defined: Definition | undefined = definitionOf(sink)
  if (defined?.kind === "topic" || defined?.kind === "foreach") return defined
  faults.add(`${what} must be what topic() or foreachTurn() made`)
  return undefined
}

/** Of both state-function forms, and of an actor. */
const stageOptionNames = ["name", "state", "timeout", "late", "initialState", "emits", "outputMode", "run"]

/** What surrounds a stage: whether event time was declared since the stage before, and whether any watermark reaches it. */
interface StageSurroundings {
  readonly name: string
  readonly declaresEventTime: boolean
  readonly hasWatermark: boolean
}

export const planActor = (stage: StageDraft, around: StageSurroundings, faults: FaultList): ActorPlan => {
  const at = `the stage ${around.name}`
  const options = (stage.options ?? {}) as Record<string, unknown>
  const timeout = oneOf(options["timeout"] ?? "none", ["none", "processing-time", "event-time"], `the timeout of ${at}`, faults)
  const late = options["late"] ?? (timeout === "event-time" ? "drop" : "keep")
  checkStateFunction(stage.run, at, faults)
  checkOptionNames(options, stageOptionNames, at, faults)
  if (timeout === "event-time" && !around.declaresEventTime) {
    faults.add(`${at} has an event-time timeout but no watermark: declare withWatermark(eventTime, delay) before its groupByKey (G19)`)
  }
  if (late === "drop" && !around.hasWatermark) {
    faults.add(`${at} drops late rows but has no watermark: declare withWatermark(eventTime, delay) before its groupByKey (W3)`)
  }
  const state = planCodec(options["state"], at, faults)
  return {
    mode: stage.mode,
    run: stage.run as ActorPlan["run"],
    state,
    timeout: timeout as TimeoutKind,
    late: oneOf(late, ["drop", "keep"], `\`late\` of ${at}`, faults) as "drop" | "keep",
    outputMode: planOutputMode(stage, options["outputMode"], at, faults),
    initialState: planInitialState(options["initialState"], state, at, faults),
    emits: planEmits(options["emits"], at, faults)
  }
}

const planOutputMode = (stage: StageDraft, outputMode: unknown, at: string, faults: FaultList): "append" | "update" => {
  if (stage.mode === "map") return "update"
  return oneOf(outputMode ?? "append", ["append", "update"], `the outputMode of ${at}`, faults) as "append" | "update"
}

const checkStateFunction = (run: unknown, at: string, faults: FaultList): void => {
  if (typeof run !== "function") faults.add(`${at} needs a state function, got ${typeof run}`)
  else if (isAsync(run)) faults.add(`${at} has an async state function: it must be synchronous, so that a turn commits as a whole`)
}

const planCodec = (codec: unknown, at: string, faults: FaultList): Codec<unknown> => {
  const candidate = codec as Partial<Codec<unknown>> | undefined
  if (typeof candidate?.encode === "function" && typeof candidate.decode === "function") return candidate as Codec<unknown>
  faults.add(`${at} needs \`state\`, the codec of its state, such as json()`)
  return standIn.codec
}

const planEmits = (emits: unknown, at: string, faults: FaultList): TopicDefinition[] => {
  if (emits === undefined) return []
  if (!Array.isArray(emits)) {
    faults.add(`\`emits\` of ${at} must be an array of topics`)
    return []
  }
  return emits.flatMap((sink: unknown): TopicDefinition[] => {
    const defined = definitionOf(sink)
    if (defined?.kind === "topic") return [defined]
    faults.add(`\`emits\` of ${at} takes topics only`)
    return []
  })
}

/** G20: read once, here; duplicate keys, keys without value equality and states that the codec refuses are faults of the job. */
export const planInitialState = (initial: unknown, state: Codec<unknown>, at: string, faults: FaultList): InitialState[] => {
  if (initial === undefined) return []
  const what = `the initial state of ${at}`
  if (typeof (initial as Iterable<unknown> | null)?.[Symbol.iterator] !== "function") {
    faults.add(`${what} must be iterable: an array or Map of [key, state]`)
    return []
  }
  const planned = new Map<string, InitialState>()
  try {
    for (const [key, value] of initial as Iterable<readonly [unknown, unknown]>) {
      const text = keyText(key)
      if (planned.has(text)) faults.add(`${what} has the key ${shown(key)} twice`)
      if (value === undefined || value === null) throw new KeyfoldError("illegal-argument", `the state of ${shown(key)} is ${value}`)
      planned.set(text, { keyText: text, key, bytes: new Uint8Array(state.encode(value)) })
    }
  } catch (thrown) {
    faults.add(`${what} cannot be used: ${reasonOf(thrown)}`)
  }
  return [...planned.values()]
}

const oneOf = (value: unknown, allowed: readonly string[], what: string, faults: FaultList): string => {
  if (typeof value === "string" && allowed.includes(value)) return value
  faults.add(`${what} must be ${allowed.map((word) => `"${word}"`).join(" or ")}, got ${shown(value)}`)
  return allowed[0] as string
}

/** A function that runs inside the turn. */
export const checkFunction = (fn: unknown, rule: string, faults: FaultList): void => {
  if (typeof fn !== "function") faults.add(`${rule}, got ${shown(fn)}`)
  else if (isAsync(fn)) faults.add(`${rule}, got an async one`)
}

/** Async functions and async generators tell by their class; a plain function that answers a promise is found when it runs. */
const isAsync = (fn: object): boolean => /^Async/.test(fn.constructor.name)
