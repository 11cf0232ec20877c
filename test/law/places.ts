// Where members meet: a Redis, the sites from which they reach it, and what can happen to both. Real servers have one implementation, and
// simulated ones another, so that both keep the same laws.
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../../src/errors.ts"
import { connectRedis } from "../../src/runtime/redis.ts"
import { redisSettings } from "../../src/runtime/redis-settings.ts"
import type { Machine, SimulatedCluster } from "../../src/simulation/cluster.ts"
import { bytesOf, type RedisData } from "../../src/simulation/redis-data.ts"
import type { RedisLink, RedisReply } from "../../src/storage/redis-link.ts"
import { startProxy } from "../servers/proxy.ts"
import type { Server } from "../servers/server.ts"
import { restoreData, snapshotData } from "../servers/snapshot.ts"

/** `{ a: 3 }`: a stage "a" of three partitions. */
export type Counts = Readonly<Record<string, number>>

/** Where one member is. */
export interface Site {
  readonly connect: Effect.Effect<Pick<RedisLink, "script">, KeyfoldError, Scope.Scope>
  /** An effect as the process there runs it: simulated ones have a clock, chance and a scheduler of their own. */
  readonly here: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

export interface SwallowingSite extends Site {
  /** Whatever is said on its connections is lost, and nobody is told; when that ends, they are lost too. */
  readonly swallow: (on: boolean) => void
}

export interface Place {
  /** Another one each time. */
  readonly site: Effect.Effect<Site>
  readonly swallowingSite: Effect.Effect<SwallowingSite, never, Scope.Scope>
  /** Does something to the data behind everybody's back. */
  readonly command: RedisLink["command"]
  readonly query: string
  readonly counts: Counts
  readonly leaseMs?: number
}

/** A Redis that can be ended and started again. */
export interface Host {
  readonly kill: Effect.Effect<void>
  readonly start: Effect.Effect<void>
  /** Answers how to end it and have it come back with the data of now. */
  readonly snapshot: Effect.Effect<Effect.Effect<void>>
}

type Where = Pick<Place, "query" | "counts">

// ---- real servers

export const realPlace = (url: string, where: Where): Place => {
  const direct = siteAt(url)
  const swallowingSite = Effect.gen(function* () {
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy({ to: Number(new URL(url).port) })),
      (open) => Effect.promise(() => open.stop())
    )
    return { ...siteAt(`redis://127.0.0.1:${proxy.port}`), swallow: proxy.swallow }
  })
  const command: Place["command"] = (name, key, args) =>
    Effect.scoped(Effect.flatMap(connectTo(url), (link) => link.command(name, key, args)))
  return { ...where, site: Effect.succeed(direct), swallowingSite, command }
}

const connectTo = (url: string) => connectRedis(redisSettings(url, {}))

const siteAt = (url: string): Site => ({ connect: connectTo(url), here: (effect) => effect })

export const realHost = (server: Server): Host => ({
  kill: Effect.promise(() => server.kill()),
  start: Effect.promise(() => server.start()),
  snapshot: Effect.sync(() => {
    const snapshot = snapshotData(server)
    return Effect.promise(() => restoreData(server, snapshot))
  })
})

// ---- simulated servers

/** Where everybody has a machine of its own. */
export const simulatedPlace = (cluster: SimulatedCluster, where: Where): Place => {
  const swallowingSite = Effect.sync(() => simulatedSite(cluster.machine()))
  const command: Place["command"] = (name, key, args) =>
    Effect.sync(() => handOf(name)(cluster.redis.data, bytesOf(key), args.map(bytesOf)))
  return { ...where, site: swallowingSite, swallowingSite, command }
}

export interface SimulatedSite extends SwallowingSite {
  readonly machine: Machine
}

export const simulatedSite = (machine: Machine): SimulatedSite => {
  const { redis: weather } = machine.weather
  const swallow = (on: boolean): void => {
    if (on) weather.worsen("both", { isDeaf: true })
    else weather.clear()
    if (!on) weather.cut()
  }
  return { machine, connect: machine.redis, here: Effect.provideContext(machine.process.context), swallow }
}

/** Commands that nobody but these laws gives. */
const hands: Readonly<Record<string, (data: RedisData, key: string, args: readonly string[]) => RedisReply>> = {
  HKEYS: (data, key) => [...data.hash(key).keys()].map((field) => Buffer.from(field, "latin1")),
  HSET: (data, key, [field = "", value = ""]) => {
    data.hset(key, [[field, value]])
    return 1
  },
  HDEL: (data, key, fields) => {
    data.hdel(key, fields)
    return fields.length
  },
  DEL: (data, key, others) => {
    for (const one of [key, ...others]) data.remove(one)
    return 1 + others.length
  }
}

const handOf = (name: string) => {
  const hand = hands[name]
  if (hand === undefined) throw new Error(`a place that is simulated has no hand for ${name}: add it to hands`)
  return hand
}

export const simulatedHost = (cluster: SimulatedCluster): Host => ({
  kill: Effect.sync(() => cluster.takeDown("redis")),
  start: Effect.sync(() => cluster.bringUp("redis")),
  snapshot: Effect.sync(() => {
    const snapshot = cluster.redis.data.copy()
    return Effect.sync(() => {
      cluster.takeDown("redis")
      replace(cluster.redis.data, snapshot)
      cluster.bringUp("redis")
    })
  })
})

/** Of what members leave: hashes and sorted sets. */
const replace = (data: RedisData, by: RedisData): void => {
  for (const key of data.keys) data.remove(key)
  for (const key of by.keys) {
    if (by.typeOf(key) === "hash") data.hset(key, [...by.hash(key)])
    else for (const [member, score] of by.zrange(key)) data.zadd(key, [[score, member]])
  }
}
