// Goal: the same jobs, unchanged, give on servers what they give in one process, with any number of workers, which come and go.
// Method: real servers of each version; workers are queries of the same name, each connected by itself. The real log (KEYFOLD_TEST_DATA,
// else a seeded look-alike), whose true sessions are known. Waits are for conditions. Rerun one case with SEED=<n>.
import { connect } from "@nats-io/transport-node"
import { type Job, job, type KeyfoldError, publisher, type Query, read, start, stream, topic } from "keyfold"
import { clustered } from "keyfold/clustered"
import { json } from "keyfold/codecs/json"
import { afterAll, beforeAll, describe, expect } from "vitest"
import { type Cluster, deadOf, finish, startCluster, testOnOwnServers as test, totalsOf, valuesOf } from "../fixtures/cluster.ts"
import { chained, direct, type Request, requests, sessions } from "../fixtures/jobs.ts"
import { expectNumbered } from "../fixtures/numbered.ts"
import { bytewise, requestLog, sessionLine } from "../fixtures/requests.ts"
import { seedOr, until } from "../fixtures/world.ts"
import { natsVersions, redisVersions } from "../servers/versions.ts"

const seed = seedOr(20_140_108)
const log = requestLog(seed)

const publishAll = async (cluster: Cluster, portion: readonly Request[]): Promise<void> => {
  await using out = await publisher(cluster.runtime, requests)
  for (const request of portion) void out.send(request)
  await out.flush()
}

/** In every key's order, which is that of the topic. */
const expectOrdered = (found: readonly { readonly key: string; readonly start: number }[]): void => {
  for (const [key, ofKey] of Map.groupBy(found, (session) => session.key)) {
    const starts = ofKey.map((session) => session.start)
    expect(starts, key).toEqual(starts.toSorted((a, b) => a - b))
  }
}

const expectSessions = async (cluster: Cluster): Promise<void> => {
  const found = await valuesOf(cluster.runtime, sessions)
  expect(bytewise(found.map(sessionLine))).toEqual(log.sessions)
  expectOrdered(found)
  expect(await deadOf(cluster.runtime, "direct")).toEqual([])
}

const workersOf = (cluster: Cluster, what: Job, count: number): Promise<Query[]> =>
  Promise.all(Array.from({ length: count }, () => start(what, { runtime: clustered(cluster.options) })))

const stopAll = (queries: readonly Query[]): Promise<unknown> => Promise.all(queries.map((query) => query.stop()))

const oldestRedis = redisVersions()[0] as string

describe.each(natsVersions())(`nats-server %s, over ${log.name} (SEED=${seed})`, (natsVersion) => {
  const startServers = (): Promise<Cluster> => startCluster({ natsVersion, redisVersion: oldestRedis, lease: "2 seconds" })

  test("one worker, one bounded run: the sessions are exact", async () => {
    await using cluster = await startServers()
    await publishAll(cluster, log.requests)
    expect(await finish(cluster.runtime, direct), "late rows").toBe(0)
    await expectSessions(cluster)
  })

  test("three workers share the partitions while requests come; the sessions are exact", async () => {
    await using cluster = await startServers()
    const workers = await workersOf(cluster, direct, 3)
    await publishAll(cluster, log.requests)
    await workers[0]?.processAllAvailable()
    expect(workers.map((worker) => totalsOf(worker).inputRows > 0)).toEqual([true, true, true])
    expect(workers.reduce((sum, worker) => sum + totalsOf(worker).inputRows, 0)).toBe(log.requests.length)
    await stopAll(workers)
    expect(await finish(cluster.runtime, direct), "late rows").toBe(0)
    await expectSessions(cluster)
  })

  test("two hops over three workers, each bounded: exact, and all of them end", async () => {
    await using cluster = await startServers()
    await publishAll(cluster, log.requests)
    const late = await Promise.all([1, 2, 3].map(() => finish(clustered(cluster.options), chained)))
    expect(late).toEqual([0, 0, 0])
    await expectNumbered(cluster.runtime, log)
  })
})

describe("on one pair of servers", () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await startCluster({ lease: "2 seconds" })
  })
  afterAll(() => cluster[Symbol.asyncDispose]())

  interface Count {
    readonly key: string
    readonly count: number
  }
  const counting = (name: string) => {
    const events = topic(`${name}-in`, { codec: json<{ readonly key: string }>(), key: (event) => event.key, partitions: 4 })
    const counts = topic(`${name}-out`, { codec: json<Count>(), key: (count) => count.key, partitions: 2 })
    const counted = job(name)
      .from(events)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, function* (key, found, state) {
        let count = state.getOption() ?? 0
        for (const _ of found) yield { key, count: ++count }
        state.update(count)
      })
      .to(counts)
    return { events, counts, counted }
  }

  test("a state goes on where it was after a stop, in another worker", async () => {
    const { events, counts, counted } = counting("stopped")
    for (let round = 1; round <= 3; round++) {
      await using out = await publisher(cluster.runtime, events)
      for (let index = 0; index < 40; index++) void out.send({ key: `k${index % 10}` })
      await out.flush()
      const query = await start(counted, { runtime: clustered(cluster.options) })
      await query.processAllAvailable()
      await query.stop()
      const found = await valuesOf(cluster.runtime, counts)
      expect(found).toHaveLength(40 * round)
      expect(Math.max(...found.map(({ count }) => count))).toBe(4 * round)
    }
  })

  test("a foreign stream is read as it is, its filtered subjects only, and re-keyed", async () => {
    const connection = await connect({ servers: cluster.nats.url })
    const config = { name: "ORDERS", subjects: ["orders.>"], storage: "memory", retention: "limits", num_replicas: 1 }
    await connection.request("$JS.API.STREAM.CREATE.ORDERS", JSON.stringify(config))
    const lines = Array.from({ length: 300 }, (_, index) => ({ user: `u${index % 7}`, region: index % 3 === 0 ? "eu" : "us" }))
    for (const line of lines) await connection.request(`orders.${line.region}.${line.user}`, JSON.stringify(line))
    await connection.close()
    const perUser = topic("per-user", { codec: json<Count>(), key: (count) => count.key, partitions: 2 })
    const ofStream = (name: string, subjects?: readonly string[]) =>
      job(name)
        .from(stream({ stream: "ORDERS", codec: json<{ readonly user: string }>(), ...(subjects && { subjects }) }))
        .groupByKey((order): string => order.user)
        .flatMapGroupsWithState({ state: json<number>() }, function* (key, found, state) {
          const count = (state.getOption() ?? 0) + found.length
          state.update(count)
          yield { key: `${name} ${key}`, count }
        })
        .to(perUser)
    await finish(cluster.runtime, ofStream("all-orders"))
    await finish(cluster.runtime, ofStream("eu-orders", ["orders.eu.*"]))
    const last = new Map((await valuesOf(cluster.runtime, perUser)).map(({ key, count }) => [key, count]))
    const expected = [
      ...[...Map.groupBy(lines, ({ user }) => user)].map(([user, found]) => [`all-orders ${user}`, found.length] as const),
      ...[
        ...Map.groupBy(
          lines.filter(({ region }) => region === "eu"),
          ({ user }) => user
        )
      ].map(([user, found]) => [`eu-orders ${user}`, found.length] as const)
    ]
    expect([...last].sort()).toEqual(expected.sort())
  })

  test("a stream that is not there is named", async () => {
    const missing = job("missing")
      .from(stream({ stream: "NOWHERE", codec: json<{ readonly user: string }>() }))
      .to(topic("missing-out", { codec: json<{ readonly user: string }>(), key: ({ user }) => user, partitions: 1 }))
    await expect(start(missing, { runtime: cluster.runtime })).rejects.toThrow(/NOWHERE/)
  })

  test("a reader that follows sees results as they come, with headers and server times", async () => {
    const { events, counts, counted } = counting("followed")
    await using query = await start(counted, { runtime: cluster.runtime })
    await using out = await publisher(cluster.runtime, events)
    const following = read(cluster.runtime, counts, { follow: true })[Symbol.asyncIterator]()
    const beganMs = Date.now()
    for (let round = 1; round <= 5; round++) {
      await out.send({ key: "a" })
      const { value } = await following.next()
      expect(value?.value).toEqual({ key: "a", count: round })
      expect(value?.info.position).toBe(round)
      expect(Math.abs((value?.info.publishedAt ?? 0) - beganMs)).toBeLessThan(60_000)
    }
    await following.return?.()
    expect(query.isActive).toBe(true)
  })

  test("options that mean nothing are refused at once, all of them", () => {
    const attempt = (): unknown =>
      clustered({ nats: "http://x", redis: "nowhere", level: "forever", lease: 5, replicas: 9, color: 1 } as never)
    const thrown = caught(attempt)
    expect(thrown.code).toBe("option-invalid")
    expect(thrown.faults).toHaveLength(6)
    expect(caught(() => clustered(undefined as never)).message).toMatch(/`nats` is missing.*`redis` is missing/)
  })

  test("servers that are not there are named, without passwords", async () => {
    const nowhere = clustered({ nats: "nats://me:hidden@127.0.0.1:1", redis: cluster.redis.url })
    const thrown = await start(counting("nowhere").counted, { runtime: nowhere }).then(
      () => undefined,
      (failure: KeyfoldError) => failure
    )
    expect(thrown?.code).toBe("unreachable")
    expect(thrown?.message).toContain("127.0.0.1:1")
    expect(thrown?.message).not.toContain("hidden")
    const noRedis = clustered({ nats: cluster.nats.url, redis: "redis://:hidden@127.0.0.1:1" })
    await expect(start(counting("nowhere").counted, { runtime: noRedis })).rejects.toMatchObject({ code: "unreachable" })
  })

  test("a worker that joins takes its share, and one that leaves gives it back, while the others go on", async () => {
    const { events, counts, counted } = counting("rescaled")
    await using out = await publisher(cluster.runtime, events)
    let sent = 0
    const send = async (): Promise<void> => {
      for (let index = 0; index < 20; index++) void out.send({ key: `k${index}` })
      await out.flush()
      sent += 20
    }
    const [first] = await workersOf(cluster, counted, 1)
    await send()
    const [second] = await workersOf(cluster, counted, 1)
    await until("the second one works", async () => {
      await send()
      return totalsOf(second as Query).inputRows > 0
    })
    await (first as Query).stop()
    const before = totalsOf(second as Query).inputRows
    await send()
    await (second as Query).processAllAvailable()
    expect(totalsOf(second as Query).inputRows).toBeGreaterThanOrEqual(before + 20)
    await (second as Query).stop()
    const found = await valuesOf(cluster.runtime, counts)
    for (const [key, ofKey] of Map.groupBy(found, (count) => count.key)) {
      expect(
        ofKey.map(({ count }) => count),
        key
      ).toEqual(Array.from({ length: sent / 20 }, (_, index) => index + 1))
    }
  })
})

const caught = (attempt: () => unknown): KeyfoldError => {
  try {
    attempt()
  } catch (thrown) {
    return thrown as KeyfoldError
  }
  throw new Error("nothing was thrown")
}
