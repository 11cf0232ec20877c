// Goal: a seat that is left gives its partition back before anybody may go on and close what that needs; and it can be left at any time.
// Method: a seat over a membership that says "ours" until the test says otherwise; giving back takes until the test lets it.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { expect, test } from "vitest"
import type { Member } from "../../src/partition/membership.ts"
import { Partition } from "../../src/partition/partition.ts"
import type { PartitionParts } from "../../src/partition/ports.ts"
import { freshProgress } from "../../src/partition/progress.ts"
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

/** In the middle of a sweep of due timeouts, and nothing that it puts out gets out. */
const sweeping = (): Partition => {
  const progress = { ...freshProgress([{ topic: "events", created: "then", upstreamCount: 0, position: 0 }]), followUp: true }
  return new Partition({
    query: "job",
    stage: { name: "stage-1", operators: [], inputs: [], hasWatermark: false, actor: undefined },
    partition: 0,
    inputs: [{ topic: "events", created: "then", upstreamCount: 0 }],
    outputs: [],
    journal: {
      open: () => Effect.succeed({ revision: 9, progress: JSON.stringify(progress), unpublished: [] }),
      timeouts: () => Effect.succeed(undefined)
    },
    publisher: { hasRoom: () => false, room: () => Effect.never, settled: () => Effect.void }
  } as unknown as PartitionParts)
}

// Symptom: a worker that NATS alone could not reach held a partition that was another's by then, when it had come upon it in the middle of a
// sweep. A turn that has begun is not interrupted: it is the sweep itself that must hear that the tenure is over.
test("P5, P15, P21: a sweep that waits for its outputs ends when the partition is to be given up, and it is given back", async () => {
  const partition = sweeping()
  let ours = true
  let ended: string | undefined
  const seat = new Seat({
    id: { query: "job", stage: "stage-1", partition: 0 },
    member: { ...member, isOurs: () => ours, changed: Effect.sleep(1) },
    take: () =>
      Effect.andThen(
        Effect.addFinalizer((exit) => Effect.sync(() => (ended = exit._tag))),
        Effect.as(partition.recover(0), { ...held, runner: { partition } as unknown as Runner })
      ),
    ends: Effect.succeed([]),
    isPassing: () => false
  })
  let begun = false
  const turn = Effect.andThen(
    Effect.sync(() => (begun = true)),
    partition.turn([], 0)
  )
  const run = Effect.gen(function* () {
    const keeping = yield* Effect.forkDetach(seat.keep)
    yield* seat.opened
    const performing = yield* Effect.forkDetach(
      seat.perform(
        () => Effect.uninterruptible(turn),
        () => true
      )
    )
    while (!begun) yield* Effect.sleep(1)
    yield* Effect.sleep(5)
    expect({ ended, performed: performing.pollUnsafe() }, "it waits").toEqual({ ended: undefined, performed: undefined })
    ours = false
    for (let waitedMs = 0; ended === undefined && waitedMs < 5_000; waitedMs += 5) yield* Effect.sleep(5)
    expect(ended, "given back").toBe("Success")
    yield* Fiber.join(performing)
    yield* Fiber.interrupt(keeping)
  })
  await Effect.runPromise(run)
})
