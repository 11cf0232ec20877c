/** Simulated servers, and workers that run the real adapters, journal, ownership and partitions over connections to them. */

import type { NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import { makeRuntime, type Runtime, type TopicPorts } from "../ports.ts"
import { clusteredPorts } from "../runtime/clustered-ports.ts"
import { makeJetStreamSink, payloadBytesMaxOf } from "../sink/jetstream.ts"
import { makeJetStreamSource } from "../source/jetstream.ts"
import type { RedisLink } from "../storage/redis-link.ts"
import { Weather } from "./line.ts"
import { SimulatedNatsClient } from "./nats-client.ts"
import { NatsServer } from "./nats-server.ts"
import { SimulatedProcess } from "./process.ts"
import { SimulatedRedisClient } from "./redis-client.ts"
import { RedisServer } from "./redis-server.ts"
import type { World } from "./world.ts"

export type ServerName = "nats" | "redis"

/** A process, and the ways between it and the servers. */
export interface Machine {
  readonly process: SimulatedProcess
  readonly weather: Readonly<Record<ServerName, Weather>>
  readonly runtime: Runtime
  /** Its connections, closed with the scope. */
  readonly nats: Effect.Effect<NatsConnection, never, Scope.Scope>
  readonly redis: Effect.Effect<RedisLink, never, Scope.Scope>
}

export interface ClusterOptions {
  readonly leaseMs: number
  /** Durability `machine`: outputs leave when what they come from is on Redis' disk. */
  readonly isLasting: boolean
  /** Of topics that do not say how many they have. */
  readonly partitionsDefault?: number
}

export class SimulatedCluster {
  readonly world: World
  readonly nats: NatsServer
  readonly redis: RedisServer
  readonly #options: ClusterOptions
  readonly #machines: Machine[] = []
  readonly #down = new Set<ServerName>()

  constructor(world: World, options: ClusterOptions) {
    this.world = world
    this.nats = new NatsServer(world)
    this.redis = new RedisServer(world)
    this.#options = options
  }

  /** Those whose process is not dead. */
  get machines(): readonly Machine[] {
    return this.#machines.filter(({ process }) => !process.isDead)
  }

  machine(): Machine {
    const count = this.#machines.length + 1
    const process = new SimulatedProcess(this.world, `worker-${count}`, count)
    const weather = { nats: new Weather(), redis: new Weather() }
    for (const server of this.#down) weather[server].isDown = true
    const nats = Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new SimulatedNatsClient(process, this.nats, weather.nats)),
        (client) => Effect.promise(() => client.close())
      ),
      (client) => client.connection
    )
    const redis = Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new SimulatedRedisClient(process, this.redis, weather.redis)),
        (client) => Effect.sync(() => client.close())
      ),
      (client) => client.link(this.#options.isLasting)
    )
    const machine: Machine = { process, weather, nats, redis, runtime: this.#runtime({ process, nats, redis }) }
    this.#machines.push(machine)
    return machine
  }

  /** A server is killed: all its connections end, and nobody gets a new one. */
  takeDown(server: ServerName): void {
    this.#down.add(server)
    this.#everywhere(server, (weather) => {
      weather.isDown = true
      weather.cut()
    })
    if (server === "nats") this.nats.restart()
  }

  bringUp(server: ServerName): void {
    this.#down.delete(server)
    this.#everywhere(server, (weather) => {
      weather.isDown = false
    })
  }

  /** All is well again: servers, ways, clocks, processes. */
  heal(): void {
    for (const server of ["nats", "redis"] as const) {
      this.bringUp(server)
      this.#everywhere(server, (weather) => weather.clear())
    }
    this.nats.isStarting = false
    this.nats.straggling = 0
    this.nats.copying = 0
    this.nats.doubling = 0
    this.nats.depose(0)
    this.nats.skewMs = 0
    this.redis.skewMs = 0
    this.nats.isFull = false
    this.redis.isFull = false
    for (const { process } of this.#machines) {
      process.skewMs = 0
      process.spare()
      process.resume()
    }
  }

  #everywhere(server: ServerName, act: (weather: Weather) => void): void {
    for (const { weather } of this.#machines) act(weather[server])
  }

  #runtime({ process, nats, redis }: Pick<Machine, "process" | "nats" | "redis">): Runtime {
    const { leaseMs, partitionsDefault } = this.#options
    const topics = topicsOver(nats, partitionsDefault)
    return makeRuntime(`simulated(seed ${this.world.seed})`, {
      query: Effect.fnUntraced(function* (limits) {
        const parts = { topics: yield* topics, link: yield* redis, limits, worker: process.name, leaseMs }
        return yield* clusteredPorts(parts)
      }),
      client: topics
    })
  }
}

const topicsOver = (nats: Machine["nats"], partitionsDefault: number | undefined): Effect.Effect<TopicPorts, KeyfoldError, Scope.Scope> =>
  Effect.gen(function* () {
    const connection = yield* nats
    const source = yield* makeJetStreamSource(connection, { replicas: 1 })
    const open: typeof source.open = (name, declared) =>
      source.open(name, {
        ...declared,
        partitionsDefault: Math.min(declared.partitionsDefault, partitionsDefault ?? declared.partitionsDefault)
      })
    return {
      source: { ...source, open },
      sink: yield* makeJetStreamSink(connection),
      payloadBytesMax: payloadBytesMaxOf(connection)
    }
  })
