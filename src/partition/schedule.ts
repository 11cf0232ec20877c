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
import * as Option from "effect/Option"
import { KeyfoldError } from "../errors.ts"
import type { RunPhase } from "./membership.ts"
import type { Ends, Runner } from "./runner.ts"
import type { Seat, Tenure } from "./seat.ts"

export type Schedule = { readonly kind: "continuous" | "available-now" | "once" } | { readonly kind: "every"; readonly everyMs: number }

/** The partitions of one stage, wherever they are. */
export interface StageSeats {
  readonly name: string
  /** Whether it reads an internal topic: its end is known only when the stage before has ended. */
  readonly internal: boolean
  readonly seats: readonly Seat[]
}

/** The runners of the partitions that this process holds now. */
export const runnersOf = (stage: StageSeats): readonly Runner[] => stage.seats.flatMap((seat) => seat.runner ?? [])

/** Runs until stopped; a bounded schedule until its end. `stopped` is looked at between turns. */
export const runSchedule = (
  stages: readonly StageSeats[],
  schedule: Schedule,
  options: { readonly close: boolean; readonly stopped: () => boolean }
): Effect.Effect<void, KeyfoldError> => {
  const { stopped } = options
  const forever = (task: Task) => together(stages.flatMap(({ seats }) => seats.map((seat) => seat.perform(task, () => false))))
  if (schedule.kind === "continuous") return forever((runner, tenure) => continuous(runner, tenure, stopped))
  if (schedule.kind === "every") return forever((runner, tenure) => ticking(runner, tenure, { everyMs: schedule.everyMs, stopped }))
  return bounded(stages, { once: schedule.kind === "once", ...options })
}

type Task = (runner: Runner, tenure: Tenure) => Effect.Effect<void, KeyfoldError>

const resting = { atOnce: false, lazily: true }
const finished = { atOnce: true, lazily: false }

const together = (runs: readonly Effect.Effect<void, KeyfoldError>[]): Effect.Effect<void, KeyfoldError> =>
  Effect.all(runs, { concurrency: "unbounded", discard: true })

/**
 * Waits until outputs have got out (P15), but not beyond the tenure: when it is this worker alone that cannot bring them out, another one
 * takes over (P21).
 */
const room = (runner: Runner, tenure: Tenure): Effect.Effect<void, KeyfoldError> =>
  Effect.suspend(() => (runner.partition.hasRoom ? Effect.void : Effect.raceFirst(runner.partition.room(), tenure.over)))

/** The waits are where a continuous partition is interrupted: a turn that has begun ends. */
const continuous = Effect.fnUntraced(function* (runner: Runner, tenure: Tenure, stopped: () => boolean) {
  for (;;) {
    yield* room(runner, tenure)
    if (stopped() || tenure.isOver) return
    if (yield* Effect.uninterruptible(runner.step())) continue
    if (yield* Effect.uninterruptible(runner.idle(resting))) continue
    yield* runner.wait(tenure.over)
  }
})

/** Everything that is there at a tick, and everything that is due. */
const drain = Effect.fnUntraced(function* (runner: Runner, tenure: Tenure, ends: Ends | undefined, stopped: () => boolean) {
  // Each step ends in a commit, which lets others run.
  for (;;) {
    yield* room(runner, tenure)
    if (stopped() || tenure.isOver || !(yield* Effect.uninterruptible(runner.step(ends)))) return
  }
})

const ticking = Effect.fnUntraced(function* (
  runner: Runner,
  tenure: Tenure,
  options: { readonly everyMs: number; readonly stopped: () => boolean }
) {
  const { everyMs } = options
  const stopped = () => tenure.isOver || options.stopped()
  let tickAtMs = yield* Clock.currentTimeMillis
  while (!stopped()) {
    yield* drain(runner, tenure, undefined, stopped)
    if (stopped()) return
    yield* Effect.uninterruptible(runner.idle(resting))
    const nowMs = yield* Clock.currentTimeMillis
    tickAtMs += everyMs * Math.max(1, Math.ceil((nowMs - tickAtMs) / everyMs))
    yield* runner.resting(Effect.raceFirst(Effect.sleep(Math.min(tickAtMs - nowMs, everyMs)), tenure.over))
  }
})

/** A function that arms a timeout in every timeout call would close for ever. */
const closeRoundsMax = 10_000

/** Stage by stage, phase by phase: each begins when every partition, wherever it is, has come through the one before. */
const bounded = Effect.fnUntraced(function* (
  stages: readonly StageSeats[],
  options: { readonly once: boolean; readonly close: boolean; readonly stopped: () => boolean }
) {
  const { once, close, stopped } = options
  const endsOf = ({ seats }: StageSeats) =>
    Effect.all(
      seats.map((seat) => seat.ends),
      { concurrency: "unbounded" }
    )
  const startEnds = yield* Effect.all(stages.map((stage) => (stage.internal ? Effect.succeed([]) : endsOf(stage))))
  for (const [index, stage] of stages.entries()) {
    const ends = stage.internal ? yield* endsOf(stage) : (startEnds[index] as readonly Ends[])
    const phase = (to: RunPhase, task: (runner: Runner, tenure: Tenure, place: number) => Effect.Effect<void, KeyfoldError>) =>
      together(
        stage.seats.map((seat, place) =>
          seat.perform(
            (runner, tenure) =>
              Effect.andThen(
                task(runner, tenure, place),
                // A tenure that was cut short has not come so far: others would go on without what is left to do.
                Effect.sync(() => void (stopped() || tenure.isOver || seat.reach(to)))
              ),
            () => seat.isElsewhereAt(to)
          )
        )
      )
    const isOver = (tenure: Tenure) => () => stopped() || tenure.isOver
    yield* phase("read", (runner, tenure, place) =>
      once
        ? oneTurn(runner, ends[place])
        : toTheEnd(runner, tenure, { seat: stage.seats[place] as Seat, ends: ends[place] as Ends }, isOver(tenure))
    )
    // Whoever finished early rests at what the others had reached by then; now that all rest, once more.
    yield* phase("rested", (runner) => (once ? Effect.void : Effect.asVoid(Effect.uninterruptible(runner.idle(finished)))))
    yield* phase("closed", (runner, tenure) =>
      Effect.andThen(
        close && !stopped() ? closeAll(runner, isOver(tenure)) : Effect.void,
        Effect.raceFirst(runner.partition.settled(), tenure.over)
      )
    )
  }
})

const oneTurn = Effect.fnUntraced(function* (runner: Runner, ends: Ends | undefined) {
  yield* Effect.uninterruptible(runner.step(ends))
  yield* runner.partition.sendWatermark(yield* Clock.currentTimeMillis, true)
})

const toTheEnd = Effect.fnUntraced(function* (
  runner: Runner,
  tenure: Tenure,
  to: { readonly seat: Seat; readonly ends: Ends },
  stopped: () => boolean
) {
  let { ends } = to
  yield* drain(runner, tenure, ends, stopped)
  // A source that cannot be reached for a while answers nothing (I8).
  for (let lag = runner.lag(ends); !stopped() && lag > 0; ) {
    yield* runner.wait(Effect.sleep(lookMsEvery))
    yield* drain(runner, tenure, ends, stopped)
    const before = lag
    lag = runner.lag(ends)
    if (lag < before) continue
    ends = Option.getOrElse(yield* Effect.timeoutOption(stillThere(to.seat, ends), lookMsEvery), () => ends)
    lag = runner.lag(ends)
  }
  if (!stopped()) yield* Effect.uninterruptible(runner.idle(finished))
})

/** The ends of before, or where the inputs end by now: the last messages of a foreign stream may be removed before they are read (I6). */
export const stillThere = (seat: Pick<Seat, "ends">, ends: Ends): Effect.Effect<Ends, KeyfoldError> =>
  Effect.map(seat.ends, (now) => ends.map((end, index) => Math.min(end, now[index] ?? end)))

const lookMsEvery = 200

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
