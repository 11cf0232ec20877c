/** Whether Redis is set up for the durability that was asked for. */
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import { type RedisReply, replyParts, replyText } from "../storage/redis-link.ts"
import { type DurabilityDemand, type DurabilityLevel, isBelow, settle } from "./durability.ts"
import type { RedisConnection } from "./redis.ts"
import { redisFailure } from "./redis-failures.ts"
import type { Lasting } from "./redis-lasting.ts"

const settingsRead = ["maxmemory-policy", "appendfsync", "no-appendfsync-on-rewrite"]
const versionMin = [7, 0]
const versionOfWaitAof = [7, 2]

/**
 * Answers what each commit has to wait for besides its answer. Fails with `durability-refused` when strict and something is missing, and
 * always on a Redis that is too old.
 */
export const checkRedisDurability = Effect.fnUntraced(function* (connection: RedisConnection, demand: DurabilityDemand) {
  const infos = yield* Effect.mapError(connection.everywhere("INFO", []), (thrown) => redisFailure(connection.name, thrown, "INFO"))
  const configs = yield* Effect.orElseSucceed(connection.everywhere("CONFIG", ["GET", ...settingsRead]), () => undefined)
  const servers = infos.map((info, index) => factsOf(infoIn(info), configs && pairsIn(configs[index])))
  const old = servers.find(({ version }) => isBelow(version, versionMin))
  if (old !== undefined) return yield* Effect.fail(tooOld(connection.name, old))
  const faults = [...new Set(servers.flatMap((server) => faultsOf(server, demand.level)))]
  const messages = faults.map((fault) => `${connection.name} ${fault}`)
  yield* settle(demand, messages)
  return lastingOf(servers, demand.level)
})

// ---- what a server is

interface ServerFacts {
  readonly version: readonly number[]
  readonly evicts: boolean
  readonly policy: string
  readonly hasAppendLog: boolean
  /** Undefined where the user may not read the configuration. */
  readonly appendFsync: string | undefined
  readonly skipsFsync: boolean
  readonly replicas: number
}

const factsOf = (info: ReadonlyMap<string, string>, config: ReadonlyMap<string, string> | undefined): ServerFacts => {
  const policy = config?.get("maxmemory-policy") ?? info.get("maxmemory_policy") ?? "noeviction"
  return {
    version: (info.get("redis_version") ?? "0").split(".").map(Number),
    evicts: policy !== "noeviction",
    policy,
    hasAppendLog: info.get("aof_enabled") === "1",
    appendFsync: config?.get("appendfsync"),
    skipsFsync: config?.get("no-appendfsync-on-rewrite") === "yes",
    replicas: Number(info.get("connected_slaves") ?? 0)
  }
}

/** The lines of INFO. */
const infoIn = (reply: RedisReply): ReadonlyMap<string, string> => {
  const lines = replyText(reply)
    .split("\r\n")
    .map((line) => /^(\w+):(.*)$/.exec(line))
  return new Map(lines.flatMap((found) => (found === null ? [] : [[found[1] as string, found[2] as string]])))
}

const pairsIn = (reply: RedisReply | undefined): ReadonlyMap<string, string> => {
  const parts = replyParts(reply).map(replyText)
  return new Map(parts.flatMap((name, index) => (index % 2 === 0 ? [[name, parts[index + 1] ?? ""]] : [])))
}

// ---- what is missing

const faultsOf = (server: ServerFacts, level: DurabilityLevel): readonly string[] => {
  const faults: string[] = []
  if (server.evicts) faults.push(`removes keys when it is full (maxmemory-policy ${server.policy}): set it to noeviction`)
  if (!server.hasAppendLog) {
    faults.push("keeps no append-only file, so a restart loses what came since its last snapshot, or everything: set appendonly yes")
  }
  if (level === "machine" && server.hasAppendLog) faults.push(...diskFaults(server))
  if (level === "replica" && server.replicas === 0) {
    faults.push("has no replica: with durability for the loss of a machine, turns wait until there is one")
  }
  return faults
}

const diskFaults = ({ appendFsync, skipsFsync, version }: ServerFacts): readonly string[] => {
  const faults: string[] = []
  if (appendFsync !== "always" && isBelow(version, versionOfWaitAof)) {
    faults.push(
      appendFsync === undefined
        ? "does not let this user read its configuration (CONFIG GET), so nobody knows when turns are on its disk: allow it, set appendfsync always, or use Redis 7.2 or newer"
        : `writes to its disk later than it answers (appendfsync ${appendFsync}): set it to always, or use Redis 7.2 or newer, where turns can wait`
    )
  }
  if (skipsFsync) faults.push("does not sync its disk while it rewrites its file (no-appendfsync-on-rewrite yes): set it to no")
  return faults
}

/** WAITAOF also where the configuration cannot be read: with appendfsync always it answers at once. */
const lastingOf = (servers: readonly ServerFacts[], level: DurabilityLevel): Lasting | undefined => {
  if (level === "replica") return "replica"
  const canWait = servers.every((server) => server.hasAppendLog && !isBelow(server.version, versionOfWaitAof))
  const isAlways = servers.every((server) => server.appendFsync === "always")
  return level === "machine" && canWait && !isAlways ? "disk" : undefined
}

const tooOld = (name: string, { version }: ServerFacts): KeyfoldError =>
  new KeyfoldError("durability-refused", `${name} is Redis ${version.join(".")}: keyfold needs ${versionMin.join(".")} or newer`)
