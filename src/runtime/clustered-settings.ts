/** What `clustered()` takes: options, their bounds, and what comes of them. */
import { type Fault, failWithFaults, reasonOf, shown } from "../errors.ts"
import { type Duration, toDurationMs } from "../model/duration.ts"
import { leaseMsDefault } from "../partition/ownership-redis.ts"
import { type DurabilityDemand, type DurabilityLevel, durabilityLevels } from "./durability.ts"
import { type NatsOptions, type NatsSettings, natsSettings } from "./nats-settings.ts"
import { type RedisOptions, redisSettings } from "./redis-settings.ts"

export interface ClusteredOptions {
  /** An address, `nats://host:4222` or several with commas, or an object. Carries the topics. */
  readonly nats: string | NatsOptions
  /** An address, `redis://host:6379`, `redis+sentinel://` or `redis+cluster://`, or an object. Holds the journals. */
  readonly redis: string | RedisOptions
  /** What to do when the servers are set up for less than `level`: warn (default), or refuse to start. */
  readonly durability?: "warn" | "strict"
  /** What a committed turn survives: `process` (default), `machine` or `replica`; docs/clustered.md has what each costs. */
  readonly level?: DurabilityLevel
  /** Replicas of the topics that are created, 1 to 5; default 1, with `replica` 3. Topics that exist keep theirs. */
  readonly replicas?: number
  /** How long a partition stays with a worker that is heard of no more, 1 second to 1 minute; default 4 seconds. */
  readonly lease?: Duration
}

export interface ClusteredSettings {
  readonly nats: NatsSettings
  readonly redis: ClusteredOptions["redis"]
  readonly redisName: string
  readonly demand: DurabilityDemand
  readonly replicas: number
  readonly leaseMs: number
}

const leaseMsLeast = 1_000
const leaseMsMost = 60_000
const replicasMax = 5
const optionNames = ["nats", "redis", "durability", "level", "replicas", "lease"]

/** Throws `option-invalid`, all faults at once. */
export const clusteredSettings = (to: ClusteredOptions): ClusteredSettings => {
  const faults: Fault[] = []
  const fault = (message: string) => void faults.push({ code: "option-invalid", message })
  const tried = <T>(make: () => T): T | undefined => {
    try {
      return make()
    } catch (thrown) {
      fault(reasonOf(thrown))
      return undefined
    }
  }
  const { durability = "warn", level = "process", lease = leaseMsDefault, nats, redis } = to ?? {}
  const replicas = to?.replicas ?? (level === "replica" ? 3 : 1)
  for (const name of Object.keys(to ?? {}).filter((name) => !optionNames.includes(name))) {
    fault(`there is no option called ${name}: the options are ${optionNames.join(", ")}`)
  }
  for (const [name, value] of Object.entries({ nats, redis })) {
    if (value === undefined) fault(`\`${name}\` is missing: where is it?`)
  }
  if (durability !== "warn" && durability !== "strict") fault(`durability must be "warn" or "strict", got ${shown(durability)}`)
  if (!Object.hasOwn(durabilityLevels, level)) fault(`level must be ${Object.keys(durabilityLevels).join(", ")}, got ${shown(level)}`)
  if (!(Number.isInteger(replicas) && replicas >= 1 && replicas <= replicasMax)) {
    fault(`replicas must be a whole number from 1 to ${replicasMax}, got ${shown(replicas)}`)
  }
  const leaseMs = tried(() => toDurationMs(lease, 1, "the lease")) ?? leaseMsDefault
  if (leaseMs < leaseMsLeast || leaseMs > leaseMsMost) fault(`the lease must be from 1 second to 1 minute, got ${shown(lease)}`)
  const natsParts = nats === undefined ? undefined : tried(() => natsSettings(nats))
  const redisParts = redis === undefined ? undefined : tried(() => redisSettings(redis))
  failWithFaults("option-invalid", "clustered", faults)
  return {
    nats: natsParts as NatsSettings,
    redis,
    redisName: redisParts?.name ?? "",
    demand: { level, isStrict: durability === "strict", warn },
    replicas,
    leaseMs
  }
}

const warn = (message: string): void => process.emitWarning(message, "KeyfoldWarning")
