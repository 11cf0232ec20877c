/**
 * What the Redis adapters need of a connection; runtime/redis.ts makes one. All keys of a call carry one hash tag, so that the same code
 * runs on one server, behind sentinels and on a cluster.
 *
 * K1. What is sent is sent to a primary, never to a replica.
 * K2. A call that fails with `unreachable` may have run or not, and may still run (P10): whoever repeats it makes sure that twice is once.
 * K3. A call takes a bounded time, also on a connection that has died without a word.
 * K4. A full server fails a script with `storage-full` before it has written anything; keys of another type fail with `directory-damaged`.
 */
import type * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"

export type RedisArgument = string | Uint8Array

/** Texts come as bytes: keys and states are binary. */
export type RedisReply = Buffer | number | null | readonly RedisReply[]

/** Runs a script, by its hash where the server knows it already. */
export type RunScript = (lua: string, keys: readonly string[], args: readonly RedisArgument[]) => Effect.Effect<RedisReply, KeyfoldError>

export interface RedisLink {
  /** For people: where it leads; no secrets. */
  readonly name: string
  readonly script: RunScript
  /** A command whose first argument is its key. */
  readonly command: (name: string, key: string, args: readonly RedisArgument[]) => Effect.Effect<RedisReply, KeyfoldError>
  /**
   * Runs a script that writes, and waits until this write, and with it all that its server had done before, survives what was asked for
   * when the connection was made (P9). Fails with `unreachable` when too few say so in time. Undefined: an answer says enough.
   */
  readonly lastingScript: RunScript | undefined
}

/** The text of a reply that is one; "" when there is none. */
export const replyText = (reply: RedisReply | undefined): string => {
  if (reply instanceof Buffer) return reply.toString()
  return typeof reply === "number" ? String(reply) : ""
}

/** The parts of a reply that has several. */
export const replyParts = (reply: RedisReply | undefined): readonly RedisReply[] => (Array.isArray(reply) ? reply : [])
