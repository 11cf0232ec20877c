/**
 * One trial: a job on a simulated cluster, its events, what goes wrong meanwhile, and what came out. When the faults are over everything must
 * drain: all is read, all is out, and then, as with `atEnd: "close"`, what timeouts were armed for.
 */
import { KeyfoldError, reasonOf } from "../errors.ts"
import type { Job } from "../job.ts"
import { type Limits, resolveLimits } from "../options.ts"
import type { Query } from "../query.ts"
import { type StartOptions, startQuery } from "../start.ts"
import { type Machine, SimulatedCluster } from "./cluster.ts"
import { type Fault, type FaultKind, lossyKinds, skewMsMax } from "./faults.ts"
import { Mischief } from "./mischief.ts"
import { misnumbered } from "./outputs.ts"
import type { RedisData } from "./redis-data.ts"
import { World } from "./world.ts"

/** An event that comes from outside: it is stored, whatever happens to workers and ways. */
export interface TrialEvent {
  /** After the start, milliseconds. */
  readonly atMs: number
  readonly stream: string
  readonly subject: string
  readonly data: Uint8Array
}

export interface TrialOptions {
  readonly seed: number
  readonly job: Job
  /** By time. */
  readonly events: readonly TrialEvent[]
  readonly faults: readonly Fault[]
  readonly workers: number
  readonly leaseMs: number
  readonly isLasting: boolean
  /** How long clocks go on after everything was read, before workers stop; default 0. */
  readonly restMs?: number
  /** Stages with timeouts by processing time: clocks go on until none of theirs is due any more within ten minutes; default none. */
  readonly ringingStages?: readonly string[]
  readonly limits?: Partial<Limits>
  /** Of topics that do not say how many they have; default 16. */
  readonly partitionsDefault?: number
  /** Asked what is wrong when everything was read and clocks have gone on, before what is open is closed. */
  readonly beforeClose?: (cluster: SimulatedCluster) => string | undefined
  /** Told of the world before anything happens in it. */
  readonly begun?: (world: World) => void
  /** Told every line of the history. */
  readonly listener?: (line: string) => void
}

export interface Trial {
  /** What is wrong; undefined when all went well. */
  readonly failure: string | undefined
  /** What must never be, and was, if that is what is wrong. */
  readonly foul: string | undefined
  /** With which error a worker's query has stopped, if that is what is wrong. */
  readonly refusal: KeyfoldError | undefined
  readonly cluster: SimulatedCluster
  /** How often each kind of fault met somebody. */
  readonly met: Mischief["counts"]
  /** What has lost something for good. */
  readonly lost: Mischief["lost"]
}

/** When the faults are over, so much simulated time is enough for all that waits for something to time out. */
const drainMsMax = 60_000
const restartMs = 500
const feedAgainMs = 20
/** Time and room for who rests: a log keeps what came since the last checkpoint. */
const checkpointsAwaited = 3
const logEntriesMax = 20
const ringMsMax = 600_000

const overgrown = (data: RedisData): readonly string[] =>
  data.keys.filter((key) => key.endsWith(":log") && data.xrange(key, 0, logEntriesMax + 1).length > logEntriesMax)

/** The first timeout of these stages; infinity for none. */
const firstDueMs = (data: RedisData, stages: readonly string[]): number => {
  const keys = data.keys.filter((key) => stages.some((stage) => key.includes(`/${stage}/`)) && key.endsWith(":timeouts"))
  return Math.min(...keys.flatMap((key) => data.zrange(key)[0]?.[1] ?? []), Number.POSITIVE_INFINITY)
}

export const runTrial = async (options: TrialOptions): Promise<Trial> => {
  const run = new TrialRun(options)
  const failure = await run.all().catch((thrown) => `it throws: ${reasonOf(thrown)}`)
  const foul = run.cluster.redis.referee.foul ?? misnumbered(run.cluster)
  return { failure: foul ?? failure, foul, refusal: run.refusal, cluster: run.cluster, met: run.mischief.counts, lost: run.mischief.lost }
}

class TrialRun {
  readonly #options: TrialOptions
  readonly #world: World
  readonly cluster: SimulatedCluster
  readonly mischief: Mischief
  readonly #queries = new Map<Machine, Query>()
  refusal: KeyfoldError | undefined
  #failure: string | undefined
  #fed = 0

  constructor(options: TrialOptions) {
    this.#options = options
    this.#world = new World(options.seed)
    this.#world.history.listener = options.listener
    options.begun?.(this.#world)
    this.cluster = new SimulatedCluster(this.#world, options)
    const inputs = [...new Set(options.events.map(({ stream }) => stream))].toSorted()
    this.mischief = new Mischief(this.cluster, { inputs, join: () => this.#work(), leave: (machine) => this.#sendAway(machine) })
  }

  /** Answers what is wrong. */
  async all(): Promise<string | undefined> {
    const { events, faults, workers } = this.#options
    for (let count = 0; count < workers; count++) this.#work()
    // What is lost before it is known where reading begins is nobody's loss.
    if (faults.some(({ kind }) => (lossyKinds as readonly FaultKind[]).includes(kind)))
      await this.#done("all workers work", () => this.#alive().length === workers)
    const beginMs = this.#world.nowMs
    this.#feed(beginMs)
    for (const fault of faults) this.#world.after(fault.atMs, () => this.mischief.commit(fault))
    const untilMs = beginMs + Math.max(0, ...faults.map(({ atMs }) => atMs), ...events.map(({ atMs }) => atMs)) + 1
    await this.#pass(untilMs)
    await this.#pass(this.mischief.endMs)
    this.cluster.heal()
    this.#world.history.add("all", "is well again")
    if (this.#failure === undefined) await this.#drain()
    return this.#failure
  }

  async #drain(): Promise<void> {
    if (this.cluster.machines.length === 0) this.#work()
    await this.#done("the events are fed", () => this.#fed === this.#options.events.length)
    await this.#done("all workers work", () => this.#alive().length === this.cluster.machines.length)
    if (this.#failure !== undefined) return
    const [last] = this.#alive() as [readonly [Machine, Query]]
    await this.#settled("everything is read and out", () => last[1].processAllAvailable())
    await this.#pass(this.#world.nowMs + (this.#options.restMs ?? 0) + checkpointsAwaited * this.#checkpointMsEvery)
    await this.#ringOut(this.#options.ringingStages ?? [])
    const [grown] = overgrown(this.cluster.redis.data)
    if (grown !== undefined) this.#fail(`${grown} has more than ${logEntriesMax} entries, though nothing happens any more (P20)`)
    // That something was lost for good may be noticed later: when a reader has heard nothing for seconds.
    const wrong = this.mischief.lost.size === 0 ? this.#options.beforeClose?.(this.cluster) : undefined
    if (wrong !== undefined) this.#fail(wrong)
    await this.#settled("all workers stop", () => Promise.all(this.#alive().map(([machine, query]) => this.#leave(machine, query))))
    const closer = this.cluster.machine()
    await this.#settled("timeouts are closed", async () => {
      const query = await this.#start(closer, { trigger: "available-now", atEnd: "close" })
      await query.awaitTermination()
    })
    closer.process.kill()
  }

  async #ringOut(stages: readonly string[]): Promise<void> {
    const endMs = this.#world.nowMs + ringMsMax
    for (;;) {
      const dueMs = firstDueMs(this.cluster.redis.data, stages)
      if (this.#failure !== undefined || dueMs > this.#world.nowMs + ringMsMax) return
      if (this.#world.nowMs > endMs) {
        return this.#fail(
          `its timeouts by processing time go on for more than ${ringMsMax / 60_000} minutes: say with \`rest\` how long they are to be waited for`
        )
      }
      // What rings may arm the next one, which Redis knows of after a checkpoint.
      await this.#pass(Math.max(this.#world.nowMs, dueMs + skewMsMax) + checkpointsAwaited * this.#checkpointMsEvery)
    }
  }

  get #checkpointMsEvery(): number {
    return resolveLimits(this.#options.limits).checkpointEveryMs
  }

  // ---- workers

  #work(machine = this.cluster.machine()): void {
    if (machine.process.isDead) return
    this.#start(machine, {}).then(
      (query) => {
        this.#queries.set(machine, query)
        query.awaitTermination().then(
          () => this.#queries.delete(machine),
          (thrown) => this.#broken(machine, thrown)
        )
      },
      (thrown) => this.#notStarted(machine, thrown)
    )
  }

  #start(machine: Machine, more: Partial<StartOptions>): Promise<Query> {
    const { job, limits = {} } = this.#options
    return machine.process.run(startQuery(job, { runtime: machine.runtime, limits, ...more }))
  }

  /** Whoever watches over workers starts one again that could not reach a server. */
  #notStarted(machine: Machine, thrown: unknown): void {
    if (machine.process.isDead) return
    const isPassing = thrown instanceof KeyfoldError && (thrown.code === "unreachable" || thrown.code === "storage-full")
    this.#world.history.add(machine.process.name, `does not start: ${reasonOf(thrown)}`)
    if (isPassing) machine.process.after(restartMs, () => this.#work(machine))
    else this.#refused(`${machine.process.name} did not start`, thrown)
  }

  /** One that has worked waits for servers, however long. */
  #broken(machine: Machine, thrown: unknown): void {
    this.#queries.delete(machine)
    if (machine.process.isDead) return
    this.#world.history.add(machine.process.name, `fails: ${reasonOf(thrown)}`)
    this.#refused(`${machine.process.name} failed`, thrown)
  }

  #sendAway(machine: Machine): boolean {
    const query = this.#queries.get(machine)
    if (query === undefined || this.cluster.machines.length === 1) return false
    this.#leave(machine, query).catch((thrown) => this.#broken(machine, thrown))
    return true
  }

  async #leave(machine: Machine, query: Query): Promise<void> {
    await query.stop()
    machine.process.kill()
  }

  #alive(): readonly (readonly [Machine, Query])[] {
    return [...this.#queries].filter(([{ process }]) => !process.isDead)
  }

  // ---- events

  /** One after the other; they wait for the stream that a worker is to create. */
  #feed(beginMs: number): void {
    const next = (): void => {
      const event = this.#options.events[this.#fed]
      if (event === undefined) return
      const waitMs = Math.max(beginMs + event.atMs - this.#world.nowMs, 0)
      const isThere = this.cluster.nats.stream(event.stream) !== undefined
      if (waitMs > 0 || !isThere) return void this.#world.after(Math.max(waitMs, feedAgainMs), next)
      this.cluster.nats.append(event.subject, event.data)
      this.#fed += 1
      next()
    }
    next()
  }

  // ---- waiting

  /** Time goes on. */
  async #pass(untilMs: number): Promise<void> {
    await this.#world.run(() => this.#failure !== undefined, untilMs)
  }

  async #done(what: string, isDone: () => boolean): Promise<void> {
    const isOver = await this.#world.run(() => this.#failure !== undefined || isDone(), this.#world.nowMs + drainMsMax)
    if (!isOver) this.#fail(`it hangs: not within ${drainMsMax} ms after the faults were over: ${what}`)
  }

  async #settled(what: string, begin: () => Promise<unknown>): Promise<void> {
    if (this.#failure !== undefined) return
    let isOver = false
    begin().then(
      () => {
        isOver = true
      },
      (thrown) => this.#refused(`not so: ${what}`, thrown)
    )
    await this.#done(what, () => isOver)
  }

  #refused(what: string, thrown: unknown): void {
    if (this.#failure === undefined && thrown instanceof KeyfoldError) this.refusal = thrown
    this.#fail(`${what}: ${thrown instanceof KeyfoldError ? `${thrown.code}, ` : ""}${reasonOf(thrown)}`)
  }

  #fail(reason: string): void {
    this.#failure ??= reason
    this.#world.history.add("all", `fails: ${reason}`)
  }
}
