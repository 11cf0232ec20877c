/** Redis as the adapters of the clustered runtime use it: connected, checked, and waiting for what durability asks for. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import type { RedisLink } from "../storage/redis-link.ts"
import type { DurabilityDemand } from "./durability.ts"
import { checkRedisDurability } from "./durability-redis.ts"
import { connectRedis } from "./redis.ts"
import { makeLastingScript } from "./redis-lasting.ts"
import { type RedisOptions, redisSettings } from "./redis-settings.ts"

/** Closed with the scope. Fails with `option-invalid`, `unreachable` or `durability-refused`. */
export const openRedisLink = Effect.fnUntraced(function* (
  redis: string | RedisOptions,
  demand: DurabilityDemand
): Effect.fn.Return<RedisLink, KeyfoldError, Scope.Scope> {
  const settings = yield* Effect.try({ try: () => redisSettings(redis), catch: (thrown) => thrown as KeyfoldError })
  const connection = yield* connectRedis(settings)
  const lasting = yield* checkRedisDurability(connection, demand)
  const lastingScript = lasting && (yield* makeLastingScript(settings, lasting))
  const { name, script, command } = connection
  return { name, script, command, lastingScript }
})
