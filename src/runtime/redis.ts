/** The connection to Redis: storage/redis-link.ts over ioredis, on one server, behind sentinels or on a cluster. */
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { KeyfoldError } from "../errors.ts"
import type { RedisArgument, RedisLink, RedisReply } from "../storage/redis-link.ts"
import { lookMsEvery, RedisClient } from "./redis-client.ts"
import { isUnknownScript, redisFailure } from "./redis-failures.ts"
import type { RedisSettings } from "./redis-settings.ts"

/** A link, and what the start-up check needs besides. */
export interface RedisConnection extends Pick<RedisLink, "name" | "script" | "command"> {
  /** A command on each primary, and their replies; fails with what the first to refuse has said. */
  readonly everywhere: (name: string, args: readonly string[]) => Effect.Effect<readonly RedisReply[], Error>
}

const connectMsMax = 5_000
/** A call waits this long for a connection before it says that there is none. */
const readyMsMax = 1_000
const everywhereMsMax = 5_000

/** Connected when it completes, closed with the scope. Fails with `unreachable`, saying why. */
export const connectRedis = Effect.fnUntraced(function* (
  settings: RedisSettings
): Effect.fn.Return<RedisConnection, KeyfoldError, Scope.Scope> {
  const client = yield* openClient(settings)
  const { name } = settings
  yield* firstReady(client, name)
  yield* selectDatabase(client, settings)
  return {
    name,
    script: (lua, keys, args) => {
      const rest = [String(keys.length), ...keys, ...args]
      const byText = (thrown: Error) => (isUnknownScript(thrown) ? send(client, "EVAL", [lua, ...rest]) : Effect.fail(thrown))
      return Effect.mapError(Effect.catch(send(client, "EVALSHA", [hashOf(lua), ...rest]), byText), (thrown) =>
        redisFailure(name, thrown, "a script")
      )
    },
    command: (command, key, args) =>
      Effect.mapError(send(client, command, [key, ...args]), (thrown) => redisFailure(name, thrown, command)),
    everywhere: (command, args) =>
      Effect.tryPromise({ try: () => client.everywhere(command, args), catch: (thrown) => thrown as Error }).pipe(
        Effect.timeoutOrElse({ duration: everywhereMsMax, orElse: () => Effect.fail(new Error(client.fault)) })
      )
  }
})

/** ioredis goes on in database 0 when the server refuses the one that was asked for: journals of two worlds would be one. */
const selectDatabase = (client: RedisClient, { name, database }: RedisSettings): Effect.Effect<void, KeyfoldError> => {
  if (database === 0) return Effect.void
  return Effect.mapError(Effect.asVoid(send(client, "SELECT", [String(database)])), (thrown) =>
    thrown.name === "ReplyError" && thrown.message.startsWith("ERR")
      ? new KeyfoldError("option-invalid", `${name} has no database ${database} (${thrown.message}): mend the number behind the address`)
      : redisFailure(name, thrown, "SELECT")
  )
}

/** With the watch over its connection; both end with the scope. */
export const openClient = (settings: RedisSettings, blockedMs = 0): Effect.Effect<RedisClient, never, Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new RedisClient(settings, blockedMs)),
      (open) => Effect.sync(() => open.close())
    )
    const look = Effect.andThen(
      Effect.sleep(lookMsEvery),
      Effect.sync(() => client.look())
    )
    yield* Effect.forkScoped(Effect.forever(look))
    return client
  })

/** What no waiting mends fails at once. */
export const firstReady = (client: RedisClient, name: string): Effect.Effect<void, KeyfoldError> => {
  const refused = Effect.gen(function* () {
    while (client.refusal === undefined) yield* Effect.sleep(lookMsEvery / 10)
    return yield* Effect.fail(client.refusal)
  })
  return Effect.mapError(Effect.raceFirst(untilReady(client, connectMsMax), refused), (thrown) => redisFailure(name, thrown, "AUTH"))
}

export const untilReady = (client: RedisClient, msMax: number): Effect.Effect<void, Error> =>
  Effect.callback<void>((resume) => {
    const forget = client.whenReady(() => resume(Effect.void))
    return Effect.sync(forget)
  }).pipe(Effect.timeoutOrElse({ duration: msMax, orElse: () => Effect.fail(new Error(client.fault)) }))

/** Sent once, on the connection that there is or that comes soon. */
const send = (client: RedisClient, name: string, args: readonly RedisArgument[]): Effect.Effect<RedisReply, Error> =>
  Effect.suspend(() => {
    const sent = Effect.callback<RedisReply, Error>((resume) => {
      client.send(name, args, (thrown, reply) => resume(thrown === undefined ? Effect.succeed(reply) : Effect.fail(thrown)))
    })
    return client.isReady ? sent : Effect.andThen(untilReady(client, readyMsMax), sent)
  })

const hashes = new Map<string, string>()

const hashOf = (lua: string): string => {
  let hash = hashes.get(lua)
  if (hash === undefined) {
    hash = createHash("sha1").update(lua).digest("hex")
    hashes.set(lua, hash)
  }
  return hash
}
