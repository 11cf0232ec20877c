// Goal: servers go away and come back, connections are cut or go deaf: no loss, no copy, no crash, bounded memory, and it goes on alone. What
// Redis has lost of what is out already stops the query loudly (P4).
// Method: worker processes over real servers and over a proxy that does what networks do; the log comes at a pace meanwhile. In the end the
// sessions must be exact. Rerun one case with SEED=<n>; KEYFOLD_TEST=full keeps servers away for 30 seconds.
import { readFileSync } from "node:fs"
import { connect } from "@nats-io/transport-node"
import { job, type KeyfoldError, publisher, read, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { describe, expect } from "vitest"
import { type Cluster, deadOf, finish, startCluster, testOnOwnServers as test, valuesOf } from "../fixtures/cluster.ts"
import { direct, sessions } from "../fixtures/jobs.ts"
import { serverPlace } from "../fixtures/place.ts"
import { bytewise, requestLog, sessionLine } from "../fixtures/requests.ts"
import { Feeder, untilAllWork, Workers } from "../fixtures/siege.ts"
import { randomFrom, seedOr, sleep, until } from "../fixtures/world.ts"
import { type Proxy as NetworkProxy, startProxy } from "../servers/proxy.ts"
import { redisInfo } from "../servers/redis-answer.ts"
import { restoreData, snapshotData } from "../servers/snapshot.ts"
import { natsVersionsForLong } from "../servers/versions.ts"

const isFull = process.env["KEYFOLD_TEST"] === "full"
const seed = seedOr(20_140_110)
const log = requestLog(seed)
const awayMs = isFull ? 30_000 : 4_000
const minutes = isFull ? 6 : 3
const residentMiBMax = 600

const expectExact = async (cluster: Cluster): Promise<void> => {
  expect(await finish(cluster.runtime, direct), "late rows").toBe(0)
  const lines: string[] = []
  let stored = 0
  const ends = new Map<number, number>()
  for await (const { value, info } of read(cluster.runtime, sessions)) {
    lines.push(sessionLine(value))
    ends.set(info.partition, info.position)
  }
  for (const end of ends.values()) stored += end
  expect(bytewise(lines)).toEqual(log.sessions)
  expect(stored, "records in the streams, copies included").toBe(lines.length)
  expect(await deadOf(cluster.runtime, "direct")).toEqual([])
}

/** Two workers and a feeder at work; `disturb` while they are. Then everything must come out. */
const underLoad = async (cluster: Cluster, place: string, disturb: (workers: Workers, feeder: Feeder) => Promise<void>): Promise<void> => {
  const feeder = new Feeder(cluster.place, log)
  await feeder.ready()
  const workers = new Workers(place, "direct")
  workers.add()
  workers.add()
  await untilAllWork(workers, feeder)
  feeder.feed(Math.floor(log.lines.length / 2), 4)
  await disturb(workers, feeder)
  expect(workers.faults).toEqual([])
  await untilAllWork(workers, feeder)
  await feeder.rest()
  for (const worker of workers.running) expect(residentMiB(worker.pid)).toBeLessThan(residentMiBMax)
  expect(workers.faults).toEqual([])
  await workers.killAll()
  await expectExact(cluster)
}

const residentMiB = (pid: number): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024

describe.each(natsVersionsForLong())(`nats-server %s, two workers over ${log.name} (SEED=${seed})`, (natsVersion) => {
  test.each(["nats", "redis"] as const)(
    `%s is killed, and is away for ${awayMs / 1_000} s`,
    { timeout: minutes * 60_000 },
    async (which) => {
      await using cluster = await startCluster({ natsVersion, lease: "2 seconds" })
      await underLoad(cluster, cluster.place, async () => {
        await cluster[which].kill()
        await sleep(awayMs)
        await cluster[which].start()
      })
    }
  )
})

describe(`a network between workers and servers (SEED=${seed})`, () => {
  interface Network {
    readonly nats: NetworkProxy
    readonly redis: NetworkProxy
  }

  const overNetwork = async (disturb: (network: Network, workers: Workers, feeder: Feeder) => Promise<void>): Promise<void> => {
    await using cluster = await startCluster({ lease: "2 seconds" })
    await using nats = await startProxy({ to: cluster.nats.port })
    await using redis = await startProxy({ to: cluster.redis.port })
    const place = serverPlace({ ...cluster.options, nats: `nats://127.0.0.1:${nats.port}`, redis: `redis://127.0.0.1:${redis.port}` })
    await underLoad(cluster, place, (workers, feeder) => disturb({ nats, redis }, workers, feeder))
  }

  test("connections are cut again and again, to both", { timeout: minutes * 60_000 }, async () => {
    const random = randomFrom(seed)
    const cuts = isFull ? 60 : 15
    await overNetwork(async ({ nats, redis }) => {
      for (let cut = 0; cut < cuts; cut++) {
        await sleep(random() * 600)
        ;(random() < 0.5 ? nats : redis).cut()
      }
    })
  })

  test.each(["nats", "redis"] as const)("half-open: %s takes bytes and answers nothing", { timeout: minutes * 60_000 }, async (which) => {
    await overNetwork(async (network) => {
      network[which].swallow(true)
      await sleep(isFull ? 20_000 : 6_000)
      network[which].swallow(false)
    })
  })

  if (isFull) {
    test("every answer takes 60 ms", { timeout: minutes * 60_000 }, async () => {
      await overNetwork(async ({ nats, redis }, _workers, feeder) => {
        nats.delay(30)
        redis.delay(30)
        await feeder.fed()
        nats.delay(0)
        redis.delay(0)
      })
    })
  }
})

interface Count {
  readonly key: string
  readonly count: number
}

const events = topic("events", { codec: json<{ readonly key: string }>(), key: (event) => event.key, partitions: 1 })
const counts = topic("counts", { codec: json<Count>(), key: (count) => count.key, partitions: 1 })

const counted = job("counted")
  .from(events)
  .groupByKey()
  .flatMapGroupsWithState({ state: json<number>() }, function* (key, found, state) {
    let count = state.getOption() ?? 0
    for (const _ of found) yield { key, count: ++count }
    state.update(count)
  })
  .to(counts)

test("P4: Redis comes back without its last moments, with outputs out: refused loudly; with acceptLoss it goes on, and says again what it had lost", async () => {
  await using cluster = await startCluster()
  const { runtime } = cluster
  const publish = async (count: number): Promise<void> => {
    await using out = await publisher(runtime, events)
    for (let index = 0; index < count; index++) void out.send({ key: `k${index % 3}` })
    await out.flush()
  }
  await publish(30)
  const query = await start(counted, { runtime })
  await query.processAllAvailable()
  // While an fsync is under way (everysec) it holds back what it would write, though it has answered.
  await until("its log has all", async () => (await redisInfo(cluster.redis.port)).get("aof_buffer_length") === "0")
  const snapshot = snapshotData(cluster.redis)
  await publish(30)
  await query.processAllAvailable()
  const out = await valuesOf(runtime, counts)
  expect(out).toHaveLength(60)

  await restoreData(cluster.redis, snapshot)
  const stopped = await query.awaitTermination(60_000).then(
    () => undefined,
    (thrown: KeyfoldError) => thrown
  )
  expect(stopped?.code).toBe("journal-behind-outputs")
  expect(stopped?.message).toMatch(/counts\/0 .*--accept-loss/)

  const refused = await start(counted, { runtime, trigger: "available-now" })
    .then((again) => again.awaitTermination())
    .catch((thrown: KeyfoldError) => thrown.code)
  expect(refused).toBe("journal-behind-outputs")
  expect(await valuesOf(runtime, counts), "a refusal changes nothing").toEqual(out)

  const accepted = await start(counted, { runtime, trigger: "available-now", acceptLoss: true })
  await accepted.awaitTermination()
  await publish(3)
  const after = await start(counted, { runtime, trigger: "available-now" })
  await after.awaitTermination()
  const found = await valuesOf(runtime, counts)
  expect(found).toHaveLength(60 + 30 + 3)
  const lasts = new Map(found.map(({ key, count }) => [key, count]))
  expect([...lasts.values()], "the states are whole again").toEqual([21, 21, 21])
})

test("a query that waits for a server says so, and ends within seconds when it is told to", async () => {
  await using cluster = await startCluster({ lease: "1 second" })
  const query = await start(counted, { runtime: cluster.runtime })
  await cluster.redis.kill()
  await until("it says what it waits for", () => /^waiting: .*Redis/.test(query.status.message))
  await cluster.redis.start()
  await until("it goes on", () => query.status.message === "waiting for data")
  await cluster.nats.kill()
  await until("also while it keeps its partitions", () => /^waiting: NATS .*cannot be reached/.test(query.status.message))
  await cluster.nats.start()
  await until("it goes on again", () => query.status.message === "waiting for data")
  await cluster.nats.kill()
  await cluster.redis.kill()
  const beganMs = performance.now()
  await query.stop()
  expect(performance.now() - beganMs).toBeLessThan(20_000)
  expect(query.isActive).toBe(false)
})

test("a reader that follows waits while NATS is away, however long, and goes on with what it had not read", async () => {
  await using cluster = await startCluster()
  const lines = topic("lines", { codec: json<number>(), key: String, partitions: 1 })
  const publish = async (value: number): Promise<void> => {
    await using out = await publisher(cluster.runtime, lines)
    await out.send(value)
  }
  await publish(1)
  const following = read(cluster.runtime, lines, { follow: true })[Symbol.asyncIterator]()
  const next = async (): Promise<unknown> => (await following.next()).value?.value
  expect(await next()).toBe(1)
  await publish(2)
  const connection = await connect({ servers: cluster.nats.url })
  await until("the server has sent it the second one, so that it will ask where the end is", async () => {
    const consumers = (await connection.request("$JS.API.CONSUMER.LIST.lines-0")).json<Consumers>()
    return consumers.consumers.some(({ delivered }) => delivered.stream_seq === 2)
  })
  await connection.close()
  await cluster.nats.kill()
  const second = next()
  // Longer than a question waits for its answer.
  expect(await Promise.race([second, sleep(7_000)])).toBe(undefined)
  await cluster.nats.start()
  expect(await second).toBe(2)
  await publish(3)
  expect(await next()).toBe(3)

  await cluster.nats.kill()
  const third = next()
  await following.return?.()
  expect(await third, "it can be left meanwhile").toBe(undefined)
})

interface Consumers {
  readonly consumers: readonly { readonly delivered: { readonly stream_seq: number } }[]
}
