/** Starts a job on a runtime: checks the options, assembles the query, hands it to its schedule. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { type Assembled, assemble } from "./assembly.ts"
import { type Fault, failWithFaults, type KeyfoldError, reasonOf, shown } from "./errors.ts"
import { type Job, planOf } from "./job.ts"
import { type Duration, toDurationMs } from "./model/duration.ts"
import { randomName } from "./model/random-name.ts"
import { type Limits, resolveLimits } from "./options.ts"
import type { TurnObserver } from "./partition/ports.ts"
import type { Ends } from "./partition/runner.ts"
import { runnersOf, runSchedule, type Schedule, stillThere } from "./partition/schedule.ts"
import type { Seat } from "./partition/seat.ts"
import { deadLetterTopicName, type Plan } from "./plan.ts"
import { deadLetterNameTaken, isUsableName, nameRule } from "./plan-names.ts"
import { type Connect, connectorOf, type Runtime } from "./ports.ts"
import { type Query, RunningQuery } from "./query.ts"
import { ProgressLog } from "./telemetry/progress.ts"

/**
 * When turns happen. `continuous` (default): as soon as there is something. `{ every }`: at each tick. `available-now`: all that was there
 * at the start, outputs confirmed, then stops. `once`: at most one turn a partition and its follow-ups, then stops.
 */
export type Trigger = "continuous" | "available-now" | "once" | { readonly every: Duration }

export interface StartOptions {
  readonly runtime: Runtime
  /** Default `continuous`. */
  readonly trigger?: Trigger
  /** Of the query and its journal; default the job's. */
  readonly name?: string
  /** What `available-now` and `once` do with timeouts still armed at the end: keep them (default), or close: move each watermark just past its last armed timeout. */
  readonly atEnd?: "keep" | "close"
  readonly limits?: Partial<Limits>
  /** Whether records that are gone before they were read stop the query with `source-gap`; else they are counted. Default true. */
  readonly failOnDataLoss?: boolean
  /**
   * When the journal has lost its last turns though their outputs are out (`journal-behind-outputs`): go on from what the outputs hold. What
   * was lost is worked out again from the sources and put out again. Default false.
   */
  readonly acceptLoss?: boolean
}

/**
 * Starts a job. Completes when its partitions are owned and recovered; rejects with a KeyfoldError when the job or the options cannot
 * work, when the directory is in use, damaged or newer, or when a topic was created with other settings.
 */
export const start = async (job: Job, options: StartOptions): Promise<Query> => Effect.runPromise(startQuery(job, options))

/** The same as an Effect. */
export const startQuery = Effect.fnUntraced(function* (job: Job, options: StartOptions) {
  const settings = yield* Effect.try({ try: () => resolveOptions(job, options), catch: (thrown) => thrown as KeyfoldError })
  const scope = yield* Scope.make()
  const launched = launch(settings).pipe(Scope.provide(scope))
  const exit = yield* Effect.exit(launched)
  if (Exit.isFailure(exit)) yield* Scope.close(scope, exit)
  const program = yield* exit
  return new RunningQuery({ ...program, scope, services: yield* Effect.context<never>() }).launch()
})

interface Settings {
  readonly plan: Plan
  readonly query: string
  readonly schedule: Schedule
  readonly close: boolean
  readonly limits: Limits
  readonly failOnDataLoss: boolean
  readonly acceptLoss: boolean
  readonly connect: Connect
}

const launch = Effect.fnUntraced(function* (settings: Settings) {
  const { plan, query, schedule, close, limits, connect } = settings
  const ports = yield* connect.query(limits)
  const nowMs = yield* Clock.currentTimeMillis
  const runId = yield* randomName(128)
  const progress = new ProgressLog({ runId, name: query, firstStage: plan.stages[0]?.name ?? "" }, nowMs)
  const observer: TurnObserver = { committed: (turn) => progress.count(turn), skipped: (records) => progress.countLost(records) }
  const assembled = yield* assemble({
    plan,
    query,
    ports,
    limits,
    failOnDataLoss: settings.failOnDataLoss,
    acceptLoss: settings.acceptLoss,
    observer
  })
  const id = assembled.topics.describe(deadLetterTopicName(query)).created[0] as string
  progress.id = id
  // What was reached is still told when the partitions have been given back.
  let reachedMs: number | undefined
  const watermarkMs = () => {
    reachedMs = watermarkOf(assembled) ?? reachedMs
    return reachedMs
  }
  return {
    id,
    runId,
    name: query,
    run: (stopped: () => boolean) => Effect.raceFirst(runSchedule(assembled.stages, schedule, { close, stopped }), assembled.failed),
    processAll: () => processAll(assembled),
    watermarkMs,
    lag: () => lagOf(assembled),
    settle: () => Effect.andThen(Effect.sync(watermarkMs), leaveAll(assembled)),
    trouble: () => ports.trouble?.() ?? assembled.stages.flatMap(({ seats }) => seats.flatMap((seat) => seat.trouble ?? []))[0],
    isBusy: () => ports.trouble?.() === undefined && assembled.stages.some((stage) => runnersOf(stage).some((runner) => runner.isBusy)),
    progress
  }
})

/** Everything that was in the sources when asked: waits, stage by stage, until it has been read and is out. */
const processAll = Effect.fnUntraced(function* (assembled: Assembled) {
  for (const { seats } of assembled.stages) {
    for (const seat of seats) {
      let ends = yield* seat.ends
      for (let polls = 1; !isThrough(seat, ends, yield* Clock.currentTimeMillis); polls++) {
        yield* Effect.sleep(pollMs)
        if (polls % endsAskedEvery === 0) ends = yield* stillThere(seat, ends)
      }
    }
  }
})

/** Also when another process has the partition: what it says of its positions is out. */
const isThrough = (seat: Seat, ends: Ends, nowMs: number): boolean => {
  const { runner } = seat
  if (runner !== undefined)
    return !runner.isBusy && runner.lag(ends) === 0 && !runner.partition.needsTurn(nowMs) && runner.partition.isSettled
  const positions = seat.heard?.news.positions
  return positions !== undefined && ends.every((end, index) => (positions[index] ?? 0) >= end)
}

const pollMs = 2
/** Polls between two looks at where the inputs end by now. */
const endsAskedEvery = 500

/** P21: what is committed is brought out, and every partition given back. */
const leaveAll = (assembled: Assembled): Effect.Effect<void> =>
  Effect.all(
    assembled.stages.flatMap(({ seats }) => seats.map((seat) => seat.leave())),
    { concurrency: "unbounded", discard: true }
  )

/** The smallest over the first stage; undefined without a watermark. */
const watermarkOf = (assembled: Assembled): number | undefined => {
  const [first] = assembled.stages
  const watermarks = first === undefined ? [] : runnersOf(first).flatMap(({ partition }) => partition.watermarkMs ?? [])
  return watermarks.length === 0 ? undefined : Math.min(...watermarks)
}

const lagOf = Effect.fnUntraced(function* (assembled: Assembled) {
  let lag = 0
  for (const seat of assembled.stages[0]?.seats ?? []) lag += seat.runner?.lag(yield* seat.ends) ?? 0
  return lag
})

/** Checks every option, all faults in one error. */
const resolveOptions = (job: Job, options: StartOptions): Settings => {
  const faults: Fault[] = []
  const fault = (message: string) => faults.push({ code: "option-invalid", message })
  const plan = planOf(job)
  if (plan === undefined) fault("start takes a job that .to() has ended")
  const query = options.name ?? plan?.name ?? ""
  if (plan !== undefined && !isUsableName(query)) fault(`the query's name must be ${nameRule}, got ${shown(query)}`)
  if (plan !== undefined && topicNames(plan).includes(deadLetterTopicName(query))) fault(deadLetterNameTaken(query))
  const schedule = resolveTrigger(options.trigger ?? "continuous", fault)
  const { atEnd = "keep" } = options
  if (atEnd !== "keep" && atEnd !== "close") fault(`atEnd must be "keep" or "close", got ${shown(atEnd)}`)
  const bounded = schedule.kind === "available-now" || schedule.kind === "once"
  if (atEnd === "close" && !bounded) fault('atEnd: "close" needs a trigger that ends: "available-now" or "once"')
  for (const name of ["failOnDataLoss", "acceptLoss"] as const) {
    if (options[name] !== undefined && typeof options[name] !== "boolean") fault(`${name} must be true or false`)
  }
  for (const name of Object.keys(options)) {
    if (!optionNames.includes(name)) fault(`there is no option called ${name}: the options are ${optionNames.join(", ")}`)
  }
  failWithFaults("option-invalid", "start", faults)
  const connect = connectorOf(options.runtime)
  const { failOnDataLoss = true, acceptLoss = false } = options
  const limits = resolveLimits(options.limits)
  return { plan: plan as Plan, query, schedule, close: atEnd === "close", limits, failOnDataLoss, acceptLoss, connect }
}

const optionNames = ["runtime", "trigger", "name", "atEnd", "limits", "failOnDataLoss", "acceptLoss"]

const topicNames = (plan: Plan): readonly string[] => [
  ...plan.outputs.map(({ name }) => name),
  ...plan.stages.flatMap(({ inputs }) => inputs.flatMap((input) => (input.kind === "source" ? [input.source.name] : [])))
]

const resolveTrigger = (trigger: unknown, fault: (message: string) => void): Schedule => {
  if (trigger === "continuous" || trigger === "available-now" || trigger === "once") return { kind: trigger }
  const every = (trigger as { readonly every?: Duration } | null)?.every
  try {
    if (every !== undefined) return { kind: "every", everyMs: toDurationMs(every, 1, "`every`") }
    fault(`trigger must be "continuous", "available-now", "once" or { every }, got ${shown(trigger)}`)
  } catch (thrown) {
    fault(reasonOf(thrown))
  }
  return { kind: "continuous" }
}
