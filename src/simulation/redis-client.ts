/**
 * The connection of a simulated process to a simulated Redis, as runtime/redis.ts makes one to a real Redis (K1 to K4): a call is answered, or
 * fails with `unreachable` and may have run, or may still run.
 */
import * as Effect from "effect/Effect"
import { redisFailure } from "../runtime/redis-failures.ts"
import type { RedisArgument, RedisLink, RedisReply } from "../storage/redis-link.ts"
import { Line, type Weather } from "./line.ts"
import type { SimulatedProcess } from "./process.ts"
import { bytesOf, RedisError } from "./redis-data.ts"
import { nameOf, type RedisCall, type RedisServer } from "./redis-server.ts"

/** As the real connection does (runtime/redis-client.ts, redis.ts). */
const silentMsMax = 1_750
const readyMsMax = 1_000
const reconnectMs = { least: 20, most: 500 }

interface Pending {
  readonly done: (thrown: Error | undefined, reply: RedisReply) => void
}

export class SimulatedRedisClient {
  readonly #process: SimulatedProcess
  readonly #server: RedisServer
  readonly #weather: Weather
  #line: Line | undefined
  #isReady = false
  #isClosed = false
  readonly #pending = new Map<Pending, () => void>()
  readonly #ready = new Set<() => void>()

  constructor(process: SimulatedProcess, server: RedisServer, weather: Weather) {
    this.#process = process
    this.#server = server
    this.#weather = weather
    this.#connect()
  }

  /** `isLasting`: durability `machine`, where an answer comes when what was done is on disk. */
  link(isLasting: boolean): RedisLink {
    const name = "simulated Redis"
    const failing = (called: Effect.Effect<RedisReply, Error>, what: string) =>
      Effect.mapError(called, (thrown) => redisFailure(name, thrown, what))
    const script =
      (waits: boolean): RedisLink["script"] =>
      (lua, keys, args) =>
        failing(this.#call({ lua, keys: keys.map(bytesOf), args: args.map(bytesOf) }, waits), "a script")
    return {
      name,
      script: script(false),
      command: (command, key, args: readonly RedisArgument[]) =>
        failing(this.#call({ command, key: bytesOf(key), args: args.map(bytesOf) }, false), command),
      lastingScript: isLasting ? script(true) : undefined
    }
  }

  close(): void {
    this.#isClosed = true
    const line = this.#line
    if (line !== undefined) this.#lose(line, new Error("the connection was closed"))
  }

  #call(call: RedisCall, waits: boolean): Effect.Effect<RedisReply, Error> {
    return Effect.callback<RedisReply, Error>((resume) => {
      const send = (): void =>
        this.#send(call, waits, (thrown, reply) => resume(thrown === undefined ? Effect.succeed(reply) : Effect.fail(thrown)))
      if (this.#isReady) return send()
      const stop = this.#process.after(readyMsMax, () => {
        this.#ready.delete(ready)
        resume(Effect.fail(new Error("it does not answer")))
      })
      const ready = (): void => {
        stop()
        send()
      }
      this.#ready.add(ready)
      return Effect.sync(() => {
        stop()
        this.#ready.delete(ready)
      })
    })
  }

  #send(call: RedisCall, waits: boolean, done: Pending["done"]): void {
    const line = this.#line as Line
    const pending: Pending = { done }
    const watch = this.#process.after(silentMsMax + (waits ? 5_000 : 0), () => this.#lose(line, new Error("no answer")))
    this.#pending.set(pending, watch)
    const { history, nowMs: sentMs } = this.#process.world
    const answered = (thrown: Error | undefined, reply: RedisReply): void =>
      line.down(() => {
        if (!this.#pending.delete(pending)) return
        watch()
        done(thrown, reply)
      })
    line.up(() => {
      try {
        const reply = this.#server.answer(call, sentMs)
        history.add("redis", `${this.#process.name} ${nameOf(call)} ${inShort(reply)}`)
        if (waits) this.#server.whenSynced(() => answered(undefined, reply))
        else answered(undefined, reply)
      } catch (thrown) {
        if (!(thrown instanceof RedisError)) throw thrown
        history.add("redis", `${this.#process.name} ${nameOf(call)} ${thrown.message}`)
        answered(thrown, null)
      }
    })
  }

  #connect(): void {
    if (this.#isClosed) return
    if (this.#weather.isDown) {
      this.#reconnect()
      return
    }
    const line = new Line(this.#process, this.#weather, () => this.#lose(line, new Error("the connection was lost")))
    this.#line = line
    const stop = this.#process.after(silentMsMax, () => this.#lose(line, new Error("no answer")))
    const greeted = (): void => {
      stop()
      const waiting = [...this.#ready]
      this.#ready.clear()
      this.#isReady = true
      for (const ready of waiting) ready()
    }
    line.up(() => line.down(greeted))
  }

  #reconnect(): void {
    const { dice } = this.#process.world
    this.#process.after(dice.whole(reconnectMs.least, reconnectMs.most), () => this.#connect())
  }

  #lose(line: Line, thrown: Error): void {
    if (this.#line !== line) return
    line.close()
    this.#line = undefined
    this.#isReady = false
    const pending = [...this.#pending]
    this.#pending.clear()
    this.#reconnect()
    for (const [{ done }, stop] of pending) {
      stop()
      done(thrown, null)
    }
  }
}

/** The answer in short: a word, or that there are several things. */
const inShort = (reply: RedisReply): string => {
  if (reply === null) return "nothing"
  if (reply instanceof Buffer) return reply.length > 24 ? `${reply.length} bytes` : reply.toString("latin1")
  if (typeof reply === "number") return String(reply)
  const [first] = reply
  return first instanceof Buffer && first.length < 8 ? `${first.toString("latin1")} and ${reply.length - 1} more` : `${reply.length} parts`
}
