/**
 * `keyfold run`: starts the jobs of a module, shows how they do, and drains them when a signal or another job's failure says so.
 *
 *   starting ──▶ running ──caught up──────────────────────▶ ended
 *      │            ├──signal, or another job failed──▶ draining ──▶ ended
 *      └──signal────┘                                      └──second signal──▶ the process exits; the journal has everything
 */
import { type Job, type Query, type Runtime, type StartOptions, start } from "../index.ts"
import { chosenJobs, jobNames, type NamedJob } from "./catalog.ts"
import { failureReport } from "./failure.ts"
import { wavesOf } from "./job-order.ts"
import { Meter } from "./meter.ts"
import { loadCatalog } from "./module.ts"
import { painted } from "./painting.ts"
import { runtimeOf } from "./place-runtime.ts"
import type { ExitCode } from "./refusal.ts"
import type { RunRequest } from "./request.ts"
import { shownPlace } from "./request-place.ts"
import { runSummary, statusSpans } from "./status.ts"
import { onEndSignal, onOrphaned, type Terminal } from "./terminal.ts"
import { Troubles } from "./troubles.ts"

export const runJobs = async (request: RunRequest, terminal: Terminal): Promise<ExitCode> => {
  const jobs = chosenJobs(await loadCatalog(request.module), request.jobs)
  const run = new Run(request, await runtimeOf(request.place), terminal)
  const forgets = [
    onEndSignal((signal) => {
      terminal.say(`${signal}: draining, the turn under way is finished first; a second signal leaves at once and loses nothing`)
      run.drain()
    }),
    onOrphaned(() => {
      terminal.say("the process that started this worker is gone: draining")
      run.drain()
    })
  ]
  try {
    for (const wave of request.untilCaughtUp ? wavesOf(jobs) : [jobs]) await run.wave(wave)
    return run.exitCode
  } finally {
    for (const forget of forgets) forget()
  }
}

class Run {
  readonly #terminal: Terminal
  readonly #place: string
  readonly #options: StartOptions
  #queries: Query[] = []
  #isDraining = false
  exitCode: Extract<ExitCode, 0 | 1 | 2> = 0

  constructor({ place, untilCaughtUp, close, acceptLoss }: RunRequest, runtime: Runtime, terminal: Terminal) {
    this.#terminal = terminal
    this.#place = shownPlace(place)
    this.#options = {
      runtime,
      trigger: untilCaughtUp ? "available-now" : "continuous",
      atEnd: close ? "close" : "keep",
      acceptLoss
    }
  }

  /** Runs jobs together until all of them have ended. Throws what kept one from starting, when the others are drained. */
  async wave(jobs: readonly NamedJob[]): Promise<void> {
    if (this.#isDraining) return
    this.#queries = []
    try {
      for (const { job } of jobs) await this.#start(job)
    } catch (thrown) {
      this.drain()
      await Promise.all(this.#queries.map((query) => query.stop()))
      throw thrown
    }
    this.#terminal.say(`running ${jobNames(jobs)} on ${this.#place}`)
    const names = jobNames(jobs)
    const endStatus = showStatus(names, new Meter(this.#queries), this.#terminal)
    const troubles = new Troubles((line) => this.#terminal.say(line))
    const endLooks = this.#terminal.every(troubleMsEvery, () => troubles.look(this.#queries))
    await Promise.all(this.#queries.map((query) => this.#end(query))).finally(() => {
      endLooks()
      endStatus()
    })
  }

  /** Asks every query to stop; each ends when its turn under way is out. */
  drain(): void {
    this.#isDraining = true
    for (const query of this.#queries) void query.stop()
  }

  async #start(job: Job): Promise<void> {
    if (this.#isDraining) return
    const query = await start(job, this.#options)
    this.#queries.push(query)
    if (this.#isDraining) void query.stop() // a signal came while it started
  }

  async #end(query: Query): Promise<void> {
    const meter = new Meter([query])
    const startedMs = this.#terminal.nowMs()
    let how = "ended"
    try {
      await query.awaitTermination()
      how = this.#isDraining ? "drained" : "caught up"
    } catch (thrown) {
      how = "failed"
      const { lines, exitCode } = failureReport(thrown)
      for (const line of lines) this.#terminal.say(line)
      this.exitCode = exitCode
      this.drain()
    }
    const nowMs = this.#terminal.nowMs()
    this.#terminal.say(runSummary(query.name, how, meter.read(nowMs), nowMs - startedMs))
  }
}

const troubleMsEvery = 1_000
const drawMsEvery = 200
const lagMsEvery = 1_000
const sayMsEvery = 10_000

const showStatus = (who: string, meter: Meter, terminal: Terminal): (() => void) => {
  void meter.askLag()
  const spans = () => statusSpans(who, meter.read(terminal.nowMs()))
  const ends = terminal.isLive
    ? [terminal.every(drawMsEvery, () => terminal.draw(spans())), terminal.every(lagMsEvery, () => void meter.askLag())]
    : [terminal.every(sayMsEvery, () => void meter.askLag().then(() => terminal.say(painted(spans(), false))))]
  return () => {
    for (const end of ends) end()
    terminal.clear()
  }
}
