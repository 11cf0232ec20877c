// Goal: a seat that is left gives its partition back before anybody may go on and close what that needs.
// Method: a seat over a membership that always says "ours"; giving back takes until the test lets it.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { expect, test } from "vitest"
import type { Member } from "../../src/partition/membership.ts"
import type { Runner } from "../../src/partition/runner.ts"
import { type Held, Seat } from "../../src/partition/seat.ts"

const member = {
  isOurs: () => true,
  changed: Effect.never,
  news: () => new Map(),
  post: () => undefined,
  gone: () => undefined
} as unknown as Member

const held: Held = {
  runner: { partition: { settled: () => Effect.void } } as unknown as Runner,
  lost: Effect.never,
  confirmed: Effect.void,
  failed: Effect.never
}

// Symptom: a worker that was stopped under load left one of its partitions to its lease: nobody worked on it for seconds. `leave` ended when
// the runner was let go of, the query closed its connections, and what was just being released was cut off.
test("P21: leaving a seat ends when the partition has been given back, and not before", async () => {
  const released = Deferred.makeUnsafe<void>()
  let isGivingBack = false
  const seat = new Seat({
    id: { query: "job", stage: "stage-1", partition: 0 },
    member,
    take: () =>
      Effect.as(
        Effect.addFinalizer(() => {
          isGivingBack = true
          return Deferred.await(released)
        }),
        held
      ),
    ends: Effect.succeed([]),
    isPassing: () => false
  })
  const run = Effect.gen(function* () {
    yield* Effect.forkChild(seat.keep)
    yield* seat.opened
    let hasLeft = false
    const leaving = yield* Effect.forkChild(
      Effect.andThen(
        seat.leave(),
        Effect.sync(() => (hasLeft = true))
      )
    )
    while (!isGivingBack) yield* Effect.sleep(1)
    yield* Effect.sleep(20)
    expect(hasLeft, "left while it is being given back").toBe(false)
    yield* Deferred.succeed(released, undefined)
    yield* Fiber.join(leaving)
    expect(hasLeft).toBe(true)
  })
  await Effect.runPromise(Effect.scoped(Effect.ensuring(run, Deferred.succeed(released, undefined))))
})

test("P5, P21: a partition that cannot be recovered here, and is another's meanwhile, is let go of without being released", async () => {
  let ours = true
  let ended: string | undefined
  const seat = new Seat({
    id: { query: "job", stage: "stage-1", partition: 0 },
    member: { ...member, isOurs: () => ours, changed: Effect.sleep(1) },
    take: () =>
      Effect.andThen(
        Effect.addFinalizer((exit) => Effect.sync(() => (ended = exit._tag))),
        Effect.never
      ),
    ends: Effect.succeed([]),
    isPassing: ({ code }) => code === "fenced"
  })
  const run = Effect.gen(function* () {
    yield* Effect.forkChild(seat.keep)
    yield* Effect.sleep(5)
    expect(ended).toBe(undefined)
    ours = false
    yield* seat.opened
    while (ended === undefined) yield* Effect.sleep(1)
    expect(ended, "a success would release it").toBe("Failure")
    while (seat.trouble !== undefined) yield* Effect.sleep(1)
  })
  await Effect.runPromise(run)
})
