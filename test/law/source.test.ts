// Goal: every source adapter keeps the laws of its port (src/source/source.ts).
// Method: one suite, run on each adapter with a store of its own (R2).
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { expect } from "vitest"
import type { NewRecord } from "../../src/model/record.ts"
import type { Adapter, Law } from "./stores.ts"
import { bytes, codeOf, record, runLaws, textOf, textsOf } from "./stores.ts"

const clicks = { topic: "clicks", partition: 1 }
const all = { after: 0, countMax: 1_000, bytesMax: 1_000_000 }
const four = { partitions: 4, partitionsDefault: 16 }

/** Opens `clicks` and publishes these texts to its partition 1. */
const withClicks = (adapter: Adapter, ...texts: readonly string[]) =>
  Effect.andThen(adapter.source.open("clicks", four), adapter.sink.publish(texts.map((text) => record("clicks", 1, text))))

const laws: Readonly<Record<string, Law>> = {
  "I1 read answers what follows a position, in order and dense": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a", "b", "c", "d")
    const records = yield* adapter.source.read({ ...clicks, ...all, after: 1 })
    expect(records.map(({ topic, partition, position, index, payload }) => [topic, partition, position, index, textOf(payload)])).toEqual([
      ["clicks", 1, 2, 0, "b"],
      ["clicks", 1, 3, 0, "c"],
      ["clicks", 1, 4, 0, "d"]
    ])
  }),
  "I1 at the end there is nothing, in an empty partition too": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a", "b")
    expect(yield* adapter.source.read({ ...clicks, ...all, after: 2 })).toEqual([])
    expect(yield* adapter.source.read({ topic: "clicks", partition: 0, ...all })).toEqual([])
  }),
  "I1 a position beyond the end is a gap": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a", "b")
    expect(yield* codeOf(adapter.source.read({ ...clicks, ...all, after: 3 }))).toBe("source-gap")
    expect(yield* codeOf(adapter.source.read({ topic: "clicks", partition: 0, ...all, after: 1 }))).toBe("source-gap")
  }),
  "I1 records that are gone are a gap": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a", "b", "c", "d")
    yield* adapter.source.trim(clicks, 2)
    expect(yield* codeOf(adapter.source.read({ ...clicks, ...all, after: 1 }))).toBe("source-gap")
    expect((yield* adapter.source.read({ ...clicks, ...all, after: 2 })).map(({ position }) => position)).toEqual([3, 4])
  }),
  "I1 a record comes as it was published: payload, headers, time": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter)
    const headers = new Map([
      ["traceparent", "00-1"],
      ["__proto__", "\u0000"],
      ["2", "é\ud83d\ude00"],
      ["1", ""]
    ])
    const payload = new Uint8Array([0, 255, 1])
    const published: NewRecord = { ...clicks, publishedAt: 1_700_000_000_123, headers, payload, identity: undefined }
    yield* adapter.sink.publish([published, { ...published, headers: new Map(), payload: new Uint8Array(0) }])
    const [first, second] = yield* adapter.source.read({ ...clicks, ...all })
    expect([...(first?.headers ?? [])]).toEqual([...headers])
    expect(first).toMatchObject({ payload: new Uint8Array([0, 255, 1]) })
    if (adapter.stampsRecords === true) expect(Math.abs((first?.publishedAt ?? 0) - (yield* Clock.currentTimeMillis))).toBeLessThan(60_000)
    else expect(first?.publishedAt).toBe(1_700_000_000_123)
    expect(second).toMatchObject({ headers: new Map(), payload: new Uint8Array(0) })
  }),
  "I2 the same read answers the same, whatever was done with the bytes meanwhile": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("clicks", four)
    const published = record("clicks", 1, "abc")
    yield* adapter.sink.publish([published])
    published.payload.fill(0)
    const [read] = yield* adapter.source.read({ ...clicks, ...all })
    expect(textOf(read?.payload)).toBe("abc")
    read?.payload.fill(0)
    expect(yield* textsOf(adapter, "clicks", 1)).toEqual(["abc"])
  }),
  "I3 countMax bounds the records": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a", "b", "c")
    expect(yield* adapter.source.read({ ...clicks, ...all, countMax: 2 })).toHaveLength(2)
    expect(yield* adapter.source.read({ ...clicks, ...all, countMax: 3 })).toHaveLength(3)
  }),
  "I3 bytesMax bounds the payloads, but one record always comes": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "aaaa", "bb", "cc", "", "dddddddd", "e")
    const read = (after: number, bytesMax: number) =>
      Effect.map(adapter.source.read({ ...clicks, ...all, after, bytesMax }), (records) => records.map(({ payload }) => textOf(payload)))
    expect(yield* read(0, 8)).toEqual(["aaaa", "bb", "cc", ""])
    expect(yield* read(0, 7)).toEqual(["aaaa", "bb"])
    expect(yield* read(0, 1)).toEqual(["aaaa"])
    expect(yield* read(4, 1)).toEqual(["dddddddd"])
    expect(yield* read(4, 8)).toEqual(["dddddddd"])
    expect(yield* read(4, 9)).toEqual(["dddddddd", "e"])
  }),
  "I4 who opens a topic first creates it": Effect.fnUntraced(function* (adapter) {
    expect(yield* adapter.source.find("clicks")).toBeUndefined()
    const created = yield* adapter.source.open("clicks", four)
    expect(created).toMatchObject({ name: "clicks", partitions: 4 })
    expect(yield* adapter.source.find("clicks")).toMatchObject({ ...created })
    expect(yield* adapter.source.open("clicks", { partitions: undefined, partitionsDefault: 16 })).toEqual(created)
    expect(yield* adapter.source.open("late", { partitions: undefined, partitionsDefault: 1 })).toMatchObject({ partitions: 1 })
  }),
  "I4 the partition count never changes": Effect.fnUntraced(function* (adapter) {
    const created = yield* adapter.source.open("clicks", four)
    const again = yield* adapter.reopen
    expect(yield* codeOf(again.source.open("clicks", { ...four, partitions: 8 }))).toBe("topic-mismatch")
    expect(yield* again.source.open("clicks", four)).toEqual(created)
  }),
  "I4 of many who open a topic at once, all get the same": Effect.fnUntraced(function* (adapter) {
    const opens = Array.from({ length: 8 }, (_, index) =>
      adapter.source.open("clicks", { partitions: undefined, partitionsDefault: index + 1 })
    )
    const opened = yield* Effect.all(opens, { concurrency: "unbounded" })
    expect(new Set(opened.map(({ partitions, created }) => `${partitions} ${created}`)).size).toBe(1)
  }),
  "I5 arrival completes at once when there is something behind a position": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a")
    yield* adapter.source.arrival([
      { topic: "clicks", partition: 0, after: 0 },
      { ...clicks, after: 0 }
    ])
  }),
  "I5 arrival completes when a record comes, for each who waits": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a")
    const behind = [
      { topic: "clicks", partition: 0, after: 0 },
      { ...clicks, after: 1 }
    ]
    const waiting = yield* Effect.all([1, 2].map(() => Effect.forkChild(adapter.source.arrival(behind), { startImmediately: true })))
    yield* adapter.sink.publish([record("clicks", 1, "b")])
    for (const fiber of waiting) yield* Fiber.join(fiber)
  }),
  "I5 who stops waiting does not disturb who waits on": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter)
    const [first, second] = yield* Effect.all(
      [1, 2].map(() => Effect.forkChild(adapter.source.arrival([{ ...clicks, after: 0 }]), { startImmediately: true }))
    )
    if (first === undefined || second === undefined) throw new Error("two fibers")
    yield* Fiber.interrupt(first)
    yield* adapter.sink.publish([record("clicks", 1, "a")])
    yield* Fiber.join(second)
  }),
  "I5 arrival completes for a position beyond the end, so that read can refuse it": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a")
    yield* adapter.source.arrival([{ ...clicks, after: 7 }])
  }),
  "I5 a commit's records arrive too": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter)
    const owner = yield* adapter.ownership.acquire({ query: "q", stage: "s", partition: 0 })
    yield* adapter.journal.open(owner, "f")
    const waiting = yield* Effect.forkChild(adapter.source.arrival([{ ...clicks, after: 0 }]), { startImmediately: true })
    const left = yield* adapter.journal.commit(owner, {
      revision: 1,
      progress: "p",
      changes: [],
      outbox: { records: [record("clicks", 1, "a", 1)], deliveries: [] }
    })
    yield* adapter.sink.publish(left.records)
    yield* Fiber.join(waiting)
  }),
  "I6 trim removes up to a position and nothing behind it": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a", "b", "c")
    yield* adapter.source.trim(clicks, 1)
    yield* adapter.source.trim(clicks, 0)
    expect((yield* adapter.source.read({ ...clicks, ...all, after: 1 })).map(({ payload }) => textOf(payload))).toEqual(["b", "c"])
    expect(yield* adapter.source.lastPosition(clicks)).toBe(3)
  }),
  "I6 trim takes a backlog of any length": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("clicks", four)
    yield* adapter.sink.publish(Array.from({ length: 10_000 }, () => record("clicks", 1, "x")))
    yield* adapter.source.trim(clicks, 9_990)
    expect(yield* codeOf(adapter.source.read({ ...clicks, ...all, after: 9_989 }))).toBe("source-gap")
    expect(yield* adapter.source.read({ ...clicks, ...all, after: 9_990 })).toHaveLength(10)
  }),
  "I6 positions go on after everything was trimmed, also after a restart": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter, "a", "b", "c")
    yield* adapter.source.trim(clicks, 100)
    const again = yield* adapter.reopen
    expect(yield* again.source.lastPosition(clicks)).toBe(3)
    yield* again.sink.publish([record("clicks", 1, "d")])
    expect((yield* again.source.read({ ...clicks, ...all, after: 3 })).map(({ position }) => position)).toEqual([4])
  }),
  "I9 resumeAfter goes on behind what is gone, at the end of what is there": Effect.fnUntraced(function* (adapter) {
    yield* withClicks(adapter)
    expect(yield* adapter.source.resumeAfter(clicks, 0)).toBe(0)
    yield* adapter.sink.publish(["a", "b", "c", "d"].map((text) => record("clicks", 1, text)))
    expect(yield* adapter.source.resumeAfter(clicks, 2)).toBe(2)
    yield* adapter.source.trim(clicks, 2)
    for (const after of [0, 1, 2]) expect(yield* adapter.source.resumeAfter(clicks, after)).toBe(2)
    for (const after of [4, 9]) expect(yield* adapter.source.resumeAfter(clicks, after)).toBe(4)
  }),
  "positionBefore is the position before the first record published at or after a time": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("clicks", four)
    for (const publishedAt of [10, 30, 20, 40]) {
      yield* adapter.sink.publish([{ ...record("clicks", 1, "x"), publishedAt, payload: bytes("x") }])
      if (adapter.stampsRecords === true) yield* Effect.sleep(3)
    }
    yield* adapter.source.lastPosition(clicks)
    const times = (yield* adapter.source.read({ ...clicks, ...all })).map(({ publishedAt }) => publishedAt)
    if (adapter.stampsRecords !== true) expect(times).toEqual([10, 30, 20, 40])
    expect(times).toHaveLength(4)
    for (const timeMs of [0, ...times, ...times.map((time) => time + 1), Number.NEGATIVE_INFINITY]) {
      const index = times.findIndex((time) => time >= timeMs)
      expect(yield* adapter.source.positionBefore(clicks, timeMs)).toBe(index < 0 ? 4 : index)
    }
    expect(yield* adapter.source.positionBefore({ topic: "clicks", partition: 0 }, 5)).toBe(0)
  })
}

runLaws("source", laws)
