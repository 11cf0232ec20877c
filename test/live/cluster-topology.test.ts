// Goal: on servers that are themselves clusters, their own fail-overs lose nothing that was promised: topics with three replicas whose
// leaders step down and die, a Redis Cluster whose primary dies.
// Method: three nats-servers and six redis-servers on loopback, worker processes under load. Order per key is checked. Rerun with SEED=<n>.
import { connect } from "@nats-io/transport-node"
import { type KeyfoldError, read, start } from "keyfold"
import { clustered } from "keyfold/clustered"
import { expect } from "vitest"
import { deadOf, finish, testOnOwnServers as test, totalsOf } from "../fixtures/cluster.ts"
import { direct, sessions } from "../fixtures/jobs.ts"
import { serverPlace } from "../fixtures/place.ts"
import { bytewise, requestLog, sessionLine } from "../fixtures/requests.ts"
import { Feeder, untilAllWork, Workers } from "../fixtures/siege.ts"
import { randomFrom, seedOr, sleep, until } from "../fixtures/world.ts"
import { startNatsCluster } from "../servers/nats-cluster.ts"
import { startRedisCluster } from "../servers/redis-cluster.ts"
import type { Server } from "../servers/server.ts"

const isFull = process.env["KEYFOLD_TEST"] === "full"
const seed = seedOr(20_140_111)
const log = requestLog(seed)

test(`R3 topics whose leaders step down and die, a Redis primary that fails over, durability replica (SEED=${seed})`, {
  timeout: 10 * 60_000
}, async () => {
  const random = randomFrom(seed)
  await using nats = await startNatsCluster(3)
  await using redis = await startRedisCluster()
  const address = `redis+cluster://${redis.nodes.map((node) => `127.0.0.1:${node.port}`).join(",")}`
  const options = { nats: nats.url, redis: address, level: "replica", lease: "3 seconds" } as const
  const runtime = clustered(options)
  const place = serverPlace(options)
  const feeder = new Feeder(place, log)
  await feeder.ready()
  const workers = new Workers(place, "direct")
  workers.add()
  workers.add()
  const portion = Math.ceil(log.lines.length / 8)
  await untilAllWork(workers, feeder, 120_000)

  const connection = await connect({ servers: [...nats.urls] })
  const stepDowns = isFull ? 40 : 5
  for (let count = 0; count < stepDowns; count++) {
    if (!feeder.isFeeding) feeder.feed(Math.ceil((2 * portion) / stepDowns), 2)
    const topic = random() < 0.5 ? "requests" : "sessions"
    // Refused while the group has no leader: then there is nothing to step down.
    await connection.request(`$JS.API.STREAM.LEADER.STEPDOWN.${topic}-${Math.floor(random() * 16)}`).catch(() => undefined)
    await sleep(random() * 200)
  }
  await connection.close()
  expect(workers.faults).toEqual([])

  const deaths = isFull ? 3 : 1
  for (let count = 0; count < deaths; count++) {
    if (!feeder.isFeeding) feeder.feed(Math.ceil(portion / deaths), 2)
    const victim = nats.nodes[Math.floor(random() * 3)] as Server
    await victim.kill()
    await sleep(2_000)
    await victim.start()
    await nats.ready()
  }
  expect(workers.faults).toEqual([])

  if (!feeder.isFeeding) feeder.feed(portion, 2)
  const primaries = await redis.primaries()
  const primary = primaries[Math.floor(random() * primaries.length)] as Server
  await primary.kill()
  await until("another node is primary in its place", async () => (await redis.primaries()).length === 3, 60_000)
  await feeder.fed(240_000)
  await untilAllWork(workers, feeder)
  await primary.start()
  await feeder.rest()
  expect(workers.faults, "with durability replica nothing that was acknowledged is lost").toEqual([])
  await workers.killAll()

  expect(await finish(runtime, direct), "late rows").toBe(0)
  const lines: string[] = []
  const newest = new Map<string, number>()
  for await (const { value } of read(runtime, sessions)) {
    lines.push(sessionLine(value))
    expect(value.start, `order of ${value.key}`).toBeGreaterThanOrEqual(newest.get(value.key) ?? 0)
    newest.set(value.key, value.start)
  }
  expect(bytewise(lines)).toEqual(log.sessions)
  expect(await deadOf(runtime, "direct")).toEqual([])
})

test("more replicas than there are servers are refused, and say so", async () => {
  await using nats = await startNatsCluster(3)
  await using redis = await startRedisCluster()
  const address = `redis+cluster://127.0.0.1:${redis.nodes[0]?.port}`
  const attempt = start(direct, { runtime: clustered({ nats: nats.url, redis: address, replicas: 5 }) })
  const thrown = await attempt.then(
    (query) => String(totalsOf(query).inputRows),
    (failure: KeyfoldError) => failure
  )
  expect(thrown).toMatchObject({ code: "durability-refused" })
})
