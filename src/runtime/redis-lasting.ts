/**
 * Waiting until a write survives more than its answer says (P9): WAIT for a replica, WAITAOF for the disk. Redis lets a connection wait for
 * what that very connection has written, so each wait stands right behind a script that writes, on a connection of their own: the other one
 * goes on meanwhile, and after a reconnection nothing is taken for lasting that was written on another.
 *
 * While one wait is under way the next scripts gather, and then one wait serves them all.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import type { RedisReply, RunScript } from "../storage/redis-link.ts"
import { firstReady, openClient, untilReady } from "./redis.ts"
import type { RedisClient } from "./redis-client.ts"
import { redisFailure } from "./redis-failures.ts"
import type { RedisSettings } from "./redis-settings.ts"

/** On a disk of the server itself, or in the memory of one of its replicas. */
export type Lasting = "disk" | "replica"

/**
 * Longer than a slow disk takes twice: where Redis syncs once a second, a write waits for the sync under way and for the next. A wait that
 * gives up sooner is repeated with a new write, which the sync under way does not count for either, and so on for ever.
 */
const waitMs = 5_000
const readyMsMax = 1_000
const scriptsPerWaitMax = 256

/** On a connection of its own, closed with the scope. */
export const makeLastingScript = Effect.fnUntraced(function* (
  settings: RedisSettings,
  lasting: Lasting
): Effect.fn.Return<RunScript, KeyfoldError, Scope.Scope> {
  const client = yield* openClient(settings, waitMs)
  yield* firstReady(client, settings.name)
  const waits = new Waits(client, lasting)
  return (lua, keys, args) => {
    const asked = Effect.callback<RedisReply, Error>((resume) => {
      waits.ask({
        slot: client.isCluster ? slotOf(keys[0] ?? "") : 0,
        args: [lua, String(keys.length), ...keys, ...args],
        done: (thrown, reply) => resume(thrown === undefined ? Effect.succeed(reply) : Effect.fail(thrown))
      })
    })
    return Effect.mapError(Effect.andThen(untilReady(client, readyMsMax), asked), (thrown) =>
      redisFailure(settings.name, thrown, "a script and a wait")
    )
  }
})

interface Request {
  readonly slot: number
  readonly args: Parameters<RedisClient["send"]>[1]
  readonly done: (thrown: Error | undefined, reply: RedisReply) => void
}

class Waits {
  readonly #client: RedisClient
  readonly #lasting: Lasting
  /** By the node that they go to; a node is here while it waits. */
  readonly #gathering = new Map<string, Request[]>()

  constructor(client: RedisClient, lasting: Lasting) {
    this.#client = client
    this.#lasting = lasting
  }

  ask(request: Request): void {
    const nodes = this.#client.nodesOf(request.slot)
    const gathering = this.#gathering.get(nodes)
    if (gathering !== undefined) {
      gathering.push(request)
      return
    }
    this.#gathering.set(nodes, [])
    this.#send(nodes, [request])
  }

  #send(nodes: string, requests: readonly Request[]): void {
    const replies = new Map<Request, RedisReply>()
    const scripts = requests.map((request) => ({
      name: "EVAL",
      args: request.args,
      done: (thrown: Error | undefined, reply: RedisReply) => {
        if (thrown === undefined) replies.set(request, reply)
        else request.done(thrown, null)
      }
    }))
    const [name, args] = this.#lasting === "disk" ? ["WAITAOF", ["1", "0", String(waitMs)]] : ["WAIT", ["1", String(waitMs)]]
    const ended = (thrown: Error | undefined, reply: RedisReply): void => {
      const lacking = thrown ?? (countIn(reply) > 0 ? undefined : new Error(`no ${this.#lasting} has it within ${waitMs} ms`))
      for (const [request, answer] of replies) request.done(lacking, answer)
      if (replies.size < requests.length) this.#client.refresh()
      this.#next(nodes)
    }
    this.#client.sendTogether([...scripts, { name: name as string, args: args as string[], done: ended }])
  }

  #next(nodes: string): void {
    const gathered = this.#gathering.get(nodes) ?? []
    // A slot may have moved meanwhile.
    const requests = gathered.splice(0, scriptsPerWaitMax).filter((request) => {
      if (this.#client.nodesOf(request.slot) === nodes) return true
      request.done(new Error("the slot has moved"), null)
      return false
    })
    if (requests.length > 0) this.#send(nodes, requests)
    else if (gathered.length > 0) this.#next(nodes)
    else this.#gathering.delete(nodes)
  }
}

/** WAIT answers a number of replicas, WAITAOF one of disks and one of replicas' disks. */
const countIn = (reply: RedisReply): number => Number(Array.isArray(reply) ? reply[0] : reply)

/** The slot of a key with a hash tag: CRC-16 (XMODEM) of the tag. */
const slotOf = (key: string): number => {
  let crc = 0
  for (const byte of Buffer.from(key.slice(key.indexOf("{") + 1, key.indexOf("}")))) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff
  }
  return crc % 16_384
}
