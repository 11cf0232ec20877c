// Goal: every ownership adapter keeps the laws of its port (src/partition/ownership.ts).
// Method: one suite, run on each adapter with a store of its own (R2).
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { emptyOutbox, type JournalId, type TurnRecord } from "../../src/model/turn.ts"
import { codeOf, type Law, runLaws } from "./stores.ts"

const id: JournalId = { query: "q", stage: "s", partition: 0 }
const turn: TurnRecord = { revision: 1, progress: "p", changes: [], outbox: emptyOutbox }

const laws: Readonly<Record<string, Law>> = {
  "L1 every acquire gives a larger epoch, also after a restart": Effect.fnUntraced(function* (adapter) {
    const epochs: number[] = []
    for (let round = 0; round < 3; round++) epochs.push((yield* Effect.scoped(adapter.ownership.acquire(id))).epoch)
    const again = yield* adapter.reopen
    epochs.push((yield* again.ownership.acquire(id)).epoch)
    expect(epochs).toEqual([...new Set(epochs)].sort((left, right) => left - right))
  }),
  "L1 the owner is of the journal that was asked for": Effect.fnUntraced(function* (adapter) {
    expect(yield* adapter.ownership.acquire(id)).toMatchObject(id)
  }),
  "L2 an acquire alone fences the older owner": Effect.fnUntraced(function* (adapter) {
    const older = yield* Effect.scoped(adapter.ownership.acquire(id))
    yield* adapter.journal.open(older, "f")
    yield* adapter.ownership.acquire(id)
    expect(yield* codeOf(adapter.journal.commit(older, turn))).toBe("fenced")
  }),
  "L2 the newest owner commits": Effect.fnUntraced(function* (adapter) {
    yield* Effect.scoped(adapter.ownership.acquire(id))
    const newest = yield* adapter.ownership.acquire(id)
    yield* adapter.journal.open(newest, "f")
    yield* adapter.journal.commit(newest, turn)
  }),
  "L3 a journal that is owned is not given a second time, and its owner goes on": Effect.fnUntraced(function* (adapter) {
    const owner = yield* adapter.ownership.acquire(id)
    expect(yield* codeOf(adapter.ownership.acquire(id))).toBe("directory-in-use")
    yield* adapter.journal.open(owner, "f")
    yield* adapter.journal.commit(owner, turn)
  }),
  "L3 of many who ask at once, one gets it": Effect.fnUntraced(function* (adapter) {
    const codes = yield* Effect.all(
      Array.from({ length: 8 }, () => codeOf(adapter.ownership.acquire(id))),
      { concurrency: "unbounded" }
    )
    expect(codes.filter((code) => code === "success")).toHaveLength(1)
  }),
  "L3 other journals can be had": Effect.fnUntraced(function* (adapter) {
    yield* adapter.ownership.acquire(id)
    yield* adapter.ownership.acquire({ ...id, partition: 1 })
    yield* adapter.ownership.acquire({ ...id, stage: "t" })
    yield* adapter.ownership.acquire({ ...id, query: "r" })
  }),
  "L4 after its scope has closed the journal can be had at once": Effect.fnUntraced(function* (adapter) {
    for (let round = 0; round < 3; round++) yield* Effect.scoped(adapter.ownership.acquire(id))
  }),
  "L4 who was refused does not free it": Effect.fnUntraced(function* (adapter) {
    yield* adapter.ownership.acquire(id)
    for (let round = 0; round < 2; round++) expect(yield* Effect.scoped(codeOf(adapter.ownership.acquire(id)))).toBe("directory-in-use")
  })
}

runLaws("ownership", laws)
