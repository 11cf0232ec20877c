// Goal: every journal adapter keeps the laws of its port (src/journal/journal.ts).
// Method: one suite, run on each adapter with a store of its own (R2). What is ordered and changed often is compared with a plain Map over
// random turns; rerun with SEED=<n>.
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import fc from "fast-check"
import { expect } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { compareKeyTexts } from "../../src/model/key.ts"
import { emptyOutbox, type JournalId, type JournalOwner, type KeyImage, type Outbox, type TurnRecord } from "../../src/model/turn.ts"
import { type Adapter, bytes, codeOf, type Law, record, runLaws, textOf, textsOf } from "./stores.ts"

const seed = Number(process.env.SEED ?? 1)
const id: JournalId = { query: "sessionize", stage: "stage-1", partition: 3 }
const codec = "json/1"

const image = (keyText: string, state: string | undefined, timeoutAt?: number): KeyImage => ({
  keyText,
  bytes: state === undefined ? undefined : bytes(state),
  timeoutAt
})

const turn = (revision: number, changes: readonly KeyImage[], outbox: Partial<Outbox> = {}): TurnRecord => ({
  revision,
  progress: `progress ${revision}`,
  changes,
  outbox: { ...emptyOutbox, ...outbox }
})

const delivery = (sink: string, ...values: readonly string[]) => ({ sink, values: values.map(bytes) })

/** A new owner of a journal, who has opened it. */
const own = (adapter: Adapter, of: JournalId = id): Effect.Effect<JournalOwner, KeyfoldError, Scope.Scope> =>
  Effect.tap(adapter.ownership.acquire(of), (owner) => adapter.journal.open(owner, codec))

/** An owner who is not the newest any more, and the newest one. */
const ownTwice = (adapter: Adapter) =>
  Effect.gen(function* () {
    const older = yield* Effect.scoped(own(adapter))
    return { older, newest: yield* own(adapter) }
  })

/** All that a journal says about its keys and turns, in a form that compares. */
const contents = (adapter: Adapter, owner: JournalOwner) =>
  Effect.all({
    head: adapter.journal.open(owner, codec),
    keys: Effect.map(adapter.journal.keys(owner), (images) => images.map(readable)),
    timeouts: adapter.journal.timeouts(owner)
  })

const readable = (image: KeyImage | undefined) => image && { key: image.keyText, state: textOf(image.bytes), timeoutAt: image.timeoutAt }

const laws: Readonly<Record<string, Law>> = {
  "J1 a turn commits states, timeouts, progress and outputs together": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", { partitions: 2, partitionsDefault: 16 })
    const owner = yield* own(adapter)
    const left = yield* adapter.journal.commit(
      owner,
      turn(1, [image("a", "1", 50), image("b", "2")], { records: [record("out", 0, "x", 1), record("out", 1, "y", 1)] })
    )
    yield* adapter.sink.publish(left.records)
    expect(yield* contents(adapter, owner)).toMatchObject({
      head: { revision: 1, progress: "progress 1" },
      keys: [
        { key: "a", state: "1", timeoutAt: 50 },
        { key: "b", state: "2" }
      ],
      timeouts: { first: 50, last: 50 }
    })
    expect(yield* textsOf(adapter, "out", 0)).toEqual(["x"])
    expect(yield* textsOf(adapter, "out", 1)).toEqual(["y"])
  }),
  "J1 a turn that cannot commit leaves nothing": Effect.fnUntraced(function* (adapter) {
    if (!adapter.recordsWithCommit) return // such a commit has nothing in the turn to refuse; what it does on a full server is a live test
    yield* adapter.source.open("out", { partitions: 2, partitionsDefault: 16 })
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "1", 50)]))
    const before = yield* contents(adapter, owner)
    const bad = turn(2, [image("a", undefined), image("b", "2")], {
      records: [record("out", 0, "x", 1), record("out", 1, "y", 7)],
      deliveries: [delivery("mail", "m")]
    })
    expect(yield* codeOf(adapter.journal.commit(owner, bad))).toBe("output-fate-unknown")
    expect(yield* contents(adapter, owner)).toEqual(before)
    expect(yield* textsOf(adapter, "out", 0)).toEqual([])
    yield* adapter.journal.commit(owner, turn(2, [image("b", "2")]))
    expect((yield* adapter.journal.keys(owner)).map((image) => image.keyText)).toEqual(["a", "b"])
  }),
  "J1 turns of many partitions commit at once": Effect.fnUntraced(function* (adapter) {
    const owners = yield* Effect.all(Array.from({ length: 16 }, (_, partition) => own(adapter, { ...id, partition })))
    for (const revision of [1, 2, 3]) {
      yield* Effect.all(
        owners.map((owner) => adapter.journal.commit(owner, turn(revision, [image("k", `${owner.partition}.${revision}`)]))),
        { concurrency: "unbounded" }
      )
    }
    for (const owner of owners) {
      expect((yield* adapter.journal.load(owner, ["k"])).map(readable)).toEqual([{ key: "k", state: `${owner.partition}.3` }])
    }
  }),
  "J2 a commit by an older owner is fenced and writes nothing": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", { partitions: 1, partitionsDefault: 16 })
    const { older, newest } = yield* ownTwice(adapter)
    const stale = turn(1, [image("a", "stale", 1)], { records: [record("out", 0, "x", 1)], deliveries: [delivery("mail", "m")] })
    expect(yield* codeOf(adapter.journal.commit(older, stale))).toBe("fenced")
    expect(yield* contents(adapter, newest)).toEqual({
      head: { revision: 0, progress: undefined, unpublished: [] },
      keys: [],
      timeouts: undefined
    })
    expect(yield* textsOf(adapter, "out", 0)).toEqual([])
  }),
  "J2 an older owner is fenced also with a turn that the newest has committed": Effect.fnUntraced(function* (adapter) {
    const { older, newest } = yield* ownTwice(adapter)
    yield* adapter.journal.commit(newest, turn(1, [image("a", "1")]))
    expect(yield* codeOf(adapter.journal.commit(older, turn(1, [image("a", "1")])))).toBe("fenced")
    expect(yield* codeOf(adapter.journal.commit(older, turn(2, [image("a", "2")])))).toBe("fenced")
    expect((yield* adapter.journal.load(newest, ["a"])).map(readable)).toEqual([{ key: "a", state: "1" }])
  }),
  "J2 an older owner confirms nothing": Effect.fnUntraced(function* (adapter) {
    const { older, newest } = yield* ownTwice(adapter)
    yield* adapter.journal.commit(newest, turn(1, [], { deliveries: [delivery("mail", "m")] }))
    expect(yield* codeOf(adapter.journal.confirm(older, 1))).toBe("fenced")
    expect((yield* adapter.journal.open(newest, codec)).unpublished).toHaveLength(1)
  }),
  "J3 committing a revision twice commits it once": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", { partitions: 1, partitionsDefault: 16 })
    const owner = yield* own(adapter)
    const committed = turn(1, [image("a", "1", 5)], {
      records: [record("out", 0, "x", 1), record("out", 0, "y")],
      deliveries: [delivery("mail", "m")]
    })
    const left = yield* adapter.journal.commit(owner, committed)
    const before = yield* contents(adapter, owner)
    expect(yield* adapter.journal.commit(owner, committed)).toEqual(left)
    expect(yield* contents(adapter, owner)).toEqual(before)
    if (left.records.length === 0) expect(yield* textsOf(adapter, "out", 0)).toEqual(["x", "y"])
  }),
  "J3 a revision that was committed changes nothing, whatever it says": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "1")]))
    yield* adapter.journal.commit(owner, turn(1, [image("a", "2")]))
    expect((yield* adapter.journal.load(owner, ["a"])).map(readable)).toEqual([{ key: "a", state: "1" }])
  }),
  "J3 a revision that does not follow is a mistake of ours and crashes": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "1")]))
    for (const revision of [0, 3]) {
      const defect = yield* adapter.journal.commit(owner, turn(revision, [image("a", "x")])).pipe(
        Effect.as(undefined),
        Effect.catchDefect((thrown) => Effect.succeed(thrown))
      )
      expect(defect).toMatchObject({ _tag: "InvariantError" })
    }
    expect((yield* adapter.journal.load(owner, ["a"])).map(readable)).toEqual([{ key: "a", state: "1" }])
  }),
  "J4 load answers key by key what the last commit left": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    expect(yield* adapter.journal.load(owner, ["a", "b"])).toEqual([undefined, undefined])
    yield* adapter.journal.commit(owner, turn(1, [image("a", "1", 9), image("b", ""), image("c", undefined, 0)]))
    yield* adapter.journal.commit(owner, turn(2, [image("a", "2"), image("b", undefined)]))
    const again = yield* adapter.reopen
    expect((yield* again.journal.load(owner, ["c", "a", "b", "a"])).map(readable)).toEqual([
      { key: "c", state: undefined, timeoutAt: 0 },
      { key: "a", state: "2", timeoutAt: undefined },
      undefined,
      { key: "a", state: "2", timeoutAt: undefined }
    ])
  }),
  "J4 empty state is a state": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "")]))
    expect((yield* adapter.journal.load(owner, ["a"])).map(readable)).toEqual([{ key: "a", state: "" }])
  }),
  "J4 any number may be a timeout": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    const times = [-1, 0, 0.5, 1_700_000_000_123, Number.MAX_SAFE_INTEGER, 1e300]
    yield* adapter.journal.commit(
      owner,
      turn(
        1,
        times.map((timeoutAt, index) => image(`k${index}`, undefined, timeoutAt))
      )
    )
    expect((yield* adapter.journal.keys(owner)).map((image) => image.timeoutAt)).toEqual(times)
    expect(yield* adapter.journal.timeouts(owner)).toEqual({ first: -1, last: 1e300 })
  }),
  "J4 the bytes that were committed stay, whatever is done with their arrays": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    const committed = image("a", "abc", 1)
    yield* adapter.journal.commit(owner, turn(1, [committed]))
    committed.bytes?.fill(0)
    const [loaded] = yield* adapter.journal.load(owner, ["a"])
    loaded?.bytes?.fill(0)
    const [due] = yield* adapter.journal.due(owner, { before: 2, countMax: 1 })
    due?.bytes?.fill(0)
    expect((yield* adapter.journal.keys(owner)).map(readable)).toEqual([{ key: "a", state: "abc", timeoutAt: 1 }])
  }),
  "J4 journals do not see each other": Effect.fnUntraced(function* (adapter) {
    const ids = [id, { ...id, partition: 4 }, { ...id, stage: "stage-2" }, { ...id, query: "other" }]
    const owners = yield* Effect.all(ids.map((of) => own(adapter, of)))
    for (const [index, owner] of owners.entries()) yield* adapter.journal.commit(owner, turn(1, [image("a", `${index}`, index)]))
    for (const [index, owner] of owners.entries()) {
      expect(yield* contents(adapter, owner)).toMatchObject({
        keys: [{ key: "a", state: `${index}`, timeoutAt: index }],
        timeouts: { first: index, last: index }
      })
    }
  }),
  "J4 J5 J6 random turns leave what a plain Map holds": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    const model = new Map<string, KeyImage>()
    let revision = 0
    for (const changes of fc.sample(randomTurns, { seed, numRuns: 60 })) {
      revision += 1
      yield* adapter.journal.commit(owner, turn(revision, changes))
      for (const change of changes) {
        if (change.bytes === undefined && change.timeoutAt === undefined) model.delete(change.keyText)
        else model.set(change.keyText, change)
      }
      yield* compareWithModel(adapter, owner, model)
    }
  }),
  "J5 due is strictly before the bound, by time and then key bytes": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    // In UTF-16 the emoji sorts before U+FFFD, in UTF-8 after it; the NUL of composite keys sorts first.
    const keys = ["\u0000[1,2]", "\u0000[1]", "a", "b", "\ufffd", "\ud83d\ude00"]
    yield* adapter.journal.commit(
      owner,
      turn(1, [...keys.toReversed().map((key) => image(key, "s", 20)), image("z", undefined, 10), image("never", "s")])
    )
    const due = (before: number, countMax: number) =>
      Effect.map(adapter.journal.due(owner, { before, countMax }), (images) => images.map((image) => image.keyText))
    expect(yield* due(10, 9)).toEqual([])
    expect(yield* due(20, 9)).toEqual(["z"])
    expect(yield* due(21, 9)).toEqual(["z", ...keys])
    expect(yield* due(21, 3)).toEqual(["z", ...keys.slice(0, 2)])
    expect(yield* due(Number.POSITIVE_INFINITY, 9)).toEqual(["z", ...keys])
  }),
  "J5 timeouts are due at their newest time only": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "s", 10), image("b", "s", 30)]))
    yield* adapter.journal.commit(owner, turn(2, [image("a", "s", 50)]))
    yield* adapter.journal.commit(owner, turn(3, [image("a", "s", 10)]))
    yield* adapter.journal.commit(owner, turn(4, [image("b", "s")]))
    expect((yield* adapter.journal.due(owner, { before: 100, countMax: 9 })).map((image) => image.keyText)).toEqual(["a"])
    expect(yield* adapter.journal.timeouts(owner)).toEqual({ first: 10, last: 10 })
  }),
  "J6 a key without state and timeout leaves nothing behind": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "1", 5), image("b", "1"), image("c", undefined, 5), image("d", undefined)]))
    yield* adapter.journal.commit(
      owner,
      turn(
        2,
        ["a", "b", "c", "d"].map((key) => image(key, undefined))
      )
    )
    const again = yield* adapter.reopen
    expect(yield* contents(again, owner)).toMatchObject({ keys: [], timeouts: undefined })
    expect(yield* again.journal.due(owner, { before: 100, countMax: 9 })).toEqual([])
  }),
  "J7 a new journal opens at revision 0 with nothing": Effect.fnUntraced(function* (adapter) {
    const owner = yield* adapter.ownership.acquire(id)
    expect(yield* adapter.journal.open(owner, codec)).toEqual({ revision: 0, progress: undefined, unpublished: [] })
  }),
  "J7 open answers the last commit, also to the next owner": Effect.fnUntraced(function* (adapter) {
    yield* Effect.scoped(
      Effect.gen(function* () {
        const owner = yield* own(adapter)
        yield* adapter.journal.commit(owner, turn(1, []))
        yield* adapter.journal.commit(owner, turn(2, []))
      })
    )
    const again = yield* adapter.reopen
    const owner = yield* again.ownership.acquire(id)
    expect(yield* again.journal.open(owner, codec)).toEqual({ revision: 2, progress: "progress 2", unpublished: [] })
    yield* again.journal.commit(owner, turn(3, []))
  }),
  "J7 what is not confirmed comes back, oldest first, until it is": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    const outboxes = [[delivery("mail", "a", ""), delivery("log", "b")], [], [delivery("mail", "c")], [delivery("log", "d")]]
    for (const [index, deliveries] of outboxes.entries()) {
      expect((yield* adapter.journal.commit(owner, turn(index + 1, [], { deliveries }))).deliveries).toEqual(deliveries)
    }
    const again = yield* adapter.reopen
    const waiting = Effect.map(again.journal.open(owner, codec), ({ unpublished }) =>
      unpublished.map(({ revision, outbox }) => [revision, outbox.records, outbox.deliveries])
    )
    expect(yield* waiting).toEqual([
      [1, [], outboxes[0]],
      [3, [], outboxes[2]],
      [4, [], outboxes[3]]
    ])
    yield* again.journal.confirm(owner, 3)
    expect(yield* waiting).toEqual([[4, [], outboxes[3]]])
    yield* again.journal.confirm(owner, 4)
    expect(yield* waiting).toEqual([])
  }),
  "J7 a commit's records can be read, or come back until they are confirmed": Effect.fnUntraced(function* (adapter) {
    yield* adapter.source.open("out", { partitions: 1, partitionsDefault: 16 })
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [], { records: [record("out", 0, "x", 1)] }))
    const again = yield* adapter.reopen
    const { unpublished } = yield* again.journal.open(owner, codec)
    const pending = unpublished.flatMap(({ outbox }) => outbox.records.map(({ payload }) => textOf(payload)))
    expect([...(yield* textsOf(again, "out", 0)), ...pending]).toEqual(["x"])
  }),
  "J8 state of another codec is refused, naming both, and stays": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "1")]))
    const again = yield* adapter.reopen
    const error = yield* Effect.flip(again.journal.open(owner, "avro/9")).pipe(Effect.catch(() => Effect.die("J8: it was opened")))
    expect(error).toMatchObject({ code: "schema-incompatible" })
    expect(error.message).toContain("json/1")
    expect(error.message).toContain("avro/9")
    expect(yield* again.journal.open(owner, codec)).toMatchObject({ revision: 1 })
  }),
  "J8 a codec that also reads the older one is let in, and from then on none that does not read both": Effect.fnUntraced(
    function* (adapter) {
      const owner = yield* own(adapter)
      yield* adapter.journal.open(owner, "avro/1")
      yield* adapter.journal.commit(owner, turn(1, [image("a", "1"), image("b", "1")]))
      yield* adapter.journal.open(owner, "avro/2 avro/1")
      yield* adapter.journal.commit(owner, turn(2, [image("a", "2")]))
      const again = yield* adapter.reopen
      for (const lacking of ["avro/1", "avro/2", "avro/3 avro/2"])
        expect(yield* codeOf(again.journal.open(owner, lacking))).toBe("schema-incompatible")
      expect(yield* again.journal.open(owner, "avro/3 avro/1 avro/2")).toMatchObject({ revision: 2 })
    }
  ),
  "J8 another codec is welcome where no state is stored": Effect.fnUntraced(function* (adapter) {
    const owner = yield* own(adapter)
    yield* adapter.journal.open(owner, "avro/9")
    yield* adapter.journal.open(owner, codec)
    yield* adapter.journal.commit(owner, turn(1, [image("a", "1", 5)]))
    yield* adapter.journal.commit(owner, turn(2, [image("a", undefined, 5)]))
    yield* adapter.journal.open(owner, "avro/9")
    yield* adapter.journal.commit(owner, turn(3, [image("a", "avro")]))
    expect(yield* codeOf(adapter.journal.open(owner, codec))).toBe("schema-incompatible")
  })
}

const randomTurns = fc.array(
  fc.record({
    keyText: fc.constantFrom("", "a", "b", "aa", "\u0000[1]", "\u0000{}", "\ufffd", "\ud83d\ude00", "é", "k1", "k2", "k3"),
    bytes: fc.option(fc.uint8Array({ maxLength: 3 }), { nil: undefined }),
    timeoutAt: fc.option(fc.integer({ min: 0, max: 9 }), { nil: undefined })
  }),
  { maxLength: 8 }
)

const compareWithModel = Effect.fnUntraced(function* (adapter: Adapter, owner: JournalOwner, model: ReadonlyMap<string, KeyImage>) {
  const images = [...model.values()].sort((left, right) => compareKeyTexts(left.keyText, right.keyText))
  const armed = images
    .filter((image) => image.timeoutAt !== undefined)
    .sort((left, right) => (left.timeoutAt ?? 0) - (right.timeoutAt ?? 0))
  expect((yield* adapter.journal.keys(owner)).map(readable)).toEqual(images.map(readable))
  for (const before of [0, 3, 7, 10]) {
    const due = armed.filter((image) => (image.timeoutAt ?? 0) < before).slice(0, 4)
    expect((yield* adapter.journal.due(owner, { before, countMax: 4 })).map(readable)).toEqual(due.map(readable))
  }
  const span = armed.length === 0 ? undefined : { first: armed[0]?.timeoutAt, last: armed.at(-1)?.timeoutAt }
  expect(yield* adapter.journal.timeouts(owner)).toEqual(span)
})

runLaws("journal", laws)
