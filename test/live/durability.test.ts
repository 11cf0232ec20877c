// Goal: what a turn survives is what was asked for, or somebody is told: by a warning, or by a refusal in strict.
// Method: real Redis servers with settings good and bad, and a replica that is stopped; a turn must not count before it is where it should be.
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { describe, expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { noHeaders } from "../../src/model/record.ts"
import { emptyOutbox, type Outbox } from "../../src/model/turn.ts"
import type { DurabilityLevel } from "../../src/runtime/durability.ts"
import { checkRedisDurability } from "../../src/runtime/durability-redis.ts"
import type { RedisConnection } from "../../src/runtime/redis.ts"
import { openRedisLink } from "../../src/runtime/redis-link.ts"
import { startProcess } from "../law/redis-process.ts"
import { type RedisOptions as ServerOptions, startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { compareVersions, redisVersions, running } from "../servers/versions.ts"

const versions = redisVersions().filter((version) => version !== running)
const id = { query: "q", stage: "s", partition: 0 }

const outbox: Outbox = {
  records: [
    { topic: "out", partition: 0, publishedAt: 0, headers: noHeaders, payload: new Uint8Array(1), identity: { writer: "w", number: 1 } }
  ],
  deliveries: []
}

const run = <A>(body: Effect.Effect<A, KeyfoldError, Scope.Scope>): Promise<A> => Effect.runPromise(Effect.scoped(body))

/** What is said of a server when it is connected to; the code and message of a refusal when it is strict. */
const said = async (url: string, level: DurabilityLevel): Promise<{ readonly warnings: readonly string[]; readonly strict: string }> => {
  const warnings: string[] = []
  await run(openRedisLink(url, { level, isStrict: false, warn: (message) => warnings.push(message) }))
  const strict = await run(
    openRedisLink(url, { level, isStrict: true, warn: () => expect.fail("strict does not warn") }).pipe(
      Effect.match({ onFailure: (error) => `${error.code}: ${error.message}`, onSuccess: () => "accepted" })
    )
  )
  // One refuses exactly where the other warns, and says no less.
  expect(strict.startsWith("durability-refused: ")).toBe(warnings.length > 0)
  for (const warning of warnings) expect(strict).toContain(warning)
  return { warnings, strict }
}

/** An owner of a journal, over a link that waits for what the level asks for. */
const ownerOn = (url: string, level: DurabilityLevel) =>
  Effect.gen(function* () {
    const link = yield* openRedisLink(url, { level, isStrict: false, warn: () => undefined })
    const process = yield* startProcess(link, { leaseMs: 2_000 })
    const owner = yield* process.ownership.acquire(id)
    yield* process.journal.open(owner, "f")
    const commit = (revision: number, outbox: Outbox = emptyOutbox) =>
      process.journal.commit(owner, { revision, progress: "p", changes: [], outbox })
    return { link, commit, lost: process.ownership.lost(owner) }
  })

const callsOf = async (client: Redis, command: string): Promise<number> =>
  Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await client.info("commandstats"))?.[1] ?? 0)

describe.each(versions)("redis %s", (version) => {
  /** Redis has WAITAOF from 7.2 on. CI runs on such a one as well. */
  const canWaitForDisk = compareVersions(version, "7.2.0") >= 0
  const settings: Readonly<Record<string, readonly [options: ServerOptions, level: DurabilityLevel, warning: RegExp | undefined]>> = {
    "process: an append-only file is enough": [{}, "process", undefined],
    "process: without an append-only file": [{ appendonly: false }, "process", /keeps no append-only file.*set appendonly yes$/],
    "process: snapshots are no append-only file": [{ appendonly: false, args: ["--save", "60 1"] }, "process", /keeps no append-only file/],
    "process: a policy that evicts": [
      { args: ["--maxmemory-policy", "allkeys-lru"] },
      "process",
      /removes keys when it is full \(maxmemory-policy allkeys-lru\): set it to noeviction$/
    ],
    "machine: synced always": [{ appendfsync: "always" }, "machine", undefined],
    "machine: synced every second": [{}, "machine", canWaitForDisk ? undefined : /later than it answers \(appendfsync everysec\)/],
    "machine: never synced": [{ appendfsync: "no" }, "machine", canWaitForDisk ? undefined : /later than it answers \(appendfsync no\)/],
    "machine: not synced during a rewrite": [
      { appendfsync: "always", args: ["--no-appendfsync-on-rewrite", "yes"] },
      "machine",
      /no-appendfsync-on-rewrite yes/
    ],
    "machine: without an append-only file": [{ appendonly: false }, "machine", /keeps no append-only file/],
    "replica: without one": [{}, "replica", /has no replica: .*turns wait until there is one$/]
  }
  test.each(Object.keys(settings))("the check at start: %s", async (name) => {
    const [options, level, warning] = settings[name] as (typeof settings)[string]
    await using server = await startRedis({ version, ...options })
    const { warnings } = await said(server.url, level)
    if (warning === undefined) expect(warnings).toEqual([])
    else {
      expect(warnings).toHaveLength(1)
      expect(warnings[0]).toMatch(warning)
      expect(warnings[0]).toContain(`Redis at 127.0.0.1:${server.port}`)
    }
  })

  test("the check at start says what it was not allowed to see, where that matters", async () => {
    await using server = await startRedis({ version, appendfsync: "always" })
    const admin = new Redis(server.url)
    await admin.call("ACL", "SETUSER", "default", "-config")
    admin.disconnect()
    expect((await said(server.url, "process")).warnings).toEqual([])
    const { warnings } = await said(server.url, "machine")
    if (canWaitForDisk) expect(warnings).toEqual([])
    else expect(warnings).toEqual([expect.stringMatching(/does not let this user read its configuration \(CONFIG GET\)/)])
  })

  test.skipIf(!canWaitForDisk)("P9 machine: a turn counts when it is on the disk (WAITAOF)", async () => {
    await using server = await startRedis({ version, appendfsync: "everysec" })
    const client = new Redis(server.url)
    await run(
      Effect.gen(function* () {
        const { commit, link } = yield* ownerOn(server.url, "machine")
        expect(link.lastingScript).toBeDefined()
        for (let revision = 1; revision <= 3; revision++) {
          yield* commit(revision)
          expect(yield* Effect.promise(() => callsOf(client, "waitaof"))).toBeGreaterThanOrEqual(revision)
        }
      })
    )
    client.disconnect()
  })

  test.skipIf(!canWaitForDisk)("P9 machine: partitions that commit at once wait together", async () => {
    await using server = await startRedis({ version, appendfsync: "everysec" })
    const client = new Redis(server.url)
    await run(
      Effect.gen(function* () {
        const link = yield* openRedisLink(server.url, { level: "machine", isStrict: true, warn: () => undefined })
        const process = yield* startProcess(link)
        const commits = Array.from({ length: 64 }, (_, partition) =>
          Effect.gen(function* () {
            const owner = yield* process.ownership.acquire({ ...id, partition })
            yield* process.journal.open(owner, "f")
            yield* process.journal.commit(owner, { revision: 1, progress: "p", changes: [], outbox: emptyOutbox })
          })
        )
        yield* Effect.all(commits, { concurrency: "unbounded" })
      })
    )
    // A second each, and one more that was under way, would be a minute and 64 waits.
    expect(await callsOf(client, "waitaof")).toBeLessThan(20)
    client.disconnect()
  })

  test("machine: where every append is synced nothing is waited for", async () => {
    await using server = await startRedis({ version, appendfsync: "always" })
    const link = await run(openRedisLink(server.url, { level: "machine", isStrict: true, warn: () => undefined }))
    expect(link.lastingScript).toBeUndefined()
  })

  const withReplica = async (use: (primary: Server, replica: Server) => Promise<void>): Promise<void> => {
    const begin = ["--repl-diskless-sync-delay", "0"]
    await using primary = await startRedis({ version, args: begin })
    await using replica = await startRedis({ version, args: [...begin, "--replicaof", "127.0.0.1", String(primary.port)] })
    const client = new Redis(replica.url)
    while (!(await client.info("replication")).includes("master_link_status:up")) await new Promise((wake) => setTimeout(wake, 5))
    client.disconnect()
    await use(primary, replica)
  }

  test("P9 replica: a turn counts when a replica has it; without an answer of one it is held, and the lease as well", () =>
    withReplica(async (primary, replica) => {
      expect((await said(primary.url, "replica")).warnings).toEqual([])
      await run(
        Effect.gen(function* () {
          const { commit, lost } = yield* ownerOn(primary.url, "replica")
          yield* commit(1)
          replica.pause()
          let isCommitted = false
          const held = yield* Effect.forkChild(
            Effect.andThen(
              commit(2),
              Effect.sync(() => {
                isCommitted = true
              })
            )
          )
          const fate = yield* Effect.raceFirst(Effect.as(Effect.sleep(4_500), "held"), Effect.as(lost, "lost"))
          expect([fate, isCommitted]).toEqual(["held", false])
          replica.resume()
          yield* Fiber.join(held)
          yield* commit(3)
        })
      )
    }))

  test("P9 replica: what a former owner has left is held until a replica has it", () =>
    withReplica(async (primary, replica) => {
      await run(
        Effect.gen(function* () {
          const admin = yield* Effect.acquireRelease(
            Effect.sync(() => new Redis(primary.url)),
            (client) => Effect.sync(() => client.disconnect())
          )
          const first = Effect.gen(function* () {
            const { commit } = yield* ownerOn(primary.url, "replica")
            yield* commit(1)
            replica.pause()
            const held = yield* Effect.forkChild(commit(2, outbox))
            while ((yield* Effect.promise(() => admin.xlen("kf:{q/s/0}:outbox"))) === 0) yield* Effect.sleep(5)
            // A stop does not wait for a replica that may never come.
            yield* Fiber.interrupt(held)
          })
          yield* Effect.scoped(first)

          const link = yield* openRedisLink(primary.url, { level: "replica", isStrict: false, warn: () => undefined })
          const next = yield* startProcess(link, { leaseMs: 20_000 })
          const owner = yield* next.ownership.acquire(id)
          const opening = yield* Effect.forkChild(next.journal.open(owner, "f"))
          yield* Effect.sleep(1_500)
          expect(opening.pollUnsafe()).toBeUndefined()
          replica.resume()
          expect((yield* Fiber.join(opening)).unpublished.map(({ revision }) => revision)).toEqual([2])
        })
      )
    }))

  test("P9 replica: nothing is taken for lasting because a new connection has written nothing yet", () =>
    withReplica(async (primary, replica) => {
      await run(
        Effect.gen(function* () {
          const { commit } = yield* ownerOn(primary.url, "replica")
          yield* commit(1)
          replica.pause()
          const admin = yield* Effect.acquireRelease(
            Effect.sync(() => new Redis(primary.url)),
            (client) => Effect.sync(() => client.disconnect())
          )
          const held = yield* Effect.forkChild(commit(2))
          for (let round = 0; round < 10; round++) {
            yield* Effect.sleep(100)
            yield* Effect.promise(() => admin.client("KILL", "TYPE", "normal", "SKIPME", "yes"))
            expect(held.pollUnsafe()).toBeUndefined()
          }
          replica.resume()
          yield* Fiber.join(held)
        })
      )
    }))
})

test("a Redis that is too old is refused, strict or not", async () => {
  const info = Buffer.from("# Server\r\nredis_version:6.2.14\r\naof_enabled:1\r\n")
  const connection = {
    name: "Redis at old:6379",
    everywhere: (name: string) => (name === "INFO" ? Effect.succeed([info]) : Effect.fail(new Error("ERR")))
  } as unknown as RedisConnection
  const error = await run(
    Effect.flip(checkRedisDurability(connection, { level: "process", isStrict: false, warn: () => undefined })).pipe(
      Effect.catch(() => Effect.die("it was accepted"))
    )
  )
  expect(error).toMatchObject({ code: "durability-refused", message: "Redis at old:6379 is Redis 6.2.14: keyfold needs 7.0 or newer" })
})
