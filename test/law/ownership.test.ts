// Goal: every ownership adapter keeps the laws of its port (src/partition/ownership.ts).
// Method: one suite, run on each adapter with a store of its own (R2).
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { emptyOutbox, type JournalId, type TurnRecord } from "../../src/model/turn.ts"
import { monotonicMs } from "../../src/storage/monotonic.ts"
import { type Adapter, codeOf, type Law, runLaws } from "./stores.ts"

const id: JournalId = { query: "q", stage: "s", partition: 0 }
const turn: TurnRecord = { revision: 1, progress: "p", changes: [], outbox: emptyOutbox }

/** What is owned by somebody may be had later where there are leases. */
const inUse = ({ leases }: Adapter): string => (leases === undefined ? "directory-in-use" : "fenced")

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
    const older = yield* Effect.scoped(Effect.tap(adapter.ownership.acquire(id), (owner) => adapter.journal.open(owner, "f")))
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
    expect(yield* codeOf(adapter.ownership.acquire(id))).toBe(inUse(adapter))
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
    for (let round = 0; round < 2; round++) expect(yield* Effect.scoped(codeOf(adapter.ownership.acquire(id)))).toBe(inUse(adapter))
  })
}

/** Of those who own for the length of a lease; several processes take part. */
const leaseLaws = (run: (adapter: Adapter, leases: Leases) => ReturnType<Law>): Law => {
  return (adapter) => (adapter.leases === undefined ? Effect.void : run(adapter, adapter.leases))
}

const lawsOfLeases: Readonly<Record<string, Law>> = {
  "L3 what another process owns is refused, saying who has it and for how long": leaseLaws(
    Effect.fnUntraced(function* (adapter, leases) {
      const owner = yield* adapter.ownership.acquire(id)
      const other = yield* leases.other
      const error = yield* Effect.flip(other.ownership.acquire(id)).pipe(Effect.catch(() => Effect.die("L3: it was given twice")))
      expect(error.code).toBe("fenced")
      expect(error.message).toMatch(/the worker worker has it, and its lease still runs for \d+ ms/)
      expect(Number(/for (\d+) ms/.exec(error.message)?.[1])).toBeLessThanOrEqual(leases.leaseMs)
      yield* adapter.journal.open(owner, "f")
      yield* adapter.journal.commit(owner, turn)
    })
  ),
  "L3 a lease is prolonged for as long as its owner lives": leaseLaws(
    Effect.fnUntraced(function* (adapter, leases) {
      yield* adapter.ownership.acquire(id)
      const other = yield* leases.other
      const end = (yield* monotonicMs) + 2.5 * leases.leaseMs
      while ((yield* monotonicMs) < end) {
        expect(yield* Effect.scoped(codeOf(other.ownership.acquire(id)))).toBe("fenced")
        yield* Effect.sleep(20)
      }
    })
  ),
  "L3 L2 a lease that has run out is given to the next, with a larger epoch, and its owner is fenced when it comes back": leaseLaws(
    Effect.fnUntraced(function* (adapter, leases) {
      const owner = yield* adapter.ownership.acquire(id)
      yield* adapter.journal.open(owner, "f")
      const before = yield* monotonicMs
      leases.cut(true)
      const other = yield* leases.other
      const next = yield* eventually(other.ownership.acquire(id))
      // The owner's last prolongation was at most a round ago.
      expect((yield* monotonicMs) - before).toBeGreaterThan(leases.leaseMs / 4)
      expect(next.epoch).toBeGreaterThan(owner.epoch)
      leases.cut(false)
      expect(yield* codeOf(adapter.journal.commit(owner, turn))).toBe("fenced")
      yield* other.journal.open(next, "f")
      expect(yield* other.journal.commit(next, turn)).toEqual(emptyOutbox)
    })
  ),
  "L3 of many processes that ask at once, one gets it": leaseLaws(
    Effect.fnUntraced(function* (_, leases) {
      const processes = yield* Effect.all(Array.from({ length: 16 }, () => leases.other))
      const asked = processes.map((one) => codeOf(one.ownership.acquire(id)))
      const codes = yield* Effect.all(asked, { concurrency: "unbounded" })
      expect(codes.toSorted()).toEqual([...Array.from({ length: 15 }, () => "fenced"), "success"])
    })
  ),
  "L4 another process can have what was given back at once, and not what was left with a failure": leaseLaws(
    Effect.fnUntraced(function* (adapter, leases) {
      const other = yield* leases.other
      yield* Effect.scoped(adapter.ownership.acquire(id))
      yield* Effect.scoped(other.ownership.acquire(id))
      yield* Effect.ignore(Effect.scoped(Effect.andThen(adapter.ownership.acquire(id), Effect.fail("a fault"))))
      expect(yield* codeOf(other.ownership.acquire(id))).toBe("fenced")
      yield* eventually(other.ownership.acquire(id))
    })
  ),
  "L6 an owner is confirmed until another has acquired": Effect.fnUntraced(function* (adapter) {
    const first = yield* Effect.scoped(
      Effect.gen(function* () {
        const owner = yield* adapter.ownership.acquire(id)
        expect(yield* codeOf(adapter.ownership.confirm(owner))).toBe("success")
        return owner
      })
    )
    const second = yield* adapter.ownership.acquire(id)
    expect(yield* codeOf(adapter.ownership.confirm(first))).toBe("fenced")
    expect(yield* codeOf(adapter.ownership.confirm(second))).toBe("success")
  }),
  "L6 an owner that was replaced without its knowing is not confirmed": leaseLaws(
    Effect.fnUntraced(function* (adapter, leases) {
      const owner = yield* adapter.ownership.acquire(id)
      leases.cut(true)
      const other = yield* leases.other
      yield* eventually(other.ownership.acquire(id))
      leases.cut(false)
      expect(yield* codeOf(adapter.ownership.confirm(owner))).toBe("fenced")
    })
  ),
  "L4 a process has what it left with a failure at once again": leaseLaws(
    Effect.fnUntraced(function* (adapter) {
      yield* Effect.ignore(Effect.scoped(Effect.andThen(adapter.ownership.acquire(id), Effect.fail("a fault"))))
      yield* adapter.ownership.acquire(id)
    })
  ),
  "L5 an owner that reaches its server no more has lost before another has acquired, and its commits fail": leaseLaws(
    Effect.fnUntraced(function* (adapter, leases) {
      const owner = yield* adapter.ownership.acquire(id)
      yield* adapter.journal.open(owner, "f")
      const other = yield* leases.other
      const events: string[] = []
      const waiting = Effect.andThen(
        adapter.ownership.lost(owner),
        Effect.sync(() => events.push("lost"))
      )
      leases.cut(true)
      const refused = Effect.tap(codeOf(adapter.journal.commit(owner, turn)), (code) => Effect.sync(() => events.push(code)))
      const taken = Effect.andThen(
        eventually(other.ownership.acquire(id)),
        Effect.sync(() => events.push("taken"))
      )
      yield* Effect.all([waiting, refused, taken], { concurrency: "unbounded" })
      expect(events.toSorted()).toEqual(["fenced", "lost", "taken"])
      expect(events[2]).toBe("taken")
      expect(yield* codeOf(adapter.journal.commit(owner, turn))).toBe("fenced")
    })
  )
}

type Leases = NonNullable<Adapter["leases"]>

/** Tries until it is not refused any more. */
const eventually = <A, R>(acquire: Effect.Effect<A, KeyfoldError, R>): Effect.Effect<A, KeyfoldError, R> =>
  Effect.catch(acquire, (error) =>
    error.code === "fenced" ? Effect.andThen(Effect.sleep(5), () => eventually(acquire)) : Effect.fail(error)
  )

runLaws("ownership", { ...laws, ...lawsOfLeases })
