// Goal: the connection to Redis comes about in every way it can be asked for, keeps its secrets, and what it says when it does not come about
// is what helps; journals survive fail-overs, behind sentinels and in a cluster.
// Method: real servers with users, certificates, sentinels and clusters; what kills them is in test/servers. Waits are for conditions.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { describe, expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { emptyOutbox, type JournalId, type TurnRecord } from "../../src/model/turn.ts"
import { makeRedisMembership } from "../../src/partition/membership-redis.ts"
import type { DurabilityDemand } from "../../src/runtime/durability.ts"
import { connectRedis } from "../../src/runtime/redis.ts"
import { openRedisLink } from "../../src/runtime/redis-link.ts"
import { type RedisOptions, redisSettings } from "../../src/runtime/redis-settings.ts"
import type { RedisLink } from "../../src/storage/redis-link.ts"
import { type RedisProcess, startProcess } from "../law/redis-process.ts"
import { bytes, textOf } from "../law/stores.ts"
import { hasOpenssl, makeCertificates } from "../servers/certificates.ts"
import { takePort } from "../servers/ports.ts"
import { startProxy } from "../servers/proxy.ts"
import { startRedisCluster } from "../servers/redis-cluster.ts"
import { startWatchedRedis, type WatchedRedis } from "../servers/redis-sentinel.ts"
import { startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { compareVersions, redisVersions, redisVersionsForLong, running } from "../servers/versions.ts"

const versions = redisVersions().filter((version) => version !== running)
const codec = "json/1"
const secret = "p@ss/w:rd%s3cret"

const idOf = (partition: number): JournalId => ({ query: "q", stage: "s", partition })

const turn = (revision: number): TurnRecord => ({
  revision,
  progress: `progress ${revision}`,
  changes: [
    { keyText: "a", bytes: bytes(String(revision)), timeoutAt: revision },
    { keyText: `k${revision}`, bytes: bytes(String(revision)), timeoutAt: undefined }
  ],
  outbox: emptyOutbox
})

/** What fails an effect that must fail. */
const failureOf = <A, R>(effect: Effect.Effect<A, KeyfoldError, R>): Effect.Effect<KeyfoldError, never, R> =>
  Effect.flip(effect).pipe(Effect.catch(() => Effect.die("it did not fail")))

const run = <A>(body: Effect.Effect<A, KeyfoldError, Scope.Scope>): Promise<A> => Effect.runPromise(Effect.scoped(body))

/** A few turns and a checkpoint over a connection that was asked for in some way. */
const works = (redis: string | RedisOptions, environment: Record<string, string> = {}): Effect.Effect<void, KeyfoldError, Scope.Scope> =>
  Effect.gen(function* () {
    const connection = yield* connectRedis(redisSettings(redis, environment))
    yield* worksOver(connection)
  })

const worksOver = (connection: Pick<RedisLink, "name" | "script" | "command">): Effect.Effect<void, KeyfoldError, Scope.Scope> =>
  Effect.gen(function* () {
    const { ownership, journal, link } = yield* startProcess(connection, { limits: { checkpointEveryMs: 1, historyKeptMs: 0 } })
    yield* Effect.scoped(
      Effect.gen(function* () {
        const owner = yield* ownership.acquire(idOf(0))
        const { revision } = yield* journal.open(owner, codec)
        for (let next = revision + 1; next <= revision + 5; next++) {
          yield* journal.commit(owner, turn(next))
          yield* journal.confirm(owner, next)
        }
        const checkpoints = (): number => link.calls.filter(({ name }) => name.includes("XTRIM")).length
        while (checkpoints() < 1) yield* Effect.sleep(2)
        yield* journal.load(owner, ["a", "nobody"])
        yield* journal.due(owner, { before: 1e9, countMax: 10 })
        yield* journal.timeouts(owner)
        expect((yield* journal.keys(owner)).length).toBe(revision + 6)
      })
    )
  })

/** Makes the user of docs/journal-format.md the only one. */
const grant = async (url: string, version: string, more = ""): Promise<void> => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/journal-format.md"), "utf8")
  const rights = /^ACL SETUSER (keyfold on) >PASSWORD (.*)$/m.exec(page) as RegExpExecArray
  // Redis refuses the name of a command that it does not have.
  const known = compareVersions(version, "7.2.0") >= 0 ? rights[2] : rights[2]?.replace(" +waitaof", "")
  const admin = new Redis(url)
  try {
    await admin.call("ACL", "SETUSER", ...`${rights[1]} >${secret} ${known}${more}`.split(" "))
    await admin.call("ACL", "SETUSER", "default", "off")
  } finally {
    admin.disconnect()
  }
}

describe.each(versions)("redis %s", (version) => {
  const withUser = async (use: (server: Server) => Promise<void>): Promise<void> => {
    await using server = await startRedis({ version })
    await grant(server.url, version)
    await use(server)
  }

  test("the rights that docs/journal-format.md gives are enough, and nothing is refused in silence", () =>
    withUser(async ({ port }) => {
      const warnings: string[] = []
      const demand: DurabilityDemand = { level: "process", isStrict: true, warn: (message) => warnings.push(message) }
      const options = { url: `redis://keyfold@127.0.0.1:${port}`, password: secret }
      await run(
        Effect.gen(function* () {
          const link = yield* openRedisLink(options, demand)
          yield* worksOver(link)
          const member = yield* makeRedisMembership(link, { leaseMs: 2_000 }).join("q", [idOf(0)])
          while (!member.isOurs(idOf(0))) yield* member.changed
        })
      )
      expect(warnings).toEqual([])
      const other = await run(
        Effect.gen(function* () {
          const connection = yield* connectRedis(redisSettings(options, {}))
          return yield* failureOf(connection.command("HGETALL", "foreign", []))
        })
      )
      expect(other.message).toContain("NOPERM")
    }))

  test("user and password come from the URL, from options, from a file, or from the environment", () =>
    withUser(async ({ port, directory }) => {
      const file = join(directory, "password")
      writeFileSync(file, `${secret}\n`)
      const at = `127.0.0.1:${port}`
      await run(works(`redis://keyfold:${encodeURIComponent(secret)}@${at}`))
      await run(works({ url: `redis://${at}`, username: "keyfold", password: secret }))
      await run(works({ url: `redis://keyfold@${at}`, passwordFile: file }))
      await run(works(`redis://${at}`, { KEYFOLD_REDIS_USERNAME: "keyfold", KEYFOLD_REDIS_PASSWORD: secret }))
      await run(works(`redis://${at}`, { KEYFOLD_REDIS_USERNAME: "keyfold", KEYFOLD_REDIS_PASSWORD_FILE: file }))
    }))

  test("a wrong password is refused at once, with the address and the cure and without the secret", () =>
    withUser(async ({ port }) => {
      const begin = performance.now()
      for (const options of [
        `redis://keyfold:wrong-${secret.slice(0, 4)}@127.0.0.1:${port}`.replace("@ss", "%40ss"),
        `redis://127.0.0.1:${port}`
      ]) {
        const error = await run(failureOf(works(options)))
        expect(error.code).toBe("unreachable")
        expect(error.message).toMatch(new RegExp(`Redis at 127.0.0.1:${port} cannot be reached \\(it refuses us: (WRONGPASS|NOAUTH)`))
        expect(error.message).toContain("Check user, password and rights")
        expect(JSON.stringify([error.message, error.stack, error.cause, error.faults])).not.toContain("ss/w")
        expect(error.message).not.toContain("wrong-")
      }
      expect(performance.now() - begin).toBeLessThan(4_000)
    }))

  if (redisVersionsForLong().includes(version)) {
    // Without openssl there are no certificates; CI has it.
    test.skipIf(!hasOpenssl())("TLS: a trusted authority, a certificate of our own, and nothing else", async () => {
      const { caFile, serverCertFile, serverKeyFile, clientCertFile, clientKeyFile } = makeCertificates()
      const tlsPort = await takePort()
      const args = [
        "--tls-port",
        String(tlsPort),
        "--tls-cert-file",
        serverCertFile,
        "--tls-key-file",
        serverKeyFile,
        "--tls-ca-cert-file",
        caFile
      ]
      await using _server = await startRedis({ version, args: [...args, "--tls-auth-clients", "yes"] })
      const url = `rediss://127.0.0.1:${tlsPort}`
      await run(works({ url, tls: { caFile, certFile: clientCertFile, keyFile: clientKeyFile } }))
      const environment = { KEYFOLD_REDIS_CA_FILE: caFile, KEYFOLD_REDIS_CERT_FILE: clientCertFile, KEYFOLD_REDIS_KEY_FILE: clientKeyFile }
      await run(works(url, environment))
      const untrusted = await run(failureOf(works({ url, tls: { certFile: clientCertFile, keyFile: clientKeyFile } })))
      expect(untrusted).toMatchObject({ code: "unreachable", message: expect.stringMatching(/certificate|self-signed/) })
      const unknown = await run(failureOf(works({ url, tls: { caFile } })))
      expect(unknown.code).toBe("unreachable")
    })
  }

  test("an address where nobody listens is said, with the reason", async () => {
    const port = await takePort()
    const error = await run(failureOf(works(`redis://127.0.0.1:${port}`)))
    expect(error.code).toBe("unreachable")
    expect(error.message).toContain(`Redis at 127.0.0.1:${port} cannot be reached`)
    expect(error.message).toContain("ECONNREFUSED")
  })

  test("a database that the server does not have, or does not let us use, is refused: ioredis would go on in database 0", async () => {
    await using server = await startRedis({ version })
    const error = await run(failureOf(works(`${server.url}/99`)))
    expect(error).toMatchObject({ code: "option-invalid", message: expect.stringMatching(/no database 99/) })
    await run(works(`${server.url}/3`))
    const admin = new Redis(server.url)
    expect(await admin.dbsize()).toBe(0)
    await admin.acl("SETUSER", "default", "-select")
    expect((await run(failureOf(works(`${server.url}/3`)))).code).toBe("unreachable")
    expect(await admin.dbsize()).toBe(0)
    admin.disconnect()
  })

  test("K3 a server that accepts and says nothing is unreachable after a bounded time", async () => {
    await using server = await startRedis({ version })
    server.pause()
    const begin = performance.now()
    expect((await run(failureOf(works(server.url)))).code).toBe("unreachable")
    expect(performance.now() - begin).toBeLessThan(15_000)
    server.resume()
  })

  test("L5 P10 a commit without an answer fails when the lease has run out, not when the connection is given up", async () => {
    await using server = await startRedis({ version })
    await using proxy = await startProxy({ to: server.port })
    const [code, ms] = await run(
      Effect.gen(function* () {
        const connection = yield* connectRedis(redisSettings(`redis://127.0.0.1:${proxy.port}`, {}))
        const { ownership, journal } = yield* startProcess(connection, { leaseMs: 600 })
        const owner = yield* ownership.acquire(idOf(0))
        yield* journal.open(owner, codec)
        proxy.swallow(true)
        const begin = performance.now()
        const error = yield* failureOf(journal.commit(owner, turn(1)))
        return [error.code, performance.now() - begin] as const
      })
    )
    expect(code).toBe("fenced")
    expect(ms).toBeLessThan(1_200) // a connection is given up after 1.5 s
  })

  test("P11 behind sentinels: a fail-over keeps what a replica has, or fences the owner; the journal goes on at the new primary", async () => {
    await using redis = await startWatchedRedis({ version, downAfterMs: 2_000 })
    const url = `redis+sentinel://${redis.sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")}/${redis.name}`
    await run(
      Effect.gen(function* () {
        const connection = yield* connectRedis(redisSettings(url, {}))
        expect(connection.name).toContain(`Redis ${redis.name} of the sentinels at 127.0.0.1:`)
        const process = yield* startProcess(connection, { worker: "w", leaseMs: 60_000 })
        const before = yield* committed(process, 3)
        expect(before).toBe(3)
        const first = yield* primaryOf(redis, () => true)
        const client = new Redis(first.url)
        expect(yield* Effect.promise(() => client.call("WAIT", "1", "10000"))).toBe(1)
        client.disconnect()
        yield* Effect.promise(() => first.kill())
        // What the replica had is there, and turns go on with it.
        expect(yield* eventually(() => committed(process, 2))).toBe(5)
        yield* primaryOf(redis, (primary) => primary !== first)
      })
    )
  }, 240_000)

  test("a Redis Cluster: the rights that docs/journal-format.md gives are enough", async () => {
    await using cluster = await startRedisCluster({ version })
    await Promise.all(cluster.urls.map((url) => grant(url, version, " +cluster|slots +cluster|info")))
    const url = `redis+cluster://${cluster.nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`
    const warnings: string[] = []
    const demand: DurabilityDemand = { level: "process", isStrict: false, warn: (message) => warnings.push(message) }
    await run(Effect.flatMap(openRedisLink({ url, username: "keyfold", password: secret }, demand), worksOver))
    expect(warnings).toEqual([])
  }, 60_000)

  test("a Redis Cluster: journals on every node; with durability for the loss of a machine a fail-over loses no turn", async () => {
    await using cluster = await startRedisCluster({ version })
    const url = `redis+cluster://${cluster.nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`
    await run(
      Effect.gen(function* () {
        const link = yield* openRedisLink(url, { level: "replica", isStrict: true, warn: () => undefined })
        const process = yield* startProcess(link, {
          worker: "w",
          leaseMs: 60_000,
          limits: { checkpointEveryMs: 50, historyKeptMs: 0 }
        })
        const partitions = Array.from({ length: 12 }, (_, partition) => partition)
        const heads = new Map(partitions.map((partition) => [partition, 0]))
        /** Commits until told to stop; a fault takes the partition over again, as a seat does. */
        let isOver = false
        const work = (partition: number): Effect.Effect<void, KeyfoldError> =>
          Effect.gen(function* () {
            while (!isOver) {
              yield* eventually(() =>
                Effect.scoped(
                  Effect.gen(function* () {
                    const owner = yield* process.ownership.acquire(idOf(partition))
                    const { revision } = yield* process.journal.open(owner, codec)
                    // Nothing that was committed is missing; one that was in doubt may be there.
                    const head = heads.get(partition) as number
                    expect([head, head + 1]).toContain(revision)
                    for (let next = revision + 1; !isOver; next++) {
                      yield* process.journal.commit(owner, turn(next))
                      heads.set(partition, next)
                    }
                    const [a] = yield* process.journal.load(owner, ["a"])
                    expect(textOf(a?.bytes)).toBe(String(heads.get(partition)))
                  })
                )
              )
            }
          })
        const disaster = Effect.gen(function* () {
          const all = (least: number) => [...heads.values()].every((head) => head >= least)
          while (!all(20)) yield* Effect.sleep(10)
          const [victim] = yield* Effect.promise(() => cluster.primaries())
          yield* Effect.promise(() => (victim as Server).kill())
          const reached = Math.max(...heads.values())
          yield* Effect.promise(() => cluster.ready())
          // The new primary has no replica yet, so its turns wait until the old one is back as one.
          yield* Effect.promise(() => (victim as Server).start())
          while (!all(reached + 20)) yield* Effect.sleep(10)
          isOver = true
        })
        yield* Effect.all([disaster, ...partitions.map(work)], { concurrency: "unbounded" })
        const onNodes = yield* Effect.promise(async () => {
          const primaries = await cluster.primaries()
          return Promise.all(primaries.map(({ url }) => countKeys(url)))
        })
        expect(onNodes).toHaveLength(3)
        for (const count of onNodes) expect(count).toBeGreaterThan(0)
      })
    )
  }, 120_000)
})

const countKeys = async (url: string): Promise<number> => {
  const client = new Redis(url)
  const count = await client.dbsize()
  client.disconnect()
  return count
}

/** Takes over, commits so many turns, gives back; answers the revision. */
const committed = ({ ownership, journal }: RedisProcess, turns: number): Effect.Effect<number, KeyfoldError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const owner = yield* ownership.acquire(idOf(0))
      const { revision } = yield* journal.open(owner, codec)
      for (let next = revision + 1; next <= revision + turns; next++) yield* journal.commit(owner, turn(next))
      return revision + turns
    })
  )

/** The server that all sentinels call the primary, once it is such a one. */
const primaryOf = (redis: WatchedRedis, isSo: (primary: Server) => boolean): Effect.Effect<Server> =>
  Effect.promise(async () => {
    for (;;) {
      const primary = await redis.primary()
      if (primary !== undefined && isSo(primary)) return primary
      await new Promise((wake) => setTimeout(wake, 20))
    }
  })

/** Again after what passes by itself; the test's own time is the bound. */
const eventually = <A>(attempt: () => Effect.Effect<A, KeyfoldError>): Effect.Effect<A, KeyfoldError> =>
  Effect.catch(attempt(), (error) =>
    error.code === "fenced" || error.code === "unreachable"
      ? Effect.andThen(
          Effect.sleep(20),
          Effect.suspend(() => eventually(attempt))
        )
      : Effect.fail(error)
  )
