/**
 * When a whole query's turns happen: its trigger, and how a bounded run ends.
 *
 *   continuous       every partition by itself: turn when there is something, else sleep
 *   { every }        every partition, at each tick, until nothing is left
 *   available-now    stage by stage: all that was there at the start, then rest, then close
 *   once             stage by stage: at most one turn a partition, then rest, then close
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import type { Ends, Runner } from "./runner.ts"

export type Schedule = { readonly kind: "continuous" | "available-now" | "once" } | { readonly kind: "every"; readonly everyMs: number }

export interface StageRunners {
  readonly name: string
  /** Whether it reads an internal topic: its end is known only when the stage before has ended. */
  readonly internal: boolean
  readonly runners: readonly Runner[]
}

/** Runs until stopped; a bounded schedule until its end. `stopped` is looked at between turns. */
export const runSchedule = (
  stages: readonly StageRunners[],
  schedule: Schedule,
  options: { readonly close: boolean; readonly stopped: () => boolean }
): Effect.Effect<void, KeyfoldError> => {
  const { stopped } = options
  if (schedule.kind === "continuous") return together(stages.flatMap(({ runners }) => runners.map((runner) => continuous(runner, stopped))))
  if (schedule.kind === "every")
    return together(stages.flatMap(({ runners }) => runners.map((runner) => ticking(runner, schedule.everyMs, stopped))))
  return bounded(stages, { once: schedule.kind === "once", ...options })
}

const resting = { atOnce: false, lazily: true }
const finished = { atOnce: true, lazily: false }

const together = (runs: readonly Effect.Effect<void, KeyfoldError>[]): Effect.Effect<void, KeyfoldError> =>
  Effect.all(runs, { concurrency: "unbounded", discard: true })

/** The wait is the one place where a continuous partition is interrupted: a turn that has begun ends. */
const continuous = Effect.fnUntraced(function* (runner: Runner, stopped: () => boolean) {
  while (!stopped()) {
    if (yield* Effect.uninterruptible(runner.step())) continue
    if (yield* Effect.uninterruptible(runner.idle(resting))) continue
    yield* runner.wait()
  }
})

/** Everything that is there at a tick, and everything that is due. */
export const drain = Effect.fnUntraced(function* (runner: Runner, ends: Ends | undefined, stopped: () => boolean) {
  while (!stopped() && (yield* Effect.uninterruptible(runner.step(ends)))) {
    // Each step ends in a commit, which lets others run.
  }
})

const ticking = Effect.fnUntraced(function* (runner: Runner, everyMs: number, stopped: () => boolean) {
  let tickAtMs = yield* Clock.currentTimeMillis
  while (!stopped()) {
    yield* drain(runner, undefined, stopped)
    yield* Effect.uninterruptible(runner.idle(resting))
    const nowMs = yield* Clock.currentTimeMillis
    tickAtMs += everyMs * Math.max(1, Math.ceil((nowMs - tickAtMs) / everyMs))
    yield* Effect.sleep(Math.min(tickAtMs - nowMs, everyMs))
  }
})

/** A function that arms a timeout in every timeout call would close for ever. */
const closeRoundsMax = 10_000

const bounded = Effect.fnUntraced(function* (
  stages: readonly StageRunners[],
  options: { readonly once: boolean; readonly close: boolean; readonly stopped: () => boolean }
) {
  const { once, close, stopped } = options
  const startEnds = yield* Effect.all(
    stages.map(({ runners, internal }) => (internal ? Effect.succeed([]) : Effect.all(runners.map((runner) => runner.ends()))))
  )
  for (const [index, { runners, internal }] of stages.entries()) {
    const ends = internal ? yield* Effect.all(runners.map((runner) => runner.ends())) : startEnds[index]
    yield* together(runners.map((runner, place) => (once ? oneTurn(runner, ends?.[place]) : toTheEnd(runner, ends?.[place], stopped))))
    // Whoever finished early rests at what the others had reached by then; now that all rest, once more.
    if (!once) for (const runner of runners) yield* runner.idle(finished)
    if (close && !stopped()) for (const runner of runners) yield* closeAll(runner, stopped)
    for (const runner of runners) yield* runner.partition.settled()
  }
})

const oneTurn = Effect.fnUntraced(function* (runner: Runner, ends: Ends | undefined) {
  yield* Effect.uninterruptible(runner.step(ends))
  yield* runner.partition.sendWatermark(yield* Clock.currentTimeMillis, true)
})

const toTheEnd = Effect.fnUntraced(function* (runner: Runner, ends: Ends | undefined, stopped: () => boolean) {
  yield* drain(runner, ends, stopped)
  if (!stopped()) yield* Effect.uninterruptible(runner.idle(finished))
})

const closeAll = Effect.fnUntraced(function* (runner: Runner, stopped: () => boolean) {
  for (let round = 0; !stopped(); round++) {
    if (!(yield* Effect.uninterruptible(runner.close()))) return
    if (round === closeRoundsMax) {
      return yield* Effect.fail(
        new KeyfoldError(
          "function-failed",
          `closing has fired timeouts ${closeRoundsMax} times over: a state function arms a new one in every timeout call`
        )
      )
    }
  }
})
