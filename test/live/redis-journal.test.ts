// Goal: the journal in Redis keeps what it has committed, and writes nothing it may not, whatever happens to processes, connections and Redis
// itself. The laws that hold in peace are test/law/journal.test.ts and ownership.test.ts.
// Method: real Redis servers; processes are played in this one (redis-process.ts), their link counts, cuts and loses. Where many turns are
// made at random they are compared with a plain Map; rerun with SEED=<n>.
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import fc from "fast-check"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { checkpointChunk, checkpointEnd, commit, confirm } from "../../src/journal/scripts.ts"
import { compareKeyTexts } from "../../src/model/key.ts"
import { emptyOutbox, type JournalId, type JournalOwner, type KeyImage, type Outbox, type TurnRecord } from "../../src/model/turn.ts"
import { clock, release } from "../../src/partition/ownership-scripts.ts"
import { journalKeys, witness } from "../../src/storage/redis-fence.ts"
import { replyText } from "../../src/storage/redis-link.ts"
import { connectTo, type ProcessOptions, type RedisProcess, startProcess } from "../law/redis-process.ts"
import { bytes, codeOf, record, textOf } from "../law/stores.ts"
import { startProxy } from "../servers/proxy.ts"
import { startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { restoreData, snapshotData } from "../servers/snapshot.ts"
import { redisVersions, running } from "../servers/versions.ts"

const seed = Number(process.env.SEED ?? 1)
const id: JournalId = { query: "q", stage: "s", partition: 0 }
const codec = "json/1"
const never = { checkpointEveryMs: 600_000, historyKeptMs: 0 }
const always = { checkpointEveryMs: 1, historyKeptMs: 0 }

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

const output = (text: string, number: number): Partial<Outbox> => ({ records: [record("out", 0, text, number)] })

const readable = (one: KeyImage) => ({ key: one.keyText, state: textOf(one.bytes), timeoutAt: one.timeoutAt })

/** Takes the journal over and opens it. */
const own = ({ ownership, journal }: RedisProcess, of: JournalId = id) =>
  Effect.tap(ownership.acquire(of), (owner) => journal.open(owner, codec))

/** Until it is so; the test's own time is the bound. */
const until = (isSo: () => Promise<boolean> | boolean): Effect.Effect<void> =>
  Effect.promise(async () => {
    while (!(await isSo())) await new Promise((wake) => setTimeout(wake, 2))
  })

/** As often as it takes: a lease of somebody else has to run out. */
const eventually = <A, R>(acquire: Effect.Effect<A, KeyfoldError, R>): Effect.Effect<A, KeyfoldError, R> =>
  Effect.catch(acquire, (error) =>
    error.code === "fenced" || error.code === "unreachable"
      ? Effect.andThen(Effect.sleep(10), () => eventually(acquire))
      : Effect.fail(error)
  )

const versions = redisVersions().filter((version) => version !== running)

describe.each(versions)("redis %s", (version) => {
  let server: Server
  let client: Redis
  beforeAll(async () => {
    server = await startRedis({ version })
    client = new Redis({ port: server.port, host: "127.0.0.1", retryStrategy: () => 20, maxRetriesPerRequest: null }).on(
      "error",
      () => undefined
    )
  })
  afterAll(async () => {
    client.disconnect()
    await server.stop()
  })

  const keys = journalKeys("kf", id)

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

  /** Everything that Redis has, key by key, byte by byte. */
  const contents = (leaveOut: readonly string[] = []): Effect.Effect<Record<string, string>> =>
    Effect.promise(async () => {
      const names = (await client.keys("*")).filter((name) => !leaveOut.includes(name)).sort()
      const dumps = await Promise.all(names.map((name) => client.dumpBuffer(name)))
      return Object.fromEntries(names.map((name, index) => [name, (dumps[index] as Buffer).toString("base64")]))
    })

  const meta = (field: string): Effect.Effect<string | null> => Effect.promise(() => client.hget(keys.meta, field))

  test("P20 a crash between the chunks of a checkpoint loses nothing, and the log overrides what was half written", () =>
    run(
      Effect.fnUntraced(function* () {
        const first = yield* start({ worker: "w", limits: { ...never, checkpointEveryMs: 100 } })
        const owner = yield* own(first)
        const names = Array.from({ length: 4_500 }, (_, index) => `key ${index}`)
        let chunks = 0
        first.link.before = (name) => {
          if (name === checkpointChunk) chunks += 1
          if (chunks === 3) first.link.isCut = true
        }
        yield* first.journal.commit(
          owner,
          turn(
            1,
            names.map((name, index) => image(name, "1", index))
          )
        )
        yield* until(async () => first.link.isCut && (await client.hlen(keys.state)) === 750)
        yield* first.crash
        expect(yield* meta("snapshot")).toBe(null)

        const second = yield* start({ worker: "w", limits: never })
        const again = yield* own(second)
        yield* second.journal.commit(
          again,
          turn(
            2,
            names.slice(0, 10).map((name) => image(name, undefined))
          )
        )
        yield* second.crash
        const third = yield* start({ worker: "w", limits: never })
        yield* own(third)
        const left = yield* third.journal.keys(id)
        expect(left.map(readable).sort(byKey)).toEqual(
          names
            .slice(10)
            .map((key, index) => ({ key, state: "1", timeoutAt: index + 10 }))
            .sort(byKey)
        )
        expect(yield* third.journal.timeouts(id)).toEqual({ first: 10, last: 4_499 })
      })
    ))

  test("P10 a commit whose answers are lost is committed once", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: never })
        const owner = yield* own(process)
        yield* process.journal.commit(owner, turn(1, [image("a", "1")]))
        process.link.answersLost = 3
        yield* process.journal.commit(owner, turn(2, [image("a", "2")], output("x", 1)))
        yield* process.journal.commit(owner, turn(3, [image("a", "3")]))
        expect(yield* Effect.promise(() => client.xlen(keys.log))).toBe(3)
        expect(yield* Effect.promise(() => client.xlen(keys.outbox))).toBe(1)
        expect(yield* meta("rev")).toBe("4")
      })
    ))

  test("P10 a connection that is cut while the answer is on its way costs nothing", () =>
    run(
      Effect.fnUntraced(function* () {
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy({ to: server.port })),
          (one) => Effect.promise(() => one.stop())
        )
        const process = yield* startProcess(yield* connectTo(`redis://127.0.0.1:${proxy.port}`), { limits: never })
        const owner = yield* own(process)
        proxy.delay(40)
        for (let revision = 1; revision <= 12; revision++) {
          // The script has run after 40 ms, and its answer arrives after 80: some cuts come before, some in between.
          const cut = Effect.andThen(
            Effect.sleep(10 * (revision % 8)),
            Effect.sync(() => proxy.cut())
          )
          yield* Effect.all([process.journal.commit(owner, turn(revision, [image("a", String(revision))])), cut], {
            concurrency: "unbounded"
          })
        }
        expect(yield* Effect.promise(() => client.xlen(keys.log))).toBe(12)
        expect(yield* meta("rev")).toBe("13")
      })
    ))

  test("K3 a connection that swallows everything is given up, and the commit comes through on the next", () =>
    run(
      Effect.fnUntraced(function* () {
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy({ to: server.port })),
          (one) => Effect.promise(() => one.stop())
        )
        const process = yield* startProcess(yield* connectTo(`redis://127.0.0.1:${proxy.port}`), { limits: never, leaseMs: 20_000 })
        const owner = yield* own(process)
        const [before] = [proxy.connectionCount]
        expect(before).toBe(1)
        proxy.swallow(true)
        const committed = Effect.as(process.journal.commit(owner, turn(1, [image("a", "1")])), "committed")
        // The proxy goes on swallowing what it has; only new connections get through once it stops.
        const mended = Effect.andThen(
          Effect.sleep(2_500),
          Effect.sync(() => proxy.swallow(false))
        )
        const [answer] = yield* Effect.all([committed, mended], { concurrency: "unbounded" })
        expect(answer).toBe("committed")
        expect(yield* meta("rev")).toBe("2")
      })
    ))

  test("F the scripts are known again to a Redis that was restarted, and nothing that was answered is lost (appendfsync always)", () =>
    run(
      Effect.fnUntraced(function* () {
        // With everysec, and a sync under way, what was answered may not even have been written to the file when Redis dies.
        yield* Effect.promise(() => client.config("SET", "appendfsync", "always"))
        const process = yield* start({ limits: never, leaseMs: 30_000 })
        const owner = yield* own(process)
        yield* process.journal.commit(owner, turn(1, [image("a", "1")], output("x", 1)))
        yield* Effect.promise(() => server.kill())
        const committed = process.journal.commit(owner, turn(2, [image("b", "2")]))
        yield* Effect.all([committed, Effect.promise(() => server.start())], { concurrency: "unbounded" })
        expect((yield* process.journal.load(id, ["a", "b"])).map((one) => one && readable(one))).toEqual([
          { key: "a", state: "1" },
          { key: "b", state: "2" }
        ])
        expect(yield* Effect.promise(() => client.xlen(keys.log))).toBe(2)
      })
    ))

  test("P11 a Redis that has lost its tail answers MOVED: nothing is written, and the journal begins where Redis ends", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: never, leaseMs: 30_000 })
        const moved = Effect.scoped(
          Effect.gen(function* () {
            const owner = yield* own(process)
            yield* process.journal.commit(owner, turn(1, [image("a", "1")]))
            yield* Effect.promise(async () => client.call("BGREWRITEAOF"))
            yield* until(async () => (await client.info("persistence")).includes("aof_rewrite_in_progress:0"))
            const before = snapshotData(server)
            yield* process.journal.commit(owner, turn(2, [image("a", "2")]))
            yield* Effect.promise(() => restoreData(server, before))
            yield* process.journal.commit(owner, turn(3, [image("a", "3")]))
          })
        )
        const error = yield* Effect.flip(moved).pipe(Effect.catch(() => Effect.die("P11: it was committed")))
        expect(error.code).toBe("fenced")
        expect(error.message).toContain("Redis was restarted or failed over, and has lost what it had answered")
        const owner = yield* process.ownership.acquire(id)
        expect(yield* process.journal.open(owner, codec)).toMatchObject({ revision: 1, progress: "progress 1" })
      })
    ))

  test("P11 an emptied Redis fences its owner, who learns of it, and the journal begins anew", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: never, leaseMs: 900 })
        yield* Effect.ignore(
          Effect.scoped(
            Effect.gen(function* () {
              const owner = yield* own(process)
              yield* process.journal.commit(owner, turn(1, [image("a", "1")]))
              yield* Effect.promise(() => client.flushall())
              yield* process.ownership.lost(owner)
              expect(yield* codeOf(process.journal.commit(owner, turn(2, [])))).toBe("fenced")
              expect(yield* contents()).toEqual({})
              return yield* Effect.fail("lost")
            })
          )
        )
        const owner = yield* process.ownership.acquire(id)
        expect(yield* process.journal.open(owner, codec)).toEqual({ revision: 0, progress: undefined, unpublished: [] })
      })
    ))

  test("K4 a full Redis refuses a turn before anything is written; what gets it out of there still works", () =>
    run(
      Effect.fnUntraced(
        function* () {
          const first = yield* start({ worker: "w", limits: never })
          const firstOwner = yield* own(first)
          yield* first.journal.commit(firstOwner, turn(1, [image("a", "1", 5), image("b", "1")], output("x", 1)))
          yield* Effect.promise(() => client.config("SET", "maxmemory", "1"))
          const before = yield* contents([keys.meta])
          const rev = yield* meta("rev")
          const error = yield* Effect.flip(first.journal.commit(firstOwner, turn(2, [image("a", "2")], output("y", 2)))).pipe(
            Effect.catch(() => Effect.die("K4: it was committed"))
          )
          expect(error.code).toBe("storage-full")
          expect(error.message).toMatch(/is full .*nothing was written/)
          expect(yield* contents([keys.meta])).toEqual(before)
          expect(yield* meta("rev")).toBe(rev)
          expect(yield* meta("head")).toBe("1")
          yield* first.crash

          const process = yield* start({ worker: "w", limits: always })
          yield* Effect.scoped(
            Effect.gen(function* () {
              const owner = yield* own(process)
              yield* process.journal.confirm(owner, 1)
              yield* until(async () => (await client.hget(keys.meta, "snapshot")) === "1" && (await client.xlen(keys.log)) === 0)
            })
          )
          expect(yield* meta("confirmed")).toBe("1")
          expect(yield* meta("lease")).toBe("0")
          yield* Effect.promise(() => client.config("SET", "maxmemory", "0"))
          const owner = yield* own(process)
          yield* process.journal.commit(owner, turn(2, [image("a", "2")]))
          expect((yield* process.journal.keys(id)).map(readable)).toEqual([
            { key: "a", state: "2" },
            { key: "b", state: "1" }
          ])
        },
        Effect.ensuring(Effect.promise(() => client.config("SET", "maxmemory", "0")))
      )
    ))

  test("F every script of an owner that was replaced is refused, and changes nothing", () =>
    run(
      Effect.fnUntraced(function* () {
        const zombie = yield* start({ leaseMs: 300, limits: never })
        const owner = yield* own(zombie)
        yield* zombie.journal.commit(owner, turn(1, [image("a", "1")]))
        const rev = (yield* meta("rev")) as string
        zombie.link.isCut = true
        const other = yield* start({ limits: never })
        const newest = yield* eventually(own(other))
        yield* other.journal.commit(newest, turn(2, [image("a", "2")], output("x", 1)))
        yield* other.crash
        const before = yield* contents()
        const raw = yield* connectTo(server.url)
        const attempts: Readonly<Record<string, readonly [lua: string, args: readonly string[]]>> = {
          commit: [commit, ["2", "1", "entry", "outbox", "codec"]],
          confirm: [confirm, ["7"]],
          "checkpoint chunk": [checkpointChunk, ["1", "a", "x", "0", "1", "5", "a", "0"]],
          "checkpoint end": [checkpointEnd, ["9", "progress", "9", "9", "9"]]
        }
        for (const [name, [lua, args]] of Object.entries(attempts)) {
          for (const itsRev of [rev, String(Number(rev) + 1), String(Number(rev) + 2)]) {
            const answer = yield* raw.script(lua, keys.all, [owner.token, itsRev, "99", "4000", ...args])
            expect([name, replyText(answer)]).toEqual([name, "FENCED"])
          }
        }
        expect(replyText(yield* raw.script(witness, keys.all, [owner.token, "0", "4000"]))).toBe("FENCED")
        expect(replyText(yield* raw.script(release, keys.all, [owner.token, rev]))).toBe("FENCED")
        expect(yield* contents()).toEqual(before)
      })
    ))

  test("F a write that expects another revision is refused, and changes nothing", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: never })
        const owner = yield* own(process)
        yield* process.journal.commit(owner, turn(1, [image("a", "1")]))
        yield* process.crash
        const before = yield* contents()
        const raw = yield* connectTo(server.url)
        for (const rev of ["1", "3", "0", ""]) {
          expect(replyText(yield* raw.script(confirm, keys.all, [owner.token, rev, "99", "4000", "7"]))).toBe("MOVED")
        }
        expect(replyText(yield* raw.script(witness, keys.all, [owner.token, "3", "4000"]))).toBe("MOVED")
        expect(replyText(yield* raw.script(release, keys.all, [owner.token, "1"]))).toBe("MOVED")
        expect(yield* contents()).toEqual(before)
      })
    ))

  test("P1 of 16 processes with connections of their own that ask at once, one gets it; a dead one's lease goes to one", () =>
    run(
      Effect.fnUntraced(function* () {
        const processes = yield* Effect.all(Array.from({ length: 16 }, () => start({ leaseMs: 400 })))
        const asked = processes.map((one) => codeOf(one.ownership.acquire(id)))
        const codes = yield* Effect.all(asked, { concurrency: "unbounded" })
        expect(codes.toSorted()).toEqual([...Array.from({ length: 15 }, () => "fenced"), "success"])
        yield* (processes[codes.indexOf("success")] as RedisProcess).crash
        const others = processes.filter((_, index) => codes[index] === "fenced")
        let owners = 0
        yield* Effect.raceAllFirst(
          others.map((one) =>
            Effect.andThen(
              eventually(one.ownership.acquire(id)),
              Effect.sync(() => {
                owners += 1
              })
            )
          )
        )
        expect(owners).toBe(1)
        expect(yield* meta("epoch")).toBe("2")
      })
    ))

  test("P2 recovery reads the tail of the log, however many keys there are", () =>
    run(
      Effect.fnUntraced(function* () {
        const first = yield* start({ worker: "w", limits: always })
        const owner = yield* own(first)
        for (let revision = 1; revision <= 10; revision++) {
          const changes = Array.from({ length: 2_000 }, (_, index) => image(`key ${revision} ${index}`, "state", index))
          yield* first.journal.commit(owner, turn(revision, changes))
        }
        yield* until(async () => (await client.hget(keys.meta, "snapshot")) === "10")
        yield* first.crash
        const second = yield* start({ worker: "w", limits: never })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const again = yield* own(second)
            for (let revision = 11; revision <= 13; revision++)
              yield* second.journal.commit(again, turn(revision, [image("x", String(revision))]))
          })
        )
        const third = yield* start({ worker: "w", limits: never })
        const newest = yield* third.ownership.acquire(id)
        third.link.calls.length = 0
        expect(yield* third.journal.open(newest, codec)).toMatchObject({ revision: 13 })
        expect(third.link.calls.map(({ name }) => name)).toEqual(["XRANGE", "XRANGE"])
        expect(yield* Effect.promise(() => client.hlen(keys.state))).toBe(20_000)
      })
    ))

  test("J4 all missing keys of a turn are loaded in one round trip, those in memory in none", () =>
    run(
      Effect.fnUntraced(function* () {
        const first = yield* start({ worker: "w", limits: always })
        const names = Array.from({ length: 4_096 }, (_, index) => `key ${index}`)
        yield* first.journal.commit(
          yield* own(first),
          turn(
            1,
            names.map((name) => image(name, name))
          )
        )
        yield* until(async () => (await client.hget(keys.meta, "snapshot")) === "1")
        yield* first.crash
        const second = yield* start({ worker: "w", limits: never })
        const owner = yield* own(second)
        second.link.calls.length = 0
        expect((yield* second.journal.load(id, names)).map((one) => textOf(one?.bytes))).toEqual(names)
        expect(second.link.calls.map(({ name }) => name)).toEqual(["HMGET"])
        yield* second.journal.commit(
          owner,
          turn(
            2,
            names.map((name) => image(name, `2 ${name}`))
          )
        )
        second.link.calls.length = 0
        expect((yield* second.journal.load(id, names)).map((one) => textOf(one?.bytes))).toEqual(names.map((name) => `2 ${name}`))
        expect(second.link.calls).toEqual([])
      })
    ))

  test("P8 a turn is one call, however many keys it changes and whatever it puts out", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: never })
        const owner = yield* own(process)
        process.link.calls.length = 0
        const changes = Array.from({ length: 4_096 }, (_, index) => image(`key ${index}`, "s", index))
        yield* process.journal.commit(owner, turn(1, changes, output("x", 1)))
        yield* process.journal.confirm(owner, 1)
        yield* process.journal.commit(owner, turn(2, changes))
        expect(process.link.calls.map(({ name }) => name)).toEqual([commit, commit])
        expect(yield* meta("confirmed")).toBe("1")
      })
    ))

  test("P16 a confirmation goes alone after a second, or when the journal is given back", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: never })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const owner = yield* own(process)
            yield* process.journal.commit(owner, turn(1, [], output("x", 1)))
            yield* process.journal.confirm(owner, 1)
            expect(yield* meta("confirmed")).toBe("0")
            yield* until(async () => (await client.hget(keys.meta, "confirmed")) === "1")
            yield* process.journal.commit(owner, turn(2, [], output("y", 2)))
            yield* process.journal.confirm(owner, 2)
          })
        )
        expect(yield* meta("confirmed")).toBe("2")
        const owner = yield* process.ownership.acquire(id)
        expect(yield* process.journal.open(owner, codec)).toMatchObject({ revision: 2, unpublished: [] })
      })
    ))

  test("J6 after a removal and a checkpoint Redis holds nothing of a key", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: always })
        const owner = yield* own(process)
        yield* process.journal.commit(
          owner,
          turn(1, [image("secret-key", "secret-state", 50), image("stays", "1")], output("secret-key", 1))
        )
        yield* until(async () => (await client.hexists(keys.state, "secret-key")) === 1)
        yield* process.journal.commit(owner, turn(2, [image("secret-key", undefined)]))
        yield* process.journal.confirm(owner, 1)
        yield* until(async () => (await client.hget(keys.meta, "snapshot")) === "2" && (await client.hget(keys.meta, "confirmed")) === "2")
        yield* until(async () => (await client.xlen(keys.outbox)) === 0)
        // What stays in a stream's memory after a trim is not looked at: the entries are gone.
        const texts = yield* Effect.promise(() =>
          Promise.all([
            client.hgetall(keys.meta),
            client.hgetall(keys.state),
            client.zrange(keys.timeouts, 0, -1),
            client.xrange(keys.log, "-", "+"),
            client.xrange(keys.outbox, "-", "+")
          ])
        )
        expect(JSON.stringify(texts)).not.toContain("secret")
        expect(texts[1]).toHaveProperty("stays")
      })
    ))

  test(
    "J4 J5 J6 J7 random turns, checkpoints, confirmations, crashes and returns leave what a plain Map holds",
    () =>
      run(
        Effect.fnUntraced(function* () {
          for (const steps of fc.sample(randomLife, { seed, numRuns: 12 })) yield* live(start, steps)
        })
      ),
    240_000
  )

  test(
    "P22 a hundred thousand due timeouts fire once each, in order, without reading them over and over",
    () =>
      run(
        Effect.fnUntraced(function* () {
          const count = 100_000
          const first = yield* start({ worker: "w", limits: always })
          const owner = yield* own(first)
          // In threes at one time, so that key bytes decide; one far away must not be touched.
          const names = Array.from({ length: count }, (_, index) => ({
            keyText: `key ${(index * 7_919) % count}`,
            timeoutAt: 1 + Math.floor(index / 3)
          }))
          for (let revision = 1; revision <= 10; revision++) {
            const part = names.slice((revision - 1) * (count / 10), revision * (count / 10))
            yield* first.journal.commit(
              owner,
              turn(
                revision,
                part.map(({ keyText, timeoutAt }) => image(keyText, "s", timeoutAt))
              )
            )
          }
          yield* first.journal.commit(owner, turn(11, [image("far", "s", 1e12)]))
          yield* until(async () => (await client.zcard(keys.timeouts)) === count + 1 && (await client.hget(keys.meta, "snapshot")) === "11")
          yield* first.crash

          const second = yield* start({ worker: "w", limits: { checkpointEveryMs: 150, historyKeptMs: 0 } })
          const again = yield* own(second)
          second.link.calls.length = 0
          const fired: string[] = []
          let revision = 11
          for (;;) {
            const due = yield* second.journal.due(again, { before: 1e9, countMax: 4_096 })
            if (due.length === 0) break
            fired.push(...due.map(({ keyText }) => keyText))
            revision += 1
            yield* second.journal.commit(
              again,
              turn(
                revision,
                due.map(({ keyText }) => image(keyText, undefined))
              )
            )
            const span = yield* second.journal.timeouts(again)
            expect(span?.last).toBe(1e12)
          }
          const expected = names.toSorted((left, right) => left.timeoutAt - right.timeoutAt || compareKeyTexts(left.keyText, right.keyText))
          expect(fired).toEqual(expected.map(({ keyText }) => keyText))
          expect(yield* second.journal.timeouts(again)).toEqual({ first: 1e12, last: 1e12 })
          const pages = second.link.calls.filter(({ name }) => name.endsWith("RANGEBYSCORE")).length
          expect(pages).toBeLessThan(400)
        })
      ),
    120_000
  )

  test("P20 the log stays short and confirmed outputs are kept for their time and no longer", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: { checkpointEveryMs: 20, historyKeptMs: 700 } })
        const owner = yield* own(process)
        for (let revision = 1; revision <= 40; revision++) {
          yield* process.journal.commit(owner, turn(revision, [image("a", String(revision))], output("x", revision)))
          if (revision <= 30) yield* process.journal.confirm(owner, revision)
        }
        yield* until(async () => (await client.xlen(keys.log)) === 0)
        expect(yield* Effect.promise(() => client.xlen(keys.outbox))).toBe(40)
        yield* until(async () => (await client.xlen(keys.outbox)) === 10)
        const [oldest] = yield* Effect.promise(() => client.xrange(keys.outbox, "-", "+", "COUNT", 1))
        expect(oldest?.[0]).toBe("31-0")
      })
    ))

  test("P20 confirmed outputs are kept up to a size, however young they are", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: { checkpointEveryMs: 20, historyKeptMs: 3_600_000 } })
        const owner = yield* own(process)
        const large = "x".repeat(1_048_576)
        for (let revision = 1; revision <= 40; revision++) {
          yield* process.journal.commit(owner, turn(revision, [], output(large, revision)))
          yield* process.journal.confirm(owner, revision)
        }
        yield* until(async () => (await client.xlen(keys.outbox)) <= 16)
        expect(yield* Effect.promise(() => client.xlen(keys.outbox))).toBeGreaterThan(10)
      })
    ))

  test("P18 sixteen mebibytes of log are enough for a checkpoint, whatever the clock says", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: never })
        const owner = yield* own(process)
        const large = "x".repeat(1_048_576)
        for (let revision = 1; revision <= 15; revision++)
          yield* process.journal.commit(owner, turn(revision, [image(`key ${revision}`, large)]))
        expect(yield* meta("snapshot")).toBe(null)
        yield* process.journal.commit(owner, turn(16, [image("key 16", large)]))
        yield* until(async () => (await client.xlen(keys.log)) === 0)
        expect(yield* meta("snapshot")).toBe("16")
        expect(yield* Effect.promise(() => client.hlen(keys.state))).toBe(16)
      })
    ))

  test("format-newer: what a newer keyfold has written is refused and stays as it is", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: never })
        yield* Effect.scoped(Effect.flatMap(own(process), (owner) => process.journal.commit(owner, turn(1, [image("a", "1")]))))
        yield* Effect.promise(() => client.hset(keys.meta, "format", "2"))
        const before = yield* contents()
        expect(yield* codeOf(process.ownership.acquire(id))).toBe("format-newer")
        expect(yield* contents()).toEqual(before)

        yield* Effect.promise(() => client.hset(keys.meta, "format", "1"))
        yield* Effect.promise(() => client.xadd(keys.log, "2-0", "e", Buffer.from([0x6b, 0x66, 2, 1, 0, 0, 0, 0])))
        yield* Effect.promise(() => client.hset(keys.meta, "head", "2"))
        const owner = yield* process.ownership.acquire(id)
        const others = yield* contents([keys.meta])
        expect(yield* codeOf(process.journal.open(owner, codec))).toBe("format-newer")
        expect(yield* contents([keys.meta])).toEqual(others)
      })
    ))

  const damages: Readonly<Record<string, () => Promise<unknown>>> = {
    "meta is gone": () => client.del(keys.meta),
    "the log is gone": () => client.del(keys.log),
    "an entry of the log is gone": () => client.xdel(keys.log, "2-0"),
    "the last entry of the log is gone": () => client.xdel(keys.log, "3-0"),
    "the outbox is gone": () => client.del(keys.outbox),
    "an entry of the outbox is gone": () => client.xdel(keys.outbox, "2-0"),
    "the last entry of the outbox is gone": () => client.xdel(keys.outbox, "3-0"),
    "the log is a list": async () => [await client.del(keys.log), await client.lpush(keys.log, "x")],
    "the states are a text": async () => [await client.del(keys.state), await client.set(keys.state, "x")],
    "an entry is rubbish": async () => [await client.xadd(keys.log, "4-0", "e", "rubbish"), await client.hset(keys.meta, "head", "4")],
    "an entry has another field": async () => [await client.xadd(keys.log, "4-0", "f", "x"), await client.hset(keys.meta, "head", "4")]
  }
  test.each(Object.keys(damages))("P2 directory-damaged: %s", (name) =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ worker: "w", limits: never })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const owner = yield* own(process)
            for (let revision = 1; revision <= 3; revision++) {
              yield* process.journal.commit(owner, turn(revision, [image("a", "1")], output("x", revision)))
            }
          })
        )
        // States and timeouts must be there to be spoilt.
        yield* Effect.promise(() => client.hset(keys.state, "old", "x"))
        yield* Effect.promise(() => (damages[name] as () => Promise<unknown>)())
        const error = yield* Effect.flip(own(process)).pipe(Effect.catch(() => Effect.die("P2: it was opened")))
        expect(error.code).toBe("directory-damaged")
        expect(error.message).toContain("kf:{q/s/0}:")
      })
    )
  )

  test("P21 a lease is refused while the clocks differ by more than half a second, saying by how much", () =>
    run(
      Effect.fnUntraced(function* () {
        const raw = yield* connectTo(server.url)
        const wrongBy = (ms: number) => ({
          ...raw,
          script: (lua: string, names: readonly string[], args: readonly (string | Uint8Array)[]) =>
            lua !== clock
              ? raw.script(lua, names, args)
              : Effect.sync(() => [(Date.now() + ms) / 1_000, 0].map((part) => Buffer.from(String(part))))
        })
        for (const [ms, said] of [
          [-900, /clock of Redis is (8|9)\d\d ms behind the one here/],
          [900, /clock of Redis is (8|9)\d\d ms ahead of the one here/]
        ] as const) {
          const process = yield* startProcess(wrongBy(ms))
          const error = yield* Effect.flip(process.ownership.acquire(id)).pipe(Effect.catch(() => Effect.die("P21: it was given")))
          expect(error.code).toBe("fenced")
          expect(error.message).toMatch(said)
        }
        expect(yield* contents()).toEqual({})
        const near = yield* startProcess(wrongBy(300))
        yield* near.ownership.acquire(id)
      })
    ))

  test("P11 a server that drops all its connections costs nothing", () =>
    run(
      Effect.fnUntraced(function* () {
        const process = yield* start({ limits: always })
        const owner = yield* own(process)
        const dropping = Effect.gen(function* () {
          for (let round = 0; round < 20; round++) {
            yield* Effect.sleep(10)
            yield* Effect.promise(() => client.client("KILL", "TYPE", "normal", "SKIPME", "yes"))
          }
        })
        const committing = Effect.gen(function* () {
          for (let revision = 1; revision <= 60; revision++) {
            yield* process.journal.commit(owner, turn(revision, [image(`key ${revision % 7}`, String(revision), revision)]))
            expect((yield* process.journal.load(id, [`key ${revision % 7}`]))[0]?.timeoutAt).toBe(revision)
          }
        })
        yield* Effect.all([dropping, committing], { concurrency: "unbounded" })
        expect((yield* process.journal.keys(id)).map(({ timeoutAt }) => timeoutAt).sort()).toEqual([54, 55, 56, 57, 58, 59, 60])
      })
    ))
})

const byKey = (left: { readonly key: string }, right: { readonly key: string }): number => compareKeyTexts(left.key, right.key)

// ---- a life at random

type Step =
  | { readonly kind: "commit"; readonly changes: readonly KeyImage[]; readonly puts: boolean }
  | { readonly kind: "confirm" | "return" | "crash" | "checkpoint" | "look" }

const randomChange = fc.record({
  keyText: fc.oneof(
    fc.constantFrom("", "a", "aa", "\u0000[1]", "\u0000{}", "\ufffd", "\ud83d\ude00", "é"),
    fc.integer({ min: 0, max: 40 }).map((number) => `k${number}`)
  ),
  bytes: fc.option(fc.uint8Array({ maxLength: 40 }), { nil: undefined }),
  timeoutAt: fc.option(fc.oneof(fc.integer({ min: 0, max: 12 }), fc.double({ min: -1, max: 12, noNaN: true })), { nil: undefined })
})

const randomLife: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({ kind: fc.constant("commit" as const), changes: fc.array(randomChange, { maxLength: 12 }), puts: fc.boolean() })
    },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constantFrom("confirm" as const, "return" as const, "crash" as const, "checkpoint" as const, "look" as const)
      })
    }
  ),
  { minLength: 60, maxLength: 90 }
)

type Start = (options: ProcessOptions) => Effect.Effect<RedisProcess, KeyfoldError, Scope.Scope>

let lives = 0

/** Runs one life and compares with the Map at each look, and at its end. */
const live = Effect.fnUntraced(function* (start: Start, steps: readonly Step[]) {
  const of: JournalId = { query: "life", stage: "s", partition: ++lives }
  const model = new Map<string, KeyImage>()
  let unconfirmed: number[] = []
  let revision = 0
  let rest: readonly Step[] = [...steps, { kind: "look" }]
  while (rest.length > 0) {
    // Which of the two it is decides where the checkpoints are: in between everything, or only where they are waited for.
    const checkpointEveryMs = rest.length % 2 === 0 ? 1 : 30
    const process = yield* start({ worker: "w", limits: { checkpointEveryMs, historyKeptMs: rest.length % 3 === 0 ? 0 : 50 } })
    const tenure = Effect.gen(function* () {
      const owner: JournalOwner = yield* process.ownership.acquire(of)
      const head = yield* process.journal.open(owner, codec)
      expect(head.revision).toBe(revision)
      expect(head.progress).toBe(revision === 0 ? undefined : `progress ${revision}`)
      // What was confirmed just before a crash may come back, never less than what was not.
      const back = head.unpublished.map((one) => one.revision)
      expect(back.slice(back.length - unconfirmed.length)).toEqual(unconfirmed)
      unconfirmed = back
      while (rest.length > 0) {
        const [step, ...more] = rest as [Step, ...Step[]]
        rest = more
        if (step.kind === "commit") {
          revision += 1
          yield* process.journal.commit(owner, turn(revision, step.changes, step.puts ? output(String(revision), revision) : {}))
          if (step.puts) unconfirmed.push(revision)
          for (const change of step.changes) {
            if (change.bytes === undefined && change.timeoutAt === undefined) model.delete(change.keyText)
            else model.set(change.keyText, change)
          }
        } else if (step.kind === "confirm") {
          const upTo = unconfirmed[Math.floor(unconfirmed.length / 2)]
          if (upTo !== undefined) yield* process.journal.confirm(owner, upTo)
          unconfirmed = unconfirmed.filter((one) => one > (upTo ?? 0))
        } else if (step.kind === "checkpoint") yield* Effect.sleep(2 * checkpointEveryMs)
        else if (step.kind === "look") yield* look(process, owner, model)
        else if (step.kind === "return") return
        else return yield* Effect.andThen(process.crash, Effect.fail("crash"))
      }
    })
    yield* Effect.catch(Effect.scoped(tenure), (failure) => (failure === "crash" ? Effect.void : Effect.fail(failure as KeyfoldError)))
  }
})

const look = Effect.fnUntraced(function* ({ journal }: RedisProcess, owner: JournalOwner, model: ReadonlyMap<string, KeyImage>) {
  const images = [...model.values()].sort((left, right) => compareKeyTexts(left.keyText, right.keyText))
  const armed = images
    .filter(({ timeoutAt }) => timeoutAt !== undefined)
    .sort((left, right) => (left.timeoutAt as number) - (right.timeoutAt as number))
  for (const [before, countMax] of [
    [3, 4],
    [7.5, 100],
    [Number.POSITIVE_INFINITY, 5]
  ] as const) {
    const due = armed.filter(({ timeoutAt }) => (timeoutAt as number) < before).slice(0, countMax)
    expect((yield* journal.due(owner, { before, countMax })).map(readable)).toEqual(due.map(readable))
  }
  const span = armed.length === 0 ? undefined : { first: armed[0]?.timeoutAt, last: armed.at(-1)?.timeoutAt }
  expect(yield* journal.timeouts(owner)).toEqual(span)
  const loaded = yield* journal.load(owner, [...images.map(({ keyText }) => keyText), "nobody"])
  expect(loaded.map((one) => one && readable(one))).toEqual([...images.map(readable), undefined])
  expect((yield* journal.keys(owner)).map(readable)).toEqual(images.map(readable))
})
