/**
 * The handle of a running query: Spark's StreamingQuery. Owns the life cycle and the reports; what runs is a program given by start.ts.
 *
 *   running ──stop()──▶ stopping ──▶ stopped
 *      ├──bounded end──────────────▶ stopped
 *      └──error────────────────────▶ failed
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { invariant, KeyfoldError, reasonOf } from "./errors.ts"
import type { Progress, ProgressLog, Totals } from "./telemetry/progress.ts"

/** A running job. */
export interface Query extends AsyncDisposable {
  /** Names the query's journal: the same after a restart. */
  readonly id: string
  /** New with every start. */
  readonly runId: string
  readonly name: string
  readonly isActive: boolean
  readonly status: { readonly message: string; readonly isDataAvailable: boolean; readonly isTriggerActive: boolean }
  readonly lastProgress: Progress | undefined
  /** At most the last 100. */
  readonly recentProgress: readonly Progress[]
  /** What stopped the query; undefined while it runs and after a clean stop. */
  readonly exception: KeyfoldError | undefined
  /** True when the query has ended; false when it still runs after `timeoutMs`. Throws what stopped it. */
  awaitTermination(timeoutMs?: number): Promise<boolean>
  /** Completes when everything that was in the sources at the call is processed and its outputs are out. Throws what stopped the query. */
  processAllAvailable(): Promise<void>
  /** Ends the turn under way and stops. Nothing is lost: the next start goes on from here. */
  stop(): Promise<void>
}

const queryMoves = {
  running: ["stopping", "stopped", "failed"],
  stopping: ["stopped", "failed"],
  stopped: [],
  failed: []
} as const satisfies Record<string, readonly string[]>
type QueryState = keyof typeof queryMoves

/** What start.ts gives the handle to run and to look at. */
export interface QueryProgram {
  readonly id: string
  readonly runId: string
  readonly name: string
  /** Runs until stopped, or to its end. */
  readonly run: (stopped: () => boolean) => Effect.Effect<void, KeyfoldError>
  readonly processAll: () => Effect.Effect<void, KeyfoldError>
  readonly watermarkMs: () => number | undefined
  readonly lag: () => Effect.Effect<number, KeyfoldError>
  readonly progress: ProgressLog
  /** What keeps partitions from running until it passes; undefined when all is well. */
  readonly trouble: () => KeyfoldError | undefined
  /** Whether a turn is under way. */
  readonly isBusy: () => boolean
  /** Completes when everything committed is out. */
  readonly settle: () => Effect.Effect<void, KeyfoldError>
  /** Closing it gives everything back: partitions, connections, locks. */
  readonly scope: Scope.Closeable
  /** What whoever started it runs with: a clock, chance, a scheduler, a tracer. It runs with the same. */
  readonly services: Context.Context<never>
}

const reportMsEvery = 1_000
const idleReportMsEvery = 10_000
const settleMsMax = 10_000

export class RunningQuery implements Query {
  readonly #program: QueryProgram
  /** The program has come to its end; things are not given back yet. */
  readonly #halted = Deferred.makeUnsafe<void, KeyfoldError>()
  readonly #ended = Deferred.makeUnsafe<void, KeyfoldError>()
  #state: QueryState = "running"
  #exception: KeyfoldError | undefined
  #fiber: Fiber.Fiber<void, KeyfoldError> | undefined

  constructor(program: QueryProgram) {
    this.#program = program
  }

  /** Begins to run. The handle ends by itself; nothing needs to be awaited. */
  launch(): this {
    const run = Effect.raceFirst(
      this.#program.run(() => this.#state !== "running"),
      this.#reports()
    )
    const fork = Effect.runForkWith(this.#program.services)
    this.#fiber = fork(run)
    fork(Effect.flatMap(Fiber.await(this.#fiber), (exit) => this.#end(exit)))
    return this
  }

  get id(): string {
    return this.#program.id
  }

  get runId(): string {
    return this.#program.runId
  }

  get name(): string {
    return this.#program.name
  }

  get isActive(): boolean {
    return this.#state === "running" || this.#state === "stopping"
  }

  get exception(): KeyfoldError | undefined {
    return this.#exception
  }

  get lastProgress(): Progress | undefined {
    return this.recentProgress.at(-1)
  }

  get recentProgress(): readonly Progress[] {
    return [...this.#program.progress.recent]
  }

  get status(): Query["status"] {
    const busy = this.isActive && this.#program.isBusy()
    const { trouble } = this
    const waiting = trouble === undefined ? "waiting for data" : `waiting: ${trouble.message}`
    const message = { running: busy ? "processing" : waiting, stopping: "stopping", stopped: "stopped", failed: "failed" }[this.#state]
    return { message, isDataAvailable: busy, isTriggerActive: busy }
  }

  /** What keeps partitions from running until it passes, servers that are away above all. */
  get trouble(): KeyfoldError | undefined {
    return this.isActive ? this.#program.trouble() : undefined
  }

  /** Counts of this run, for whoever shows them. */
  get totals(): Totals {
    return this.#program.progress.totals(this.#program.watermarkMs())
  }

  /** Records that are in the sources and not yet read. */
  lag(): Promise<number> {
    return this.#run(this.#program.lag())
  }

  awaitTermination(timeoutMs?: number): Promise<boolean> {
    const ended = Effect.as(Deferred.await(this.#ended), true)
    if (timeoutMs === undefined) return this.#run(ended)
    return this.#run(Effect.raceFirst(ended, Effect.as(Effect.sleep(timeoutMs), false)))
  }

  processAllAvailable(): Promise<void> {
    const halted = Effect.flatMap(Deferred.await(this.#halted), () =>
      Effect.fail(new KeyfoldError("unsupported-operation", `the query ${this.name} has stopped: start it again`))
    )
    return this.#run(Effect.raceFirst(halted, this.#program.processAll()))
  }

  async stop(): Promise<void> {
    if (this.#state === "running") {
      this.#move("stopping")
      // Interrupts waits only: turns are uninterruptible.
      if (this.#fiber !== undefined) await this.#run(Fiber.interrupt(this.#fiber))
    }
    await this.#run(Effect.exit(Deferred.await(this.#ended)))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  // ---- inside

  #run<A, E>(effect: Effect.Effect<A, E>): Promise<A> {
    return Effect.runPromiseWith(this.#program.services)(effect)
  }

  readonly #end = Effect.fnUntraced(function* (this: RunningQuery, exit: Exit.Exit<void, KeyfoldError>) {
    const error = failureOf(exit)
    yield* error === undefined ? Deferred.succeed(this.#halted, undefined) : Deferred.fail(this.#halted, error)
    const nowMs = yield* Clock.currentTimeMillis
    if (this.#program.progress.unreported > 0) this.#program.progress.report(nowMs, this.#program.watermarkMs())
    // P21. A sink that hangs must not hold the stop for ever: the journal keeps its outbox, and the next start brings it out.
    if (error === undefined) yield* Effect.exit(Effect.timeoutOption(this.#program.settle(), settleMsMax))
    const closed = yield* Effect.exit(Scope.close(this.#program.scope, exit))
    if (error === undefined && Exit.isFailure(closed)) this.#exception = failureOf(closed)
    this.#exception ??= error
    this.#move(error === undefined ? "stopped" : "failed")
    if (error === undefined) yield* Deferred.succeed(this.#ended, undefined)
    else yield* Deferred.fail(this.#ended, error)
  })

  /** Never completes: a report while there is something to say, and now and then that there is nothing. */
  #reports(): Effect.Effect<never> {
    const { progress, watermarkMs } = this.#program
    return Effect.gen(function* () {
      let reportedAtMs = yield* Clock.currentTimeMillis
      for (;;) {
        yield* Effect.sleep(reportMsEvery)
        const nowMs = yield* Clock.currentTimeMillis
        if (progress.unreported === 0 && nowMs - reportedAtMs < idleReportMsEvery) continue
        progress.report(nowMs, watermarkMs())
        reportedAtMs = nowMs
      }
    })
  }

  #move(to: QueryState): void {
    const allowed: readonly string[] = queryMoves[this.#state]
    invariant(allowed.includes(to), `a query cannot go from ${this.#state} to ${to}`)
    this.#state = to
  }
}

/** What a program ended with. An interruption is a stop; a defect is a bug of ours, and is said as such. */
const failureOf = (exit: Exit.Exit<void, KeyfoldError>): KeyfoldError | undefined => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return undefined
  const thrown = Cause.squash(exit.cause)
  if (thrown instanceof KeyfoldError) return thrown
  return new KeyfoldError("function-failed", `a fault of keyfold itself stopped the query: ${reasonOf(thrown)}`, { cause: thrown })
}
