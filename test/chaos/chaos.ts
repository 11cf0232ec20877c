/**
 * A chaos run: servers, workers and a load; faults after a plan; then calm, in which everything must drain; then the books are closed.
 *
 *   first results ──▶ faults ──time is up, or something did not hold──▶ calm ──▶ drained ──▶ workers leave ──▶ books closed ──▶ report
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { publisher } from "keyfold"
import { requests } from "../fixtures/jobs.ts"
import { sleep, until } from "../fixtures/waiting.ts"
import { serverDirectory } from "../servers/reaper.ts"
import { closeBooks } from "./books.ts"
import { Checker } from "./checker.ts"
import { faults } from "./faults.ts"
import { Load } from "./load.ts"
import { type PlannedFault, planFaults } from "./plan.ts"
import { clockText, type DoneFault, faultText, reportOf } from "./report.ts"
import type { Seat } from "./seat.ts"
import { Verdict } from "./verdict.ts"
import { Watch } from "./watch.ts"
import { openWorld, takeOversIn, type World } from "./world.ts"

export interface ChaosOptions {
  readonly minutes: number
  readonly seed: number
  readonly workers: number
  readonly say: (line: string) => void
}

export interface Outcome {
  readonly holds: boolean
  /** Markdown. */
  readonly report: string
}

const sparesCount = 1
const residentMiBMax = 600
const standstillMsMax = 120_000
const calmMs = 3_000
const drainMsMax = 120_000
/** When something did not hold already. */
const brokenDrainMsMax = 10_000
/** Sessions that the workers may be behind before the load waits for them. */
const dueMax = 20_000

export const runChaos = async (options: ChaosOptions): Promise<Outcome> => {
  const logs = mkdtempSync(join(tmpdir(), "keyfold-chaos-"))
  process.env["NODE_COMPILE_CACHE"] ??= serverDirectory("compiled") // workers start in half the time
  const outcome = await new ChaosRun(options, logs).through()
  if (outcome.holds) rmSync(logs, { recursive: true, force: true })
  else {
    writeFileSync(join(logs, "report.md"), outcome.report)
    options.say(`the logs of workers and servers are in ${logs}`)
  }
  return outcome
}

class ChaosRun {
  readonly #options: ChaosOptions
  readonly #logs: string
  readonly #plan: readonly PlannedFault[]
  readonly #verdict: Verdict
  readonly #checkers: { readonly direct: Checker; readonly chained: Checker }
  readonly #done: DoneFault[] = []
  /** What has a fault at the moment. */
  readonly #held = new Set<string>()
  #beganAtMs = Date.now()
  #loadedAtMs = Number.NaN
  #drainedMs = Number.NaN
  #residentMiB = 0

  constructor(options: ChaosOptions, logs: string) {
    this.#options = options
    this.#logs = logs
    const { seed, workers, minutes } = options
    this.#plan = planFaults(faults, { seed, workers, seats: workers + sparesCount, ms: minutes * 60_000 })
    this.#verdict = new Verdict(() => this.#nowMs, options.say)
    this.#checkers = { direct: new Checker(this.#verdict.violated), chained: new Checker(this.#verdict.violated) }
  }

  async through(): Promise<Outcome> {
    const { seed, workers, minutes, say } = this.#options
    const { violated } = this.#verdict
    await using world = await openWorld({ seed, seats: workers + sparesCount, logs: this.#logs, violated })
    const servers = `nats-server ${world.nats.version}, redis-server ${world.redis.version}, node ${process.versions.node}`
    say(`chaos for ${minutes} minutes, seed ${seed}, ${workers} workers; ${servers}`)
    for (const planned of this.#plan) say(`planned ${faultText(planned.atMs, planned)}`)
    const watch = new Watch(
      world.client,
      [
        { topic: "sessions", partitions: 16, checker: this.#checkers.direct },
        { topic: "numbered", partitions: 4, checker: this.#checkers.chained }
      ],
      (thrown) => violated("tool", String(thrown))
    )
    const out = await publisher(world.runtime, requests)
    const load = new Load(out, seed, (session) => {
      for (const checker of Object.values(this.#checkers)) checker.expect(session)
    })
    for (const seat of world.seats.slice(0, workers)) seat.fill()
    try {
      await this.#underFaults(world, load, watch)
      await this.#drain(load)
      await Promise.all(world.seats.map((seat) => seat.leave()))
      await closeBooks({ world, load, watch, checkers: this.#checkers, violated })
    } catch (thrown) {
      violated("tool", thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown))
    }
    await watch.close()
    await Promise.resolve(out[Symbol.asyncDispose]()).catch(() => undefined) // what it could not publish was told
    const takeOvers = await takeOversIn(world).catch(() => Number.NaN)
    return {
      holds: this.#verdict.holds,
      report: reportOf({
        ...this.#options,
        servers,
        done: this.#done,
        verdict: this.#verdict,
        beganAtMs: this.#beganAtMs,
        loadedAtMs: this.#loadedAtMs,
        storedAtMs: watch.storedAtMs,
        figures: {
          events: load.count,
          heldMs: load.heldMs,
          results: { direct: this.#checkers.direct.found, chained: this.#checkers.chained.found },
          takeOvers,
          residentMiB: this.#residentMiB,
          drainedMs: this.#drainedMs
        }
      })
    }
  }

  get #nowMs(): number {
    return Date.now() - this.#beganAtMs
  }

  async #underFaults(world: World, load: Load, watch: Watch): Promise<void> {
    let isOver = false
    const { violated } = this.#verdict
    const looking = this.#lookAfter(world, watch, () => isOver)
    const { direct, chained } = this.#checkers
    const loading = load
      .run(
        () => isOver,
        () => direct.due + chained.due > dueMax
      )
      .catch((thrown) => violated("tool", `publishing: ${String(thrown)}`))
    try {
      await until("the first results", () => !this.#verdict.holds || (direct.found > 0 && chained.found > 0), 120_000)
      this.#beganAtMs = Date.now()
      await this.#doFaults(world)
      await sleep(calmMs)
    } finally {
      isOver = true
      await Promise.all([loading, looking])
      this.#loadedAtMs = Date.now()
    }
  }

  async #doFaults(world: World): Promise<void> {
    const underWay = new Map<string, Promise<void>>()
    for (const planned of this.#plan) {
      while (this.#verdict.holds && this.#nowMs < planned.atMs) await sleep(Math.min(100, Math.max(1, planned.atMs - this.#nowMs)))
      if (!this.#verdict.holds) break
      const before = Promise.all(planned.holds.map((thing) => underWay.get(thing)))
      const act = before.then(() => this.#doFault(world, planned))
      for (const thing of planned.holds) underWay.set(thing, act)
    }
    await Promise.all(underWay.values())
  }

  async #doFault({ nats, redis, seats }: World, planned: PlannedFault): Promise<void> {
    const { fault, ms } = planned
    const fromMs = Date.now()
    this.#options.say(faultText(this.#nowMs, planned))
    for (const thing of planned.holds) this.#held.add(thing)
    try {
      const filled = seats.filter((seat) => seat.isFilled)
      await fault.act({ nats, redis, filled, seat: seats[Math.max(0, planned.seat)] as Seat }, ms)
    } catch (thrown) {
      this.#verdict.violated("tool", `${fault.name}: ${String(thrown)}`)
    }
    for (const thing of planned.holds) this.#held.delete(thing)
    this.#done.push({ planned, fromMs, toMs: Date.now() })
  }

  /** Servers, memory and standstills, once a second, until something does not hold. */
  async #lookAfter({ nats, redis, seats }: World, watch: Watch, isOver: () => boolean): Promise<void> {
    const { violated } = this.#verdict
    const startedAtMs = Date.now()
    while (!isOver() && this.#verdict.holds) {
      for (const [name, server] of Object.entries({ nats, redis })) {
        if (!server.isRunning && !this.#held.has(name)) violated("tool", `${name} ended by itself: ${server.log.trim().slice(-2_000)}`)
      }
      for (const { number, residentMiB } of seats) {
        if (residentMiB > residentMiBMax) violated("memory", `the worker of seat ${number} has ${residentMiB} MiB`)
        if (residentMiB > this.#residentMiB) this.#residentMiB = residentMiB
      }
      for (const [stream, times] of watch.storedAtMs) {
        const quietMs = Date.now() - (times.at(-1) ?? startedAtMs)
        if (quietMs > standstillMsMax) violated("standstill", `nothing has come into ${stream} for ${quietMs} ms`)
      }
      await sleep(1_000)
    }
  }

  /** Until every session that is over has come out. */
  async #drain(load: Load): Promise<void> {
    const { direct, chained } = this.#checkers
    this.#options.say(
      `${clockText(this.#nowMs)} calm: ${load.count} requests are published, ${direct.due + chained.due} sessions are to come`
    )
    const beganMs = performance.now()
    await load.finale()
    const waitMsMax = this.#verdict.holds ? drainMsMax : brokenDrainMsMax
    await until("drained", () => direct.due + chained.due === 0, waitMsMax).catch(() => {
      const missing = `${direct.due} sessions of direct and ${chained.due} of chained`
      this.#verdict.violated("drained", `after ${waitMsMax / 1_000} s ${missing} are missing`)
    })
    this.#drainedMs = performance.now() - beganMs
  }
}
