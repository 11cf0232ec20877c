// Goal: every sink adapter keeps the laws of its port (src/sink/sink.ts).
// Method: one suite, run on each adapter with a store of its own (R2); what was stored is read through the source.
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { codeOf, type Law, record, runLaws, textOf, textsOf } from "./stores.ts"

const three = { partitions: 3, partitionsDefault: 16 }
const out = (partition: number, text: string, number?: number) => record("out", partition, text, number)

const laws: Readonly<Record<string, Law>> = {
  "O1 records are stored per partition in the order given": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    yield* adapter.sink.publish([out(0, "a"), out(2, "b"), out(0, "c", 1), out(2, "d"), out(0, "e")])
    yield* adapter.sink.publish([out(0, "f")])
    expect(yield* textsOf(adapter, "out", 0)).toEqual(["a", "c", "e", "f"])
    expect(yield* textsOf(adapter, "out", 1)).toEqual([])
    expect(yield* textsOf(adapter, "out", 2)).toEqual(["b", "d"])
  }),
  "O1 many who publish at once do not mix up each other's order": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    const batches = Array.from({ length: 50 }, (_, batch) => [0, 1, 2, 3].map((index) => out(0, `${batch}.${index}`)))
    yield* Effect.all(
      batches.map((batch) => adapter.sink.publish(batch)),
      { concurrency: "unbounded" }
    )
    const texts = yield* textsOf(adapter, "out", 0)
    expect(texts).toHaveLength(200)
    for (let batch = 0; batch < 50; batch++) {
      const ours = texts.filter((text) => text?.startsWith(`${batch}.`))
      expect(ours).toEqual([0, 1, 2, 3].map((index) => `${batch}.${index}`))
    }
  }),
  "O2 what was published can be read, also after a restart": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    yield* adapter.sink.publish([out(1, "a"), out(1, "b", 1)])
    expect(yield* textsOf(adapter, "out", 1)).toEqual(["a", "b"])
    expect(yield* textsOf(yield* adapter.reopen, "out", 1)).toEqual(["a", "b"])
  }),
  "O3 publishing twice stores once": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    const records = [out(0, "a", 1), out(0, "b", 2), out(1, "c", 1)]
    yield* adapter.sink.publish(records)
    yield* adapter.sink.publish(records)
    const again = yield* adapter.reopen
    yield* again.sink.publish(records)
    expect(yield* textsOf(again, "out", 0)).toEqual(["a", "b"])
    expect(yield* textsOf(again, "out", 1)).toEqual(["c"])
  }),
  "O3 of a batch that was stored in part, the rest is stored": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    yield* adapter.sink.publish([out(0, "a", 1), out(0, "b", 2)])
    yield* adapter.sink.publish([out(0, "b", 2), out(0, "c", 3), out(0, "c", 3), out(0, "d", 4)])
    expect(yield* textsOf(adapter, "out", 0)).toEqual(["a", "b", "c", "d"])
  }),
  "O3 numbers count per writer and partition": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    const other = { ...out(0, "other", 1), identity: { writer: "v", number: 1 } }
    yield* adapter.sink.publish([out(0, "a", 1), other, out(1, "b", 1)])
    expect(yield* textsOf(adapter, "out", 0)).toEqual(["a", "other"])
    expect(yield* textsOf(adapter, "out", 1)).toEqual(["b"])
  }),
  "O3 records without a writer are always stored": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    yield* adapter.sink.publish([out(0, "a")])
    yield* adapter.sink.publish([out(0, "a")])
    expect(yield* textsOf(adapter, "out", 0)).toEqual(["a", "a"])
  }),
  "O4 a number beyond the next one fails and stores nothing": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    yield* adapter.sink.publish([out(0, "a", 1)])
    expect(yield* codeOf(adapter.sink.publish([out(1, "x", 1), out(0, "b", 2), out(0, "d", 4)]))).toBe("output-fate-unknown")
    expect(yield* codeOf(adapter.sink.publish([out(2, "x", 2)]))).toBe("output-fate-unknown")
    expect(yield* Effect.all([0, 1, 2].map((partition) => textsOf(adapter, "out", partition)))).toEqual([["a"], [], []])
    yield* adapter.sink.publish([out(0, "b", 2)])
    expect(yield* textsOf(adapter, "out", 0)).toEqual(["a", "b"])
  }),
  "O4 one who fails does not take others along": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    const publishes = [out(0, "x", 9), out(0, "a", 1)].map((record) => codeOf(adapter.sink.publish([record])))
    expect(yield* Effect.all(publishes, { concurrency: "unbounded" })).toEqual(["output-fate-unknown", "success"])
    expect(yield* textsOf(adapter, "out", 0)).toEqual(["a"])
  }),
  "O5 lastNumber is the last number stored of a writer in a partition": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", three)
    const last = (partition: number) => adapter.sink.lastNumber("w", { topic: "out", partition })
    expect(yield* last(0)).toBe(0)
    yield* adapter.sink.publish([out(0, "a", 1), out(0, "b", 2), out(1, "c", 1)])
    yield* adapter.source.trim({ topic: "out", partition: 0 }, 2)
    const again = yield* adapter.reopen
    expect(yield* again.sink.lastNumber("w", { topic: "out", partition: 0 })).toBe(2)
    expect(yield* again.sink.lastNumber("w", { topic: "out", partition: 1 })).toBe(1)
    expect(yield* again.sink.lastNumber("v", { topic: "out", partition: 0 })).toBe(0)
  }),
  "O5 lastNumber of a writer is known when everything of it was trimmed and others have written since": Effect.fnUntraced(
    function* (adapter) {
      yield* adapter.source.open("out", three)
      const others = [1, 2, 3, 4].map((number) => ({ ...out(0, `other ${number}`), identity: { writer: "v", number } }))
      yield* adapter.sink.publish([out(0, "a", 1), out(0, "b", 2), out(0, "foreign"), ...others])
      for (const upTo of [4, 6, 6]) yield* adapter.source.trim({ topic: "out", partition: 0 }, upTo)
      const again = yield* adapter.reopen
      expect(yield* again.sink.lastNumber("w", { topic: "out", partition: 0 })).toBe(2)
      expect(yield* again.sink.lastNumber("v", { topic: "out", partition: 0 })).toBe(4)
      yield* again.sink.publish([out(0, "b", 2), out(0, "c", 3), { ...out(0, "other 5"), identity: { writer: "v", number: 5 } }])
      const read = yield* again.source.read({ topic: "out", partition: 0, after: 6, countMax: 10, bytesMax: 1_000 })
      expect(read.map(({ payload }) => textOf(payload))).toEqual(["other 4", "c", "other 5"])
    }
  )
}

runLaws("sink", laws)
