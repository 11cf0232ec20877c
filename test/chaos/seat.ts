/** A place for one worker process after another, with its own lines to the servers: so one worker alone can be cut off. */
import type { ChildProcess } from "node:child_process"
import { closeSync, openSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import type { ClusteredOptions } from "keyfold/clustered"
import { serverPlace } from "../fixtures/place.ts"
import { until } from "../fixtures/waiting.ts"
import { pauseProcess } from "../servers/pause.ts"
import { type Proxy as Line, startProxy } from "../servers/proxy.ts"
import { spawnReaped } from "../servers/reaper.ts"
import type { Server } from "../servers/server.ts"
import type { Violated } from "./verdict.ts"

export interface Surroundings {
  readonly nats: Server
  readonly redis: Server
  readonly options: Omit<ClusteredOptions, "nats" | "redis">
  /** Where each process has its log. */
  readonly logs: string
  readonly jobs: string
  readonly violated: Violated
}

interface Worker {
  readonly process: ChildProcess
  readonly log: string
  readonly ended: Promise<number | null>
  /** We end it, so it may end. */
  isTold: boolean
}

const endMsMax = 60_000

export class Seat {
  readonly number: number
  readonly lines: { readonly nats: Line; readonly redis: Line }
  readonly #around: Surroundings
  #worker: Worker | undefined
  #started = 0

  private constructor(number: number, lines: Seat["lines"], around: Surroundings) {
    this.number = number
    this.lines = lines
    this.#around = around
  }

  static async open(number: number, around: Surroundings): Promise<Seat> {
    const [nats, redis] = await Promise.all([startProxy({ to: around.nats.port }), startProxy({ to: around.redis.port })])
    return new Seat(number, { nats, redis }, around)
  }

  /** Starts a worker. Returns at once. */
  fill(): void {
    const { logs, options, jobs, violated } = this.#around
    const place = serverPlace({
      ...options,
      nats: `nats://127.0.0.1:${this.lines.nats.port}`,
      redis: `redis://127.0.0.1:${this.lines.redis.port}`
    })
    const log = join(logs, `worker-${this.number}-${++this.#started}.log`)
    const output = openSync(log, "a")
    const process = spawnReaped(globalThis.process.execPath, ["--conditions=keyfold-source", script, place, jobs], output)
    closeSync(output)
    const ended = new Promise<number | null>((done) => process.once("exit", done))
    const worker: Worker = { process, log, ended, isTold: false }
    this.#worker = worker
    void ended.then((code) => {
      if (!worker.isTold) violated("worker", `${log} ended by itself with ${code ?? process.signalCode}: ${lastWords(log)}`)
    })
  }

  get isFilled(): boolean {
    return this.#worker !== undefined
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL")
  }

  /** SIGTERM: it finishes its turns, and gives its partitions back. */
  async leave(): Promise<void> {
    const worker = this.#worker
    if (worker === undefined) return
    await until("the worker has begun, so that it hears the signal", () => statSync(worker.log).size > 0, endMsMax)
    const beganMs = performance.now()
    const impatience = setTimeout(() => worker.process.kill("SIGKILL"), endMsMax)
    const code = await this.#end("SIGTERM")
    clearTimeout(impatience)
    if (code === 0) return
    const seconds = Math.round((performance.now() - beganMs) / 1_000)
    this.#around.violated("worker", `${worker.log} was told to end and ended with ${code} after ${seconds} s: ${lastWords(worker.log)}`)
  }

  pause(): void {
    if (this.#isRunning) pauseProcess(this.#worker?.process.pid as number)
  }

  resume(): void {
    if (this.#isRunning) this.#worker?.process.kill("SIGCONT")
  }

  /** NaN without a worker, and where there is no /proc. */
  get residentMiB(): number {
    try {
      const status = readFileSync(`/proc/${this.#worker?.process.pid}/status`, "utf8")
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1_024
    } catch {
      return Number.NaN
    }
  }

  async close(): Promise<void> {
    await this.kill()
    await Promise.all([this.lines.nats.stop(), this.lines.redis.stop()])
  }

  get #isRunning(): boolean {
    return this.#worker !== undefined && this.#worker.process.exitCode === null && this.#worker.process.signalCode === null
  }

  async #end(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    const worker = this.#worker
    this.#worker = undefined
    if (worker === undefined) return null
    worker.isTold = true
    worker.process.ref()
    worker.process.kill(signal)
    return worker.ended
  }
}

const script = join(import.meta.dirname, "worker.ts")

/** What it failed with, or else what it said last. */
const lastWords = (log: string): string => {
  const lines = readFileSync(log, "utf8").trim().split("\n")
  return lines.find((line) => line.includes(" failed: ")) ?? lines.slice(-3).join(" | ")
}
