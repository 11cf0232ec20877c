/**
 * The place of one partition in this process. Takes the partition over when membership says that it is ours, gives it back when it is not,
 * and takes it over again, from the journal, when it was lost or a fault has passed (P1, P11, P21). Owns that life; what a partition does
 * while it is held is the schedule's.
 *
 *   elsewhere ──ours──▶ taking over ──recovered──▶ held ──not ours, stopped──▶ settled ──released──▶ elsewhere
 *       ▲                    │                      │
 *       └────── a fault that passes (fenced, unreachable, lease lost): nothing is released ──┘
 *                            └──────── any other fault stops the query ─────┘
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { KeyfoldError } from "../errors.ts"
import type { JournalId } from "../model/turn.ts"
import type { Member, PartitionNews, RunPhase } from "./membership.ts"
import type { Ends, Runner } from "./runner.ts"
import { Signal } from "./signal.ts"

/** A partition that is ours and recovered. */
export interface Held {
  readonly runner: Runner
  /** Completes when its owner may no longer count on it. */
  readonly lost: Effect.Effect<void>
  /** Fails with `fenced` when another has it by now. */
  readonly confirmed: Effect.Effect<void, KeyfoldError>
  /** Fails when its outputs cannot be brought out. */
  readonly failed: Effect.Effect<never, KeyfoldError>
}

export interface SeatParts {
  readonly id: JournalId
  readonly member: Member
  /** Takes over and recovers; the scope's end gives the partition back, or leaves it to run out when it ends with a failure. */
  readonly take: (post: (news: Omit<PartitionNews, "phase">) => void) => Effect.Effect<Held, KeyfoldError, Scope.Scope>
  /** The end of every input as it is now. */
  readonly ends: Effect.Effect<Ends, KeyfoldError>
  /** Whether a fault passes by itself, so that taking over again is the cure. */
  readonly isPassing: (error: KeyfoldError) => boolean
}

/** A task may use the runner until `isOver`; `over` completes then. */
export interface Tenure {
  readonly isOver: boolean
  readonly over: Effect.Effect<void>
}

const takeMsEvery = 250
const settleMsMax = 5_000
const phases: readonly RunPhase[] = ["reading", "read", "rested", "closed"]

export class Seat {
  readonly #parts: SeatParts
  /** Completes when the first attempt to take the partition over has ended, or it is not ours to begin with. */
  readonly #tried = Deferred.makeUnsafe<void>()
  readonly #failed = Deferred.makeUnsafe<never, KeyfoldError>()
  readonly #changed = new Signal()
  #holding: Holding | undefined
  /** From when the partition was recovered until it has been given back. */
  #isHeld = false
  #phase: RunPhase = "reading"
  #leaving = false
  #trouble: KeyfoldError | undefined
  #said: Omit<PartitionNews, "phase"> | undefined

  constructor(parts: SeatParts) {
    this.#parts = parts
  }

  /** The runner, while the partition is held. */
  get runner(): Runner | undefined {
    return this.#holding?.runner
  }

  /** Waits while the source is away. */
  get ends(): Effect.Effect<Ends, KeyfoldError> {
    const { ends, isPassing } = this.#parts
    return Effect.catch(ends, (fault) =>
      isPassing(fault)
        ? Effect.andThen(
            Effect.sleep(takeMsEvery),
            Effect.suspend(() => this.ends)
          )
        : Effect.fail(fault)
    )
  }

  /** Why the partition, which is ours, is not held: a fault that passes, and that somebody may want to know of meanwhile. */
  get trouble(): KeyfoldError | undefined {
    return this.#isHeld ? undefined : this.#trouble
  }

  /** Completes when the partition has been taken over, or was refused for now; fails with what stops the query. */
  get opened(): Effect.Effect<void, KeyfoldError> {
    return Effect.raceFirst(Deferred.await(this.#tried), this.failed)
  }

  /** Fails with what stops the query. */
  get failed(): Effect.Effect<never, KeyfoldError> {
    return Deferred.await(this.#failed)
  }

  /** What another process has last said of the partition. */
  get heard(): { readonly news: PartitionNews; readonly fresh: boolean } | undefined {
    return this.#parts.member.news(this.#parts.id.stage).get(this.#parts.id.partition)
  }

  /** Whether another process has said, since this one joined, that the partition has come so far in a bounded run. */
  isElsewhereAt(phase: RunPhase): boolean {
    const { heard } = this
    return heard?.fresh === true && phases.indexOf(heard.news.phase) >= phases.indexOf(phase)
  }

  reach(phase: RunPhase): void {
    this.#phase = phase
    this.#post()
  }

  /** The life of the seat, to be run as long as the query. Also a bug of ours must reach somebody. */
  get keep(): Effect.Effect<unknown> {
    return Effect.catchCause(this.#live(), (cause) => Deferred.failCause(this.#failed, cause))
  }

  /** Gives the partition back once its outputs are out, for good (P21). */
  readonly leave = Effect.fnUntraced(function* (this: Seat) {
    this.#leaving = true
    this.#changed.fire()
    yield* this.#changed.until(() => !this.#isHeld)
  })

  /**
   * Runs a task to its end on the partition: here, from its beginning again when the partition was lost meanwhile; or not at all, when
   * another process has it and `isDoneElsewhere`.
   */
  readonly perform = Effect.fnUntraced(function* (
    this: Seat,
    task: (runner: Runner, tenure: Tenure) => Effect.Effect<void, KeyfoldError>,
    isDoneElsewhere: () => boolean
  ) {
    for (;;) {
      const holding = this.#holding
      if (holding === undefined || holding.isOver) {
        if (isDoneElsewhere()) return
        const moved = this.#changed.until(() => this.#holding !== holding)
        yield* Effect.raceFirst(moved, this.#parts.member.changed)
      } else if (yield* holding.use(task)) return
    }
  })

  // ---- inside

  readonly #live = Effect.fnUntraced(function* (this: Seat) {
    for (;;) {
      if (!this.#isOurs) {
        this.#trouble = undefined
        yield* Deferred.succeed(this.#tried, undefined)
      }
      yield* this.#until(() => this.#isOurs)
      const fault = yield* Effect.match(Effect.scoped(this.#hold()), { onFailure: (error) => error, onSuccess: () => undefined })
      this.#isHeld = false
      this.#changed.fire()
      this.#parts.member.gone(this.#parts.id)
      if (fault !== undefined && !this.#parts.isPassing(fault)) {
        return yield* Deferred.fail(this.#failed, fault)
      }
      yield* Deferred.succeed(this.#tried, undefined)
      this.#trouble = fault
      if (fault !== undefined) yield* Effect.sleep(takeMsEvery)
    }
  })

  get #isOurs(): boolean {
    return !this.#leaving && this.#parts.member.isOurs(this.#parts.id)
  }

  /** Waits for something that membership or this seat decides. */
  readonly #until = Effect.fnUntraced(function* (this: Seat, ready: () => boolean) {
    while (!ready()) yield* Effect.raceFirst(this.#changed.until(ready), this.#parts.member.changed)
  })

  /** Ends well when the partition is to be given back, and fails with what ends it otherwise. */
  readonly #hold = Effect.fnUntraced(function* (this: Seat) {
    const taking = this.#parts.take((news) => {
      this.#said = news
      this.#post()
    })
    // Who cannot recover it, because a server is out of this worker's reach, does not keep it from others.
    const elsewhere = Effect.andThen(
      this.#until(() => !this.#isOurs),
      Effect.fail(leaseLost(this.#parts.id))
    )
    const held = yield* Effect.raceFirst(taking, elsewhere)
    const holding = new Holding(held.runner)
    this.#holding = holding
    this.#isHeld = true
    this.#changed.fire()
    yield* Deferred.succeed(this.#tried, undefined)
    const lost = Effect.andThen(held.lost, Effect.fail(leaseLost(this.#parts.id)))
    const ends = Effect.raceAllFirst([this.#until(() => !this.#isOurs), holding.failed, held.failed, lost])
    const given = Effect.andThen(ends, Effect.andThen(holding.ended, this.#settle(held)))
    // Whoever uses the runner lets go of it before anything that it stands on is closed.
    yield* Effect.ensuring(
      truly(given, held.confirmed, this.#parts.isPassing),
      Effect.andThen(
        holding.ended,
        Effect.sync(() => this.#let(holding))
      )
    )
  })

  /** P21: in doubt nothing is released. */
  #settle({ runner, failed, lost }: Held): Effect.Effect<void, KeyfoldError> {
    const doubt = Effect.andThen(Effect.raceFirst(Effect.sleep(settleMsMax), lost), Effect.fail(leaseLost(this.#parts.id)))
    return Effect.raceAllFirst([runner.partition.settled(), failed, doubt])
  }

  #let(holding: Holding): void {
    if (this.#holding === holding) this.#holding = undefined
    this.#said = undefined
    this.#changed.fire()
  }

  #post(): void {
    if (this.#said !== undefined) this.#parts.member.post(this.#parts.id, { ...this.#said, phase: this.#phase })
  }
}

/**
 * To an owner that another has replaced without its knowing, what the other does looks like damage: records trimmed, outputs that its journal
 * knows nothing of. So before a fault stops the query it is made sure that the partition was ours (P11).
 */
export const truly = <A, R>(
  effect: Effect.Effect<A, KeyfoldError, R>,
  confirmed: Effect.Effect<void, KeyfoldError>,
  isPassing: SeatParts["isPassing"]
): Effect.Effect<A, KeyfoldError, R> =>
  Effect.catch(effect, (fault) => (isPassing(fault) ? Effect.fail(fault) : Effect.andThen(confirmed, Effect.fail(fault))))

const leaseLost = ({ query, stage, partition }: JournalId): KeyfoldError =>
  new KeyfoldError("fenced", `the lease of ${query}/${stage}/${partition} may have run out: another worker may own it now`)

/** One time of holding the partition, and who uses its runner. */
class Holding implements Tenure {
  readonly runner: Runner
  readonly #failure = Deferred.makeUnsafe<never, KeyfoldError>()
  readonly #signal = new Signal()
  #users = 0
  isOver = false

  constructor(runner: Runner) {
    this.runner = runner
    runner.partition.over = this.over
  }

  /** Fails with what a task has failed with. */
  get failed(): Effect.Effect<never, KeyfoldError> {
    return Deferred.await(this.#failure)
  }

  get over(): Effect.Effect<void> {
    return this.#signal.until(() => this.isOver)
  }

  /** Ends it, and completes when nobody uses the runner any more. */
  get ended(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isOver = true
      this.#signal.fire()
      return this.#signal.until(() => this.#users === 0)
    })
  }

  /** Answers whether the task came to its own end. What it fails with ends the tenure: whoever keeps the seat decides what follows. */
  readonly use = Effect.fnUntraced(function* (this: Holding, task: (runner: Runner, tenure: Tenure) => Effect.Effect<void, KeyfoldError>) {
    const used = Effect.acquireUseRelease(
      Effect.sync(() => {
        this.#users += 1
      }),
      () => task(this.runner, this),
      () =>
        Effect.sync(() => {
          this.#users -= 1
          this.#signal.fire()
        })
    )
    const fault = yield* Effect.match(used, { onFailure: (error) => error, onSuccess: () => undefined })
    if (fault === undefined) return !this.isOver
    this.isOver = true
    this.#signal.fire()
    yield* Deferred.fail(this.#failure, fault)
    return false
  })
}
