/** What a chaos run runs on: one server of each kind, seats for workers, and clients of our own that no fault cuts off from the servers. */
import { copyFileSync } from "node:fs"
import { join } from "node:path"
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Redis } from "ioredis"
import { publisher, type Runtime, type Topic } from "keyfold"
import { clustered } from "keyfold/clustered"
import { numbered, requests, sessions } from "../fixtures/jobs.ts"
import { startNats } from "../servers/nats-server.ts"
import { startRedis } from "../servers/redis-server.ts"
import { type Server, startAll } from "../servers/server.ts"
import { serversFound } from "../servers/versions.ts"
import { Seat } from "./seat.ts"
import type { Violated } from "./verdict.ts"

export interface World extends AsyncDisposable {
  readonly nats: Server
  readonly redis: Server
  readonly seats: readonly Seat[]
  readonly runtime: Runtime
  readonly client: NatsConnection
}

export interface WorldOptions {
  readonly seed: number
  readonly seats: number
  /** Where the workers' logs go. */
  readonly logs: string
  readonly violated: Violated
}

const options = { lease: "2 seconds" } as const

/** The servers' versions follow from the seed. */
export const openWorld = async ({ seed, seats: count, logs, violated }: WorldOptions): Promise<World> => {
  const { nats: natsFound, redis: redisFound } = serversFound()
  const natsVersion = natsFound[seed % natsFound.length]?.version
  const redisVersion = redisFound[Math.floor(seed / natsFound.length) % redisFound.length]?.version
  const [nats, redis] = (await startAll([
    startNats({ ...(natsVersion !== undefined && { version: natsVersion }) }),
    // With `everysec` a Redis that is killed while its disk is slow may have lost what it had said was done: then a query stops, rightly (P4).
    startRedis({ ...(redisVersion !== undefined && { version: redisVersion }), appendfsync: "always" })
  ])) as [Server, Server]
  const around = { nats, redis, options, logs, jobs: "direct,chained", violated }
  const seats = await Promise.all(Array.from({ length: count }, (_, number) => Seat.open(number, around)))
  const client = await connect({
    servers: nats.url,
    noAsyncTraces: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
    pingInterval: 2_000
  })
  const runtime = clustered({ ...options, nats: nats.url, redis: redis.url })
  await createTopics(runtime)
  return {
    nats,
    redis,
    seats,
    client,
    runtime,
    async [Symbol.asyncDispose]() {
      await Promise.all(seats.map((seat) => seat.close()))
      await client.close()
      for (const server of [nats, redis])
        copyFileSync(join(server.directory, "log"), join(logs, `${server === nats ? "nats" : "redis"}.log`))
      await Promise.all([nats.stop(), redis.stop()])
    }
  }
}

/** nats-server 2.9 dies of a question for a message while the stream is being created: so nobody asks before they are. */
const createTopics = async (runtime: Runtime): Promise<void> => {
  const create = async <T>(topic: Topic<T>): Promise<void> => (await publisher(runtime, topic))[Symbol.asyncDispose]()
  await create(requests)
  await create(sessions)
  await create(numbered)
}

/** How often a partition got an owner, over all stages. */
export const takeOversIn = async ({ redis }: World): Promise<number> => {
  const client = new Redis(redis.port, "127.0.0.1")
  try {
    const metas = await client.keys("kf:{*/*}:meta")
    const epochs = await Promise.all(metas.map((meta) => client.hget(meta, "epoch")))
    return epochs.reduce((sum, epoch) => sum + Number(epoch ?? 0), 0)
  } finally {
    client.disconnect()
  }
}

export const streamInfo = async (
  { client }: World,
  stream: string
): Promise<{ readonly messages: number; readonly last_seq: number } | undefined> =>
  (await client.request(`$JS.API.STREAM.INFO.${stream}`)).json<{
    readonly state?: { readonly messages: number; readonly last_seq: number }
  }>().state
