// Goal: when an input counts as idle, and what of an internal topic may be removed.
// Method: a runner over a partition and a source of our own, under a clock that the test moves.
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import type { Partition } from "../../src/partition/partition.ts"
import { Runner, type RunnerParts } from "../../src/partition/runner.ts"
import { StageClock } from "../../src/partition/stage-clock.ts"

const idleAfterMs = 10_000
const historyKeptMs = 300_000
const away = Effect.fail(new KeyfoldError("unreachable", "away"))

const worldOf = (isInternal: boolean) => {
  const idle: boolean[] = [false]
  const position = { topic: "events", created: "then", position: 5, publishedAt: null }
  const trimmed: number[] = []
  const world = {
    idle,
    position,
    trimmed,
    /** What is called when everything is out, while something is not. */
    settled: undefined as (() => void) | undefined,
    told: 0,
    last: Effect.succeed(5) as Effect.Effect<number, KeyfoldError>,
    /** The position before the records that are younger than the history. */
    agedTo: 0
  }
  const partition = {
    inputs: [{ topic: "events", created: "then", time: isInternal ? undefined : { idleAfterMs }, upstreamCount: isInternal ? 1 : 0 }],
    progress: { positions: [position], watermarkMs: 0, outgoingWatermarkMs: 0, outgoingNewestMs: null, clocks: [{}] },
    setIdle: (input: number, is: boolean) => {
      idle[input] = is
    },
    get isIdle() {
      return idle[0]
    },
    get isSettled() {
      return world.settled === undefined
    },
    whenSettled: (call: () => void) => {
      world.settled = call
      return () => {
        world.settled = undefined
      }
    },
    hasShown: true,
    shownWatermarkMs: 0,
    advanceWatermark: () => Effect.succeed(false),
    sendWatermark: () => Effect.succeed(false)
  } as unknown as Partition
  const clock = () => new StageClock(1, () => undefined)
  const parts = {
    partition,
    index: 0,
    source: {
      lastPosition: () => Effect.suspend(() => world.last),
      positionBefore: () => Effect.sync(() => world.agedTo),
      trim: (_: unknown, upTo: number) => Effect.sync(() => void trimmed.push(upTo))
    },
    historyKeptMs,
    failOnDataLoss: true,
    ownClock: clock(),
    outgoingClock: clock(),
    outgoingIdleAfterMs: undefined,
    post: () => {
      world.told += 1
    }
  } as unknown as RunnerParts
  return { world, runner: new Runner(parts, 0) }
}

const look = (runner: Runner) => runner.idle({ atOnce: false, lazily: true })

/** Looks once a second for so long. */
const lookFor = Effect.fnUntraced(function* (runner: Runner, ms: number) {
  for (let passed = 0; passed < ms; passed += 1_000) {
    yield* TestClock.adjust(1_000)
    yield* look(runner)
  }
})

const underClock = (run: Effect.Effect<void, KeyfoldError>): Promise<void> => Effect.runPromise(Effect.provide(run, TestClock.layer()))

test("P23 an input is idle when its leader has said for long enough that nothing is behind the position", () =>
  underClock(
    Effect.gen(function* () {
      const { world, runner } = worldOf(false)
      yield* look(runner)
      yield* lookFor(runner, idleAfterMs)
      expect(world.idle).toEqual([false])
      yield* lookFor(runner, 1_000)
      expect(world.idle).toEqual([true])
    })
  ))

test("P23 an outage is no idleness, however long: silence counts from the first answer behind it", () =>
  underClock(
    Effect.gen(function* () {
      const { world, runner } = worldOf(false)
      yield* look(runner)
      yield* lookFor(runner, idleAfterMs / 2)
      world.last = away
      yield* lookFor(runner, 10 * idleAfterMs)
      expect(world.idle).toEqual([false])
      world.last = Effect.succeed(5)
      yield* lookFor(runner, idleAfterMs)
      expect(world.idle).toEqual([false])
      yield* lookFor(runner, 3_000)
      expect(world.idle).toEqual([true])
    })
  ))

test("P23 records that are there and not read yet are no idleness", () =>
  underClock(
    Effect.gen(function* () {
      const { world, runner } = worldOf(false)
      world.last = Effect.succeed(6)
      yield* look(runner)
      yield* lookFor(runner, 10 * idleAfterMs)
      expect(world.idle).toEqual([false])
    })
  ))

test("P26 rows of an internal topic stay until both they and the position behind them are old", () =>
  underClock(
    Effect.gen(function* () {
      const { world, runner } = worldOf(true)
      world.position.position = 100
      world.agedTo = 90
      yield* lookFor(runner, historyKeptMs - 1_000)
      expect(world.trimmed, "what the journal had when it was taken over may have come there a moment before").toEqual([])
      world.position.position = 200
      yield* lookFor(runner, historyKeptMs / 5)
      expect(Math.max(...world.trimmed), "rows that are young themselves stay").toBe(90)
      world.agedTo = 1_000
      yield* lookFor(runner, historyKeptMs / 5)
      expect(Math.max(...world.trimmed), "the newest position is young").toBe(100)
      yield* lookFor(runner, historyKeptMs)
      expect(Math.max(...world.trimmed)).toBe(200)
    })
  ))

test("others are told when what was committed is out, also while nothing else happens", async () => {
  const { world, runner } = worldOf(false)
  await Effect.runPromise(runner.resting(Effect.void))
  expect(world.told).toBe(0)
  world.settled = () => undefined
  const resting = Effect.runFork(runner.resting(Effect.never))
  world.settled()
  expect(world.told).toBe(1)
  await Effect.runPromise(Fiber.interrupt(resting))
  expect(world.settled, "nobody waits any more").toBe(undefined)
})
