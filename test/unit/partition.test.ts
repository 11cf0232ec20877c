// Goal: what a partition does when it is taken over, and with which clock and records its turns run.
// Method: a real partition over neighbours of our own, which note what they are asked for.
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { noHeaders, type StoredRecord } from "../../src/model/record.ts"
import type { Outbox, TurnRecord } from "../../src/model/turn.ts"
import { Partition } from "../../src/partition/partition.ts"
import type { PartitionParts } from "../../src/partition/ports.ts"
import { freshProgress, type Progress } from "../../src/partition/progress.ts"

const results = { topic: "results", partition: 0 }
const fresh = freshProgress([{ topic: "events", created: "then", upstreamCount: 0, position: 0 }])
const output = (number: number) => ({
  ...results,
  publishedAt: 0,
  headers: noHeaders,
  payload: new Uint8Array(),
  identity: { writer: "w", number }
})
const outboxOf = (number: number): Outbox => ({ records: [output(number)], deliveries: [] })

interface World {
  readonly progress?: Partial<Progress>
  /** Outputs of committed turns that are not confirmed, by revision. */
  readonly unpublished?: readonly number[]
  /** The last output that the stream has when everything unconfirmed is out. */
  readonly stored?: number
  readonly acceptLoss?: boolean
  /** Nothing that is committed gets out. */
  readonly isStuck?: boolean
}

const partitionIn = ({ progress = {}, unpublished = [], stored = 0, acceptLoss = false, isStuck = false }: World) => {
  const asked: string[] = []
  const committed: TurnRecord[] = []
  const parts = {
    query: "job",
    stage: { name: "stage-1", operators: [], inputs: [], hasWatermark: true, actor: undefined },
    partition: 0,
    failOnDataLoss: true,
    acceptLoss,
    payloadBytesMax: 1_000,
    inputs: [
      {
        topic: "events",
        created: "then",
        upstreamCount: 0,
        intake: { take: () => ({ rows: [], bad: [], newestMs: Number.NaN, upstreamMs: new Map() }) }
      }
    ],
    outputs: [results],
    journal: {
      open: () =>
        Effect.succeed({
          revision: 9,
          progress: JSON.stringify({ ...fresh, ...progress }),
          unpublished: unpublished.map((revision) => ({ revision, outbox: outboxOf(revision) }))
        }),
      timeouts: () => Effect.succeed(undefined),
      commit: (turn: TurnRecord) =>
        Effect.sync(() => {
          committed.push(turn)
          return turn.outbox
        })
    },
    publisher: {
      publish: (revision: number) => Effect.sync(() => void asked.push(`publish ${revision}`)),
      settled: () => Effect.sync(() => void asked.push("settled")),
      hasRoom: () => !isStuck,
      room: () => Effect.never,
      lastNumber: () =>
        Effect.sync(() => {
          asked.push("look")
          return stored
        })
    },
    outgoing: { records: [], deliveries: [], results: [], bytes: 0, newestMs: Number.NaN, tooLarge: false, startTurn: () => undefined },
    residents: { evict: () => undefined, size: 0 },
    observer: { committed: () => undefined, skipped: () => undefined },
    trace: { begin: () => undefined, failed: () => undefined, calls: (_: unknown, heart: () => unknown) => heart() },
    breath: { run: (calls: () => unknown) => Effect.sync(calls) }
  } as unknown as PartitionParts
  return { partition: new Partition(parts), asked, committed }
}

const recovered = async (world: World) => {
  const found = partitionIn(world)
  await Effect.runPromise(found.partition.recover(1_000))
  return found
}

const refused = (world: World): Promise<KeyfoldError> => Effect.runPromise(Effect.flip(partitionIn(world).partition.recover(1_000)))

const recordOf = (position: number, number: number): StoredRecord => ({
  ...{ topic: "events", partition: 0, position, index: 0, publishedAt: 0, headers: noHeaders, payload: new Uint8Array() },
  identity: { writer: "upstream", number }
})

test("P5 what is unconfirmed is published again, in order, and is out before the outputs are looked at", async () => {
  const { asked } = await recovered({ progress: { numbers: { "results/0": 9 } }, unpublished: [8, 9], stored: 9 })
  expect(asked).toEqual(["publish 8", "publish 9", "settled", "look"])
})

test("P4 outputs beyond the journal stop the query, unless it was told to go on from them", async () => {
  const behind: World = { progress: { numbers: { "results/0": 3 } }, stored: 5 }
  const error = await refused(behind)
  expect({ code: error.code, message: error.message }).toMatchObject({
    code: "journal-behind-outputs",
    message: expect.stringMatching(/results\/0.*5.*only 3.*--accept-loss/)
  })
  const { partition } = await recovered({ ...behind, acceptLoss: true })
  expect(partition.progress.numbers).toEqual({ "results/0": 5 })
})

test("P4 a journal that knows of no outputs though there are some has lost them", async () => {
  expect((await refused({ stored: 1 })).code).toBe("journal-behind-outputs")
})

for (const stored of [0, 2]) {
  test(`P4 with ${stored} of 3 confirmed outputs left the query stops, whatever loss it accepts`, async () => {
    const error = await refused({ progress: { numbers: { "results/0": 3 } }, stored, acceptLoss: true })
    expect(error.code).toBe("output-fate-unknown")
  })
}

test("P6 the clock of a turn is never before the one that the journal has", async () => {
  const { partition, committed } = await recovered({ progress: { nowMs: 5_000, seen: [{}] } })
  await Effect.runPromise(partition.turn([[recordOf(1, 1)]], 1_000))
  await Effect.runPromise(partition.turn([[recordOf(2, 2)]], 7_000))
  expect(committed.map(({ progress }) => (JSON.parse(progress) as Progress).nowMs)).toEqual([5_000, 7_000])
})

test("P6, P17 an output that was read before is dropped; its position and what was seen are committed together", async () => {
  const { partition, committed } = await recovered({ progress: { seen: [{ upstream: 4 }] } })
  await Effect.runPromise(partition.turn([[recordOf(1, 4), recordOf(2, 5)]], 1_000))
  const { seen, positions } = JSON.parse(committed[0]?.progress ?? "{}") as Progress
  expect({ seen, position: positions[0]?.position }).toEqual({ seen: [{ upstream: 5 }], position: 2 })
  const gap = await Effect.runPromise(Effect.flip(partition.turn([[recordOf(3, 7)]], 1_000)))
  expect(gap.code).toBe("source-gap")
  expect(committed).toHaveLength(1)
})

test("P17 of a stream that was created anew, nothing has been seen; behind a gap in the same one, everything has", async () => {
  const seenAfter = async (created: string) => {
    const positions = [{ topic: "events", created, position: 9, publishedAt: null }]
    const { partition, committed } = await recovered({ progress: { positions, seen: [{ upstream: 500 }] } })
    await Effect.runPromise(partition.skipTo(0, 3))
    const after = JSON.parse(committed[0]?.progress ?? "{}") as Progress
    expect(after.positions).toEqual([{ topic: "events", created: "then", position: 3, publishedAt: null }])
    return after.seen
  }
  expect(await seenAfter("before then")).toEqual([{}])
  expect(await seenAfter("then")).toEqual([{ upstream: 500 }])
})

test("P15, P21 a sweep that waits for outputs ends with the tenure: nothing is read before it is through", async () => {
  const { partition, committed } = await recovered({ progress: { followUp: true, seen: [{}] }, isStuck: true })
  const turn = Effect.runFork(partition.turn([[recordOf(1, 1)]], 1_000))
  await Effect.runPromise(Effect.yieldNow)
  expect(turn.pollUnsafe()).toBe(undefined)
  await Effect.runPromise(Fiber.interrupt(turn))

  partition.over = Effect.void
  await Effect.runPromise(partition.turn([[recordOf(1, 1)]], 1_000))
  expect(committed).toEqual([])
  expect(partition.progress.positions[0]?.position).toBe(0)
})
