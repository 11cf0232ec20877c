// Goal: a schedule gives a partition up when it is to be given up, and says no more of it than is true.
// Method: seats and runners of our own, which do nothing but what the test is about.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { expect, test } from "vitest"
import type { Runner } from "../../src/partition/runner.ts"
import { runSchedule } from "../../src/partition/schedule.ts"
import type { Seat, Tenure } from "../../src/partition/seat.ts"

const runnerWith = (room: Effect.Effect<void>): Runner =>
  ({
    partition: { room: () => room, settled: () => Effect.void },
    lag: () => 0,
    close: () => Effect.succeed(false),
    step: () => Effect.as(Effect.interruptible(room), false),
    idle: () => Effect.succeed(false),
    wait: () => Effect.never
  }) as unknown as Runner

interface FakeSeat extends Pick<Seat, "ends" | "perform" | "reach" | "isElsewhereAt"> {
  readonly reached: readonly string[]
}

/** A seat that is held once, for as long as the tenure lasts. */
const seatWith = (runner: Runner, tenure: Tenure): FakeSeat => {
  const reached: string[] = []
  return {
    reached,
    ends: Effect.succeed([0]),
    perform: (task) => task(runner, tenure) as ReturnType<Seat["perform"]>,
    reach: (phase) => void reached.push(phase),
    isElsewhereAt: () => false
  }
}

const run = (seat: FakeSeat, kind: "continuous" | "available-now"): Promise<void> =>
  Effect.runPromise(
    runSchedule([{ name: "stage-1", internal: false, seats: [seat as unknown as Seat] }], { kind }, { close: true, stopped: () => false })
  )

// Symptom: a worker that NATS alone could not reach kept its partitions, and prolonged their leases, though they were another's by then. Cause:
// it waited for its outputs to get out before it looked whether the partition was still its own.
for (const kind of ["continuous", "available-now"] as const) {
  test(`P15, P21: ${kind}: a partition whose outputs do not get out is given up when it is to be given up`, async () => {
    const over = Deferred.makeUnsafe<void>()
    const tenure = { isOver: false, over: Deferred.await(over) }
    const running = run(seatWith(runnerWith(Effect.never), tenure), kind)
    tenure.isOver = true
    Deferred.doneUnsafe(over, Effect.void)
    await running
  })
}

test("a partition that is given up in the middle of a bounded run is not said to be through", async () => {
  // Symptom: a worker went on to the next stage though a partition that had just moved was not read to its end. Cause: the worker that gave
  // it up said so.
  const given = seatWith(runnerWith(Effect.void), { isOver: true, over: Effect.void })
  await run(given, "available-now")
  expect(given.reached).toEqual([])
  const kept = seatWith(runnerWith(Effect.void), { isOver: false, over: Effect.never })
  await run(kept, "available-now")
  expect(kept.reached).toEqual(["read", "rested", "closed"])
})

test("I6: a bounded run does not wait for the last messages of a foreign stream that were removed before they were read", async () => {
  const position = 3
  const runner: Runner = {
    ...runnerWith(Effect.void),
    lag: ([end = 0]: readonly number[]) => Math.max(0, end - position),
    wait: (over: Effect.Effect<void>) => over
  } as unknown as Runner
  const seat = seatWith(runner, { isOver: false, over: Effect.never })
  let asked = 0
  // The first answer is the end when the run begins; then comes an outage; then the messages are gone.
  const ends = Effect.suspend(() => {
    asked += 1
    return asked === 2 ? Effect.never : Effect.succeed([asked === 1 ? 5 : position])
  })
  await run({ ...seat, ends }, "available-now")
  expect(seat.reached).toEqual(["read", "rested", "closed"])
  expect(asked).toBe(3)
})
