/** The servers that the benches of the clustered runtime run on, and what these say of themselves. */
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Redis } from "ioredis"
import { type ClusteredOptions, clustered } from "keyfold/clustered"
import { startNats } from "../test/servers/nats-server.ts"
import { takePort } from "../test/servers/ports.ts"
import { provision } from "../test/servers/provision.ts"
import { startRedis } from "../test/servers/redis-server.ts"
import { type Server, startAll } from "../test/servers/server.ts"

export interface BenchServers extends AsyncDisposable {
  readonly nats: Server
  readonly redis: Server
  readonly options: ClusteredOptions
  readonly runtime: ReturnType<typeof clustered>
  /** For whatever is done by hand. */
  readonly natsClient: NatsConnection
  readonly redisClient: Redis
  readonly versions: string
  readonly traffic: () => Promise<Traffic>
}

/** Counted by the servers since they were started. */
export interface Traffic {
  readonly redisCommands: number
  readonly redisBytesIn: number
  readonly redisBytesOut: number
  readonly redisUs: number
  readonly natsIn: number
  readonly natsOut: number
  readonly natsBytesIn: number
  readonly natsBytesOut: number
}

/** The newest at hand, one of each. Redis' rewriting of its file is off: it would fall into some rounds and not into others. */
export const startBenchServers = async (): Promise<BenchServers> => {
  await provision()
  const monitorPort = await takePort()
  const [nats, redis] = (await startAll([
    startNats({ config: `http: "127.0.0.1:${monitorPort}"` }),
    startRedis({ args: ["--auto-aof-rewrite-percentage", "0"] })
  ])) as [Server, Server]
  const options = { nats: nats.url, redis: redis.url }
  const natsClient = await connect({ servers: nats.url, noAsyncTraces: true })
  const redisClient = new Redis(redis.url)
  return {
    nats,
    redis,
    options,
    runtime: clustered(options),
    natsClient,
    redisClient,
    versions: `nats-server ${nats.version}, redis-server ${redis.version} (AOF everysec), on this machine`,
    traffic: () => trafficOf(redisClient, monitorPort),
    async [Symbol.asyncDispose]() {
      await natsClient.close()
      redisClient.disconnect()
      await nats.stop()
      await redis.stop()
    }
  }
}

const trafficOf = async (redis: Redis, monitorPort: number): Promise<Traffic> => {
  const [info, varz] = await Promise.all([redis.info("everything"), fetch(`http://127.0.0.1:${monitorPort}/varz`)])
  const natsSays = (await varz.json()) as Record<"in_msgs" | "out_msgs" | "in_bytes" | "out_bytes", number>
  const number = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1] ?? 0)
  const usec = [...info.matchAll(/^cmdstat_(?:evalsha|eval|xadd):calls=\d+,usec=(\d+)/gm)]
  return {
    redisCommands: number("total_commands_processed"),
    redisBytesIn: number("total_net_input_bytes"),
    redisBytesOut: number("total_net_output_bytes"),
    redisUs: usec.reduce((sum, [, us]) => sum + Number(us), 0),
    natsIn: natsSays.in_msgs,
    natsOut: natsSays.out_msgs,
    natsBytesIn: natsSays.in_bytes,
    natsBytesOut: natsSays.out_bytes
  }
}

export const trafficBetween = (before: Traffic, after: Traffic): Traffic =>
  Object.fromEntries(Object.entries(after).map(([name, value]) => [name, value - before[name as keyof Traffic]])) as unknown as Traffic
