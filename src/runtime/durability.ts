/**
 * How much a turn survives once it is committed. Whether the servers are set up for it is looked at when the runtime connects
 * (durability-redis.ts, durability-nats.ts): what is missing is warned of, or, when durability is `strict`, refused.
 */
import * as Effect from "effect/Effect"
import { type Fault, KeyfoldError } from "../errors.ts"

/** What a committed turn, and every output that has left, survives. What survives less than it is asked for stops loudly (P4), never silently. */
export const durabilityLevels = {
  process: "the death of any worker at any time, and a restart of the servers; a crash of Redis may lose its last seconds",
  machine: "a power failure of a machine that a server runs on: a turn counts when it is on Redis' disk",
  replica: "the loss of that machine with its disk: a turn counts when a replica of Redis has it as well, in memory"
} as const

export type DurabilityLevel = keyof typeof durabilityLevels

export interface DurabilityDemand {
  readonly level: DurabilityLevel
  /** Refuses instead of warning. */
  readonly isStrict: boolean
  readonly warn: (message: string) => void
}

/** Warns of what is missing, or fails with `durability-refused` when strict. */
export const settle = (demand: DurabilityDemand, messages: readonly string[]): Effect.Effect<void, KeyfoldError> =>
  Effect.suspend(() => {
    if (demand.isStrict && messages.length > 0) return Effect.fail(refusal(demand.level, messages))
    for (const message of messages) demand.warn(message)
    return Effect.void
  })

export const isBelow = (version: readonly number[], least: readonly number[]): boolean => {
  const [major = 0, minor = 0] = version
  const [majorLeast = 0, minorLeast = 0] = least
  return major < majorLeast || (major === majorLeast && minor < minorLeast)
}

const refusal = (level: DurabilityLevel, messages: readonly string[]): KeyfoldError => {
  const faults = messages.map((message): Fault => ({ code: "durability-refused", message }))
  const demanded = `durability "strict" for the level ${level} (a turn survives ${durabilityLevels[level]})`
  return new KeyfoldError("durability-refused", `${demanded} is not what the servers are set up for: ${messages.join("; ")}`, { faults })
}
