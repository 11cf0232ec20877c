/**
 * A simulated Redis: scripts and commands one after the other, by a clock of its own; a disk that it syncs now and then; and what happens to
 * servers. It may be killed (nothing is lost: it writes its log before it answers), lose its power (what was not synced is lost), or be full.
 */
import type { RedisReply } from "../storage/redis-link.ts"
import { type Bytes, RedisData, RedisError } from "./redis-data.ts"
import { type ScriptRun, simulatedScripts } from "./redis-scripts.ts"
import { Referee } from "./referee.ts"
import type { World } from "./world.ts"

/** `appendfsync everysec`. */
const syncMsEvery = 1_000
const callsPerCopy = 256

export interface ScriptCall {
  readonly lua: string
  readonly keys: readonly Bytes[]
  readonly args: readonly Bytes[]
}

export type RedisCall = ScriptCall | { readonly command: string; readonly key: Bytes; readonly args: readonly Bytes[] }

/** A script that has run, to be run again after a loss of power. */
interface Done {
  readonly call: ScriptCall
  readonly nowMicros: number
}

export class RedisServer {
  readonly #world: World
  /** How far its clock is ahead of the true time. */
  skewMs = 0
  /** It refuses writes that do not help it out (`maxmemory`). */
  isFull = false
  readonly referee = new Referee()
  #data = new RedisData()
  /** What was on disk for certain, and what was done since. */
  #synced = new RedisData()
  #sinceSynced: Done[] = []
  #waiting: (() => void)[] = []
  #runs = 0

  constructor(world: World) {
    this.#world = world
    this.#keepSyncing()
  }

  get data(): RedisData {
    return this.#data
  }

  /** How many scripts it has run. */
  get runs(): number {
    return this.#runs
  }

  /** Throws a RedisError for what it refuses. */
  answer(call: RedisCall, sentMs = this.#world.nowMs): RedisReply {
    if (!("lua" in call)) return this.#data.command(call.command, call.key, call.args)
    const script = simulatedScripts.get(call.lua)
    if (script === undefined) throw new Error("simulation: a script that simulatedScripts has not")
    if (this.isFull && script.isRefusedWhenFull) throw new RedisError("OOM command not allowed when used memory > 'maxmemory'.")
    const clockMs = this.#world.nowMs + this.skewMs
    const done = { call, nowMicros: Math.floor(clockMs * 1_000) }
    this.#runs += 1
    this.#sinceSynced.push(done)
    const reply = run(this.#data, done)
    this.referee.ran(call, reply, { sentMs, nowMs: this.#world.nowMs, clockMs })
    return reply
  }

  /** Calls when everything done so far is on disk. What waits at a loss of power is not called. */
  whenSynced(act: () => void): void {
    this.#waiting.push(act)
  }

  /** What was not synced is lost. Answers how many scripts. */
  losePower(): number {
    const { length } = this.#sinceSynced
    // Some of it may have reached the disk all the same.
    const kept = this.#sinceSynced.slice(0, this.#world.dice.whole(0, length))
    this.#data = this.#synced.copy()
    for (const done of kept) run(this.#data, done)
    this.#sinceSynced = kept
    this.#waiting = []
    this.referee.restored()
    return length - kept.length
  }

  #keepSyncing(): void {
    this.#world.after(syncMsEvery, () => {
      this.#sync()
      this.#keepSyncing()
    })
  }

  #sync(): void {
    if (this.#sinceSynced.length >= callsPerCopy || this.#waiting.length > 0) this.#synced = this.#data.copy()
    else for (const done of this.#sinceSynced) run(this.#synced, done)
    this.#sinceSynced = []
    for (const act of this.#waiting.splice(0)) act()
  }
}

const run = (data: RedisData, { call: { lua, keys, args }, nowMicros }: Done): RedisReply => {
  const script = simulatedScripts.get(lua) as { run(call: ScriptRun): RedisReply }
  return script.run({ data, keys, args, nowMicros })
}

export const nameOf = (call: RedisCall): string =>
  "lua" in call ? `${simulatedScripts.get(call.lua)?.name} ${call.keys[0]}` : `${call.command} ${call.key}`
