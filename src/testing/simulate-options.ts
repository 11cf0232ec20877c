/** What simulate() is asked for, checked: every fault of the options in one error, and events as the records that a publisher would send. */
import { asKeyfoldError, type ErrorCode, failWithFaults, KeyfoldError, reasonOf, shown } from "../errors.ts"
import { planOf } from "../job.ts"
import { type Duration, toDurationMs } from "../model/duration.ts"
import { keyText } from "../model/key.ts"
import { definitionOf, type Source, type StreamDefinition, type TopicDefinition } from "../model/topic.ts"
import type { Plan } from "../plan.ts"
import { checkOptionNames, FaultList } from "../plan-parts.ts"
import { type FaultKind, faultKinds, type LossyKind } from "../simulation/faults.ts"
import { eventOf } from "../simulation/outputs.ts"
import type { TrialEvent } from "../simulation/trial.ts"

/** What the runtime promises to survive. docs/simulation.md explains each. */
export type SimulatedFault = Exclude<FaultKind, LossyKind>

export interface SimulateOptions<In> {
  /** What the job reads, in the order in which it was published. */
  readonly events: Iterable<In>
  /** Which source an event comes from; default: the job's first. */
  readonly from?: (event: In) => Source<In, unknown>
  /** The first seed, a whole number; default 1. A failure names the seed that shows it. */
  readonly seed?: number
  /** How many seeds, each a history of its own; default 20. */
  readonly seeds?: number
  /** What may go wrong; default: everything that the runtime promises to survive. */
  readonly faults?: readonly SimulatedFault[]
  /**
   * What must be the same: `all` results (default), or of each key of an output topic the `last`, for jobs that put out a result per call
   * (`outputMode: "update"`), whose number depends on how events are cut into turns.
   */
  readonly compare?: "all" | "last"
  /** Whether the job may fail for some events: `none` (default), or `expected`, when there must be as many with faults as without. */
  readonly deadLetters?: "none" | "expected"
  /**
   * How long simulated clocks go on after everything was read; default: until no timeout by processing time is due within ten minutes. Give it
   * more than the longest timeout, and 5 seconds more, because simulated clocks may be wrong by that.
   */
  readonly rest?: Duration
}

export interface SimulateSettings {
  readonly plan: Plan
  readonly events: readonly TrialEvent[]
  readonly seed: number
  readonly seeds: number
  readonly kinds: readonly FaultKind[]
  readonly compare: "all" | "last"
  readonly deadLetters: "none" | "expected"
  /** Undefined: until the timeouts by processing time have fired. */
  readonly restMs: number | undefined
}

/** Of topics that do not say how many they have. */
export const partitionsDefault = 4
export const eventMsEvery = 20
/** What a publisher takes on servers with the usual `max_payload` of 1 MiB, which the simulated ones have, less the room for headers. */
const eventBytesMax = 1_048_576 - 4_096

const optionNames = ["events", "from", "seed", "seeds", "faults", "compare", "deadLetters", "rest"]

export const settingsOf = (job: unknown, given: unknown): SimulateSettings => {
  const plan = planOf(job)
  if (plan === undefined) throw new KeyfoldError("illegal-argument", "simulate takes a job that .to() has ended")
  const options = optionsOf(given)
  const faults = new FaultList()
  checkOptionNames(options, optionNames, "simulate", faults)
  checkInput(options, faults)
  checkSeeds(options, faults)
  const { seed = 1, seeds = 20, faults: kinds = faultKinds, compare = "all", deadLetters = "none", rest } = options
  checkKinds(kinds, faults)
  if (compare !== "all" && compare !== "last") faults.add(`compare must be "all" or "last", got ${shown(compare)}`)
  if (deadLetters !== "none" && deadLetters !== "expected") {
    faults.add(`deadLetters must be "none" or "expected", got ${shown(deadLetters)}`)
  }
  const restMs = rest === undefined ? undefined : restMsOf(rest, faults)
  failWithFaults(
    "option-invalid",
    "simulate",
    faults.all.map(({ message }) => ({ code: "option-invalid", message }))
  )
  checkSinks(plan)
  return { plan, events: eventsOf(plan, options), seed, seeds, kinds, compare, deadLetters, restMs }
}

const optionsOf = (given: unknown): SimulateOptions<unknown> => {
  if (typeof given === "object" && given !== null && !Array.isArray(given)) return given as SimulateOptions<unknown>
  throw new KeyfoldError("option-invalid", `simulate takes a job and its options, at least { events }, got ${shown(given)}`)
}

const checkInput = ({ events, from }: SimulateOptions<unknown>, faults: FaultList): void => {
  if (typeof (events as Iterable<unknown> | null | undefined)?.[Symbol.iterator] !== "function") {
    faults.add(`events must be an array, or something else to iterate over, of what the job reads, got ${shown(events)}`)
  }
  if (from !== undefined && typeof from !== "function") {
    faults.add(`from must be a function from an event to the source that it comes from, got ${shown(from)}`)
  }
}

const checkSeeds = ({ seed = 1, seeds = 20 }: SimulateOptions<unknown>, faults: FaultList): void => {
  const isSeed = Number.isSafeInteger(seed)
  const isCount = Number.isSafeInteger(seeds) && seeds > 0
  if (!isSeed) faults.add(`seed must be a whole number, got ${numberShown(seed)}`)
  if (!isCount) faults.add(`seeds must be a whole number from 1 on, got ${numberShown(seeds)}`)
  if (isSeed && isCount && !Number.isSafeInteger(seed + seeds)) faults.add(`seed and seeds come to more than ${Number.MAX_SAFE_INTEGER}`)
}

/** JSON has no NaN. */
const numberShown = (value: unknown): string => (typeof value === "number" ? String(value) : shown(value))

const checkKinds = (kinds: unknown, faults: FaultList): void => {
  if (!Array.isArray(kinds)) {
    faults.add(`faults must be an array of what may go wrong, such as ["crash"], got ${shown(kinds)}`)
    return
  }
  for (const kind of kinds as readonly FaultKind[]) {
    if (!faultKinds.includes(kind)) faults.add(`there is no fault called ${shown(kind)}: the faults are ${faultKinds.join(", ")}`)
  }
}

const restMsOf = (rest: unknown, faults: FaultList): number => {
  try {
    return toDurationMs(rest as Duration, 0, "rest")
  } catch (thrown) {
    faults.add(reasonOf(thrown))
    return 0
  }
}

/** The names of those with timeouts by processing time. */
export const timedStages = ({ stages }: Plan): readonly string[] =>
  stages.flatMap(({ name, actor }) => (actor?.timeout === "processing-time" ? [name] : []))

const checkSinks = (plan: Plan): void => {
  const own = plan.outputs.find(({ kind }) => kind === "foreach")
  if (own === undefined) return
  throw new KeyfoldError(
    "unsupported-operation",
    `the sink ${own.name} is a function of yours, whose calls cannot be compared: simulate the job with a topic in its place`
  )
}

// ---- events

const eventsOf = (plan: Plan, { events, from }: SimulateOptions<unknown>): readonly TrialEvent[] => {
  const sources = plan.stages.flatMap(({ inputs }) => inputs.flatMap((input) => (input.kind === "source" ? [input.source] : [])))
  const all = [...events]
  if (all.length === 0) throw new KeyfoldError("option-invalid", "events has nothing in it: give the job something to read")
  return all.map((value, index) => {
    const source = from === undefined ? (sources[0] as TopicDefinition) : sourceOf(value, from, sources)
    return { atMs: index * eventMsEvery, ...recordOf(source, value) }
  })
}

type SourceDefinition = TopicDefinition | StreamDefinition

const sourceOf = (value: unknown, from: (event: unknown) => unknown, sources: readonly SourceDefinition[]): SourceDefinition => {
  const named = tried("illegal-argument", "`from` threw", () => from(value))
  const definition = definitionOf(named)
  const source = sources.find((candidate) => candidate === definition)
  if (source !== undefined) return source
  const names = sources.map(({ name }) => name).join(", ")
  const wrong = definition === undefined ? `it answers ${shown(named)}` : `the job does not read ${definition.name}`
  throw new KeyfoldError("illegal-argument", `\`from\` must answer a source of the job (${names}); for the event ${shown(value)} ${wrong}`)
}

/** Or the error that a publisher would give: what it does not send cannot be read. */
const recordOf = (source: SourceDefinition, value: unknown): Omit<TrialEvent, "atMs"> => {
  if (source.kind === "stream") {
    const cure = "simulate the job with a topic in its place"
    throw new KeyfoldError("unsupported-operation", `${source.name} is a stream of somebody else: ${cure}`)
  }
  const { name } = source
  tried("key-invalid", `the key function of ${name} threw`, () => keyText(source.key(value)))
  const encoded = () => eventOf(source, source.partitions ?? partitionsDefault, value)
  const record = tried("encode-failed", `the codec of ${name} refuses the event`, encoded)
  const { byteLength } = record.data
  if (byteLength <= eventBytesMax) return record
  throw new KeyfoldError("encode-failed", `an event for ${name} has ${byteLength} bytes, ${eventBytesMax} are allowed`)
}

const tried = <T>(code: ErrorCode, what: string, act: () => T): T => {
  try {
    return act()
  } catch (thrown) {
    throw asKeyfoldError(thrown, code, what)
  }
}
