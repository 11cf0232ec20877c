// Goal: an owner of a journal in Redis that is overtaken, doubted, or outrun by its own turns says so in the right way: what passes by itself
// is `fenced`, never damage; what was refused was not written; and nothing grows without a bound.
// Method: real Redis servers; another owner is played by changing `meta` behind the back of the one that is looked at, as if it had been
// stopped (SIGSTOP) for the length of a lease, because a process that runs notices by itself (L5).
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { checkpointChunk, checkpointEnd, commit } from "../../src/journal/scripts.ts"
import { emptyOutbox, type JournalId, type KeyImage, type TurnRecord } from "../../src/model/turn.ts"
import { journalKeys } from "../../src/storage/redis-fence.ts"
import { connectTo, type ProcessOptions, type RedisProcess, startProcess } from "../law/redis-process.ts"
import { bytes, codeOf, record, textOf } from "../law/stores.ts"
import { startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { redisVersions, running } from "../servers/versions.ts"

const id: JournalId = { query: "q", stage: "s", partition: 0 }
const codec = "json/1"
const never = { checkpointEveryMs: 600_000, historyKeptMs: 0 }
const always = { checkpointEveryMs: 1, historyKeptMs: 0 }
const keys = journalKeys("kf", id)

const image = (keyText: string, state: string | undefined, timeoutAt?: number): KeyImage => ({
  keyText,
  bytes: state === undefined ? undefined : bytes(state),
  timeoutAt
})

const turn = (revision: number, changes: readonly KeyImage[]): TurnRecord => ({ revision, progress: "{}", changes, outbox: emptyOutbox })

const own = ({ ownership, journal }: RedisProcess) => Effect.tap(ownership.acquire(id), (owner) => journal.open(owner, codec))

const until = (isSo: () => Promise<boolean> | boolean): Effect.Effect<void> =>
  Effect.promise(async () => {
    while (!(await isSo())) await new Promise((wake) => setTimeout(wake, 2))
  })

/** What fails an effect that must fail. */
const failureOf = <A, R>(effect: Effect.Effect<A, KeyfoldError, R>): Effect.Effect<KeyfoldError, never, R> =>
  Effect.flip(effect).pipe(Effect.catch(() => Effect.die("it did not fail")))

const versions = redisVersions().filter((version) => version !== running)

describe.each(versions)("redis %s", (version) => {
  let server: Server
  let client: Redis
  beforeAll(async () => {
    server = await startRedis({ version })
    client = new Redis(server.url)
  })
  afterAll(async () => {
    client.disconnect()
    await server.stop()
  })

  /** Each on a Redis that is empty. */
  const run = (body: () => Effect.Effect<void, KeyfoldError, Scope.Scope>): Promise<void> =>
    Effect.runPromise(
      Effect.scoped(
        Effect.andThen(
          Effect.promise(() => client.flushall()),
          Effect.suspend(body)
        )
      )
    )

  const start = (options: ProcessOptions = {}) => Effect.flatMap(connectTo(server.url), (connection) => startProcess(connection, options))

  /** Another worker can have the journal at once, and its owner has not noticed. */
  const expire = Effect.promise(() => client.hset(keys.meta, "lease", "0"))
  const isCheckpointed = (revision: number) => until(async () => (await client.hget(keys.meta, "snapshot")) === String(revision))

  test("P11 P2 a recovery that another owner has overtaken is fenced: the log that it trimmed is no damage", () =>
    run(
      Effect.fnUntraced(function* () {
        const first = yield* start({ worker: "w", limits: never })
        yield* Effect.scoped(Effect.flatMap(own(first), (owner) => first.journal.commit(owner, turn(1, [image("a", "1")]))))
        const owner = yield* first.ownership.acquire(id)
        yield* expire
        const other = yield* start({ limits: always })
        const newest = yield* own(other)
        yield* other.journal.commit(newest, turn(2, [image("a", "2")]))
        yield* isCheckpointed(2)
        expect((yield* failureOf(first.journal.open(owner, codec))).code).toBe("fenced")
        yield* first.ownership.lost(owner)
      })
    ))

  test("P11 P22 a timeout whose key is gone is damage for the owner, and fenced for one that was replaced", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: always })
        const owner = yield* own(process)
        yield* process.journal.commit(owner, turn(1, [image("a", "1", 5)]))
        yield* isCheckpointed(1)
        yield* Effect.promise(() => client.hdel(keys.state, "a"))
        const due = process.journal.due(owner, { before: 10, countMax: 5 })
        expect((yield* failureOf(due)).code).toBe("directory-damaged")
        yield* Effect.promise(() => client.hset(keys.meta, "token", "2.another"))
        expect((yield* failureOf(due)).code).toBe("fenced")
      })
    ))

  test("P11 an owner that has nothing to write learns all the same that Redis has lost its tail", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: never, leaseMs: 900 })
        const moved = Effect.gen(function* () {
          const owner = yield* own(process)
          yield* process.journal.commit(owner, turn(1, [image("a", "1")]))
          const rev = Number(yield* Effect.promise(() => client.hget(keys.meta, "rev")))
          yield* Effect.promise(() => client.hset(keys.meta, "rev", String(rev - 1)))
          yield* process.ownership.lost(owner)
          return yield* Effect.fail("lost")
        })
        expect(yield* Effect.scoped(moved).pipe(Effect.flip)).toBe("lost")
        expect(yield* Effect.promise(() => client.hget(keys.meta, "worker"))).toBe("w")
      })
    ))

  test("P8 P10 a process that dies between a commit and its answer leaves the turn whole, with its outputs to publish", () =>
    run(
      Effect.fnUntraced(function* () {
        const first = yield* start({ worker: "w", limits: never })
        const owner = yield* own(first)
        const outbox = { ...emptyOutbox, records: [record("out", 0, "x", 1)] }
        first.link.answersLost = 1
        first.link.before = (name) => {
          first.link.isCut = name === commit
        }
        const lost = codeOf(first.journal.commit(owner, { ...turn(1, [image("a", "1", 5)]), outbox }))
        const dies = Effect.andThen(
          until(async () => (await client.hget(keys.meta, "head")) === "1"),
          first.crash
        )
        expect(yield* Effect.all([lost, dies], { concurrency: "unbounded" })).toEqual(["fenced", undefined])
        const second = yield* start({ worker: "w", limits: never })
        const again = yield* second.ownership.acquire(id)
        expect(yield* second.journal.open(again, codec)).toMatchObject({ revision: 1, unpublished: [{ revision: 1, outbox }] })
        expect((yield* second.journal.keys(id)).map(({ keyText }) => keyText)).toEqual(["a"])
      })
    ))

  test("P10 a refusal after an attempt without an answer is a doubt: the journal is taken over, and has the turn once", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: never })
        const doubted = Effect.gen(function* () {
          const owner = yield* own(process)
          let commits = 0
          process.link.before = (name) => {
            if (name !== commit) return
            commits += 1
            if (commits === 2) throw new KeyfoldError("storage-full", "the test has filled the server")
          }
          process.link.answersLost = 1
          yield* process.journal.commit(owner, turn(1, [image("a", "1")]))
        })
        expect((yield* failureOf(Effect.scoped(doubted))).code).toBe("fenced")
        const owner = yield* process.ownership.acquire(id)
        expect(yield* process.journal.open(owner, codec)).toMatchObject({ revision: 1 })
        yield* process.journal.commit(owner, turn(2, []))
        expect(yield* Effect.promise(() => client.xlen(keys.log))).toBe(2)
      })
    ))

  test("P10 a refusal of the first attempt leaves everything as it was, and the same turn commits later", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: never })
        const owner = yield* own(process)
        let refusals = 2
        process.link.before = (name) => {
          if (name === commit && refusals-- > 0) throw new KeyfoldError("storage-full", "the test has filled the server")
        }
        for (let round = 0; round < 2; round++) {
          expect((yield* failureOf(process.journal.commit(owner, turn(1, [image("a", "1")])))).code).toBe("storage-full")
        }
        yield* process.journal.commit(owner, turn(1, [image("a", "1")]))
        expect(yield* Effect.promise(() => client.xlen(keys.log))).toBe(1)
      })
    ))

  test(
    "P18 turns wait for the checkpoint when they outrun it: the log stays below a bound",
    () =>
      run(
        Effect.fnUntraced(function* () {
          const process = yield* start({ limits: never, leaseMs: 60_000 })
          const owner = yield* own(process)
          const state = "x".repeat(4_096)
          const turnBytes = 4_000 * (4_096 + 20)
          let [most, ended] = [0, 0]
          process.link.before = (name) => {
            if (name === checkpointEnd) ended += 1
          }
          // A turn has 16 times as many bytes as a chunk takes, all of new keys.
          for (let revision = 1; revision <= 9; revision++) {
            const changes = Array.from({ length: 4_000 }, (_, index) => image(`key ${revision} ${index}`, state))
            yield* process.journal.commit(owner, turn(revision, changes))
            const snapshot = Number((yield* Effect.promise(() => client.hget(keys.meta, "snapshot"))) ?? 0)
            most = Math.max(most, (revision - snapshot) * turnBytes)
          }
          expect(most).toBeGreaterThan(48 * 1_048_576) // without a bound 140
          expect(most).toBeLessThan(84 * 1_048_576)
          expect(ended).toBeGreaterThan(0)
        })
      ),
    120_000
  )

  test("P18 P19 turns that wait for a checkpoint go on, and fail by themselves, when none gets through", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: never, leaseMs: 60_000 })
        const owner = yield* own(process)
        let isFull = true
        process.link.before = (name) => {
          if (isFull && name === checkpointChunk) throw new KeyfoldError("storage-full", "the test has filled the server")
        }
        const large = "x".repeat(8 * 1_048_576)
        for (let revision = 1; revision <= 9; revision++) yield* process.journal.commit(owner, turn(revision, [image("a", large)]))
        isFull = false
        yield* process.journal.commit(owner, turn(10, [image("a", "small")]))
        yield* isCheckpointed(10).pipe(Effect.raceFirst(isCheckpointed(9)))
      })
    ))

  test("P19 P20 states of many megabytes are committed, checkpointed, recovered and loaded", () =>
    run(
      Effect.fnUntraced(function* () {
        const first = yield* start({ worker: "w", limits: never })
        const owner = yield* own(first)
        const large = "0123456789abcdef".repeat(1_310_720) // 20 MiB
        yield* first.journal.commit(owner, turn(1, [image("a", large, 7), image("b", "1"), image("c", large)]))
        yield* isCheckpointed(1)
        yield* first.journal.commit(owner, turn(2, [image("c", `${large}!`)]))
        // None was given up for dead on its long way.
        expect(first.link.calls.filter(({ name }) => name === commit)).toHaveLength(2)
        yield* first.crash
        const second = yield* start({ worker: "w", limits: never })
        yield* own(second)
        const loaded = yield* second.journal.load(id, ["a", "b", "c"])
        expect(loaded.map((one) => one?.bytes?.byteLength)).toEqual([large.length, 1, large.length + 1])
        expect(textOf(loaded[2]?.bytes)).toBe(`${large}!`)
      })
    ))

  test("P20 what a checkpoint has written is no longer kept in memory", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: always })
        const owner = yield* own(process)
        yield* process.journal.commit(owner, turn(1, [image("a", "1", 5), image("b", undefined, 6)]))
        yield* until(() => process.link.calls.some(({ name }) => name === checkpointEnd))
        yield* isCheckpointed(1)
        process.link.calls.length = 0
        yield* until(() =>
          Effect.runPromise(Effect.map(process.journal.load(id, ["a", "b"]), () => process.link.calls.some(({ name }) => name === "HMGET")))
        )
      })
    ))
})
