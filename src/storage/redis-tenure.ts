/**
 * One time of owning a journal in Redis: its token, its revision, its lease, and the one line in which its writes stand (F). Ownership
 * begins and ends it, the journal writes through it. Owns what happens to a write that is not answered; what is written is the journal's.
 *
 *   held ──lease ran out here, FENCED, MOVED──▶ lost (nothing is sent any more)
 *     └──scope closed──▶ given back
 *
 * The lease is counted from when its last prolongation was sent, by a clock that nobody can set, and ends a little earlier here than in
 * Redis (P21, L5). That is courtesy: what makes a late write harmless is the token.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { invariant, KeyfoldError } from "../errors.ts"
import type { JournalId, JournalOwner } from "../model/turn.ts"
import { monotonicMs } from "./monotonic.ts"
import { type JournalKeys, witness } from "./redis-fence.ts"
import { type RedisArgument, type RedisLink, type RedisReply, replyText } from "./redis-link.ts"
import { journalName } from "./store.ts"

/** What a journal was at its take-over. */
export interface JournalMeta {
  readonly revision: number
  /** The last turn that `state` and `timeouts` have; the log has what follows. */
  readonly snapshot: number
  /** As of the snapshot; undefined before the first. */
  readonly progress: string | undefined
  /** No turn up to this one has outputs that are not confirmed. */
  readonly confirmed: number
  /** The last turn that has an entry in `outbox`, 0 for none. */
  readonly outbox: number
  readonly fingerprint: string | undefined
}

export interface TenureParts {
  readonly link: RedisLink
  readonly owner: JournalOwner
  readonly keys: JournalKeys
  readonly meta: JournalMeta
  readonly leaseMs: number
  /** The journal's revision in the sense of the fence: writes, not turns. */
  readonly rev: number
  /** When the acquisition was sent. */
  readonly sentMs: number
  readonly scope: Scope.Scope
}

/** How long before Redis the lease is over here, as a part of it: clocks drift, and timers are late. */
export const marginPart = 1 / 8
const retryMs = 25

export class RedisTenure {
  readonly owner: JournalOwner
  readonly meta: JournalMeta
  readonly scope: Scope.Scope
  readonly #parts: TenureParts
  readonly #line = Semaphore.makeUnsafe(1)
  readonly #lost = Deferred.makeUnsafe<void>()
  /** What waits for an answer. */
  readonly #losers = new Set<() => void>()
  #leaseEndMs: number
  #rev: number
  #writes = 0
  #isOver = false

  constructor(parts: TenureParts) {
    this.#parts = parts
    this.owner = parts.owner
    this.meta = parts.meta
    this.scope = parts.scope
    this.#rev = parts.rev
    this.#leaseEndMs = leaseEnd(parts.leaseMs, parts.sentMs)
  }

  get link(): RedisLink {
    return this.#parts.link
  }

  get keys(): JournalKeys {
    return this.#parts.keys
  }

  get leaseMs(): number {
    return this.#parts.leaseMs
  }

  /** Completes when nobody may count on it any more (L5). */
  get lost(): Effect.Effect<void> {
    return Deferred.await(this.#lost)
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** By the clock of `monotonicMs`. */
  get leaseEndMs(): number {
    return this.#leaseEndMs
  }

  /** The revision that the next write expects. */
  get rev(): number {
    return this.#rev
  }

  /** Redis has given it a whole lease more, when it was asked at `sentMs` or later. */
  prolong(sentMs: number): void {
    this.#leaseEndMs = Math.max(this.#leaseEndMs, leaseEnd(this.#parts.leaseMs, sentMs))
  }

  lose(): void {
    this.#isOver = true
    Deferred.doneUnsafe(this.#lost, Effect.void)
    for (const lose of [...this.#losers]) lose()
  }

  /** One after the other, in the order of the calls: commits, confirmations, chunks of a checkpoint, and reads that must not see half of one. */
  inLine<A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return this.#line.withPermit(work)
  }

  /**
   * A write behind the fence; to be called in line. Without an answer it is sent again, as the same write, until it is answered or the
   * lease has run out (P10); so it is not interrupted either. `storage-full`: nothing was written, and the journal is as before.
   */
  write(lua: string, args: readonly RedisArgument[]): Effect.Effect<void, KeyfoldError> {
    return Effect.uninterruptible(this.#write(lua, args))
  }

  /** Fails with `fenced` when the journal is not ours any more, or Redis has lost what it had answered (P11). Prolongs the lease. */
  witness(): Effect.Effect<void, KeyfoldError> {
    return Effect.suspend(() => {
      const { owner, keys, leaseMs, link } = this.#parts
      const asked = link.script(witness, keys.all, [owner.token, String(this.#rev), String(leaseMs)])
      return Effect.flatMap(this.#untilAnswered(asked), ({ reply, sentMs }) => this.accept(reply, sentMs))
    })
  }

  /** What only reads, or changes nothing but the lease: repeated without an answer, for as long as the lease lasts. */
  ask(attempt: Effect.Effect<RedisReply, KeyfoldError>): Effect.Effect<RedisReply, KeyfoldError> {
    return Effect.map(this.#untilAnswered(attempt), ({ reply }) => reply)
  }

  readonly #write = Effect.fnUntraced(function* (this: RedisTenure, lua: string, args: readonly RedisArgument[]) {
    this.#writes += 1
    const { owner, keys, leaseMs, link } = this.#parts
    const fence = [owner.token, String(this.#rev), String(this.#writes), String(leaseMs)]
    let attempts = 0
    const attempt = Effect.suspend(() => {
      attempts += 1
      return link.script(lua, keys.all, [...fence, ...args])
    })
    const { reply, sentMs } = yield* Effect.catch(this.#untilAnswered(attempt), (failure) => this.#inDoubt(failure, attempts))
    yield* this.accept(reply, sentMs)
    this.#rev += 1
  })

  /** A refusal says that nothing was written by this attempt. One before it may have been: then taking over tells. */
  #inDoubt(failure: KeyfoldError, attempts: number): Effect.Effect<never, KeyfoldError> {
    return Effect.suspend(() => {
      if (attempts === 1 || this.#isOver) return Effect.fail(failure)
      this.lose()
      return Effect.fail(unanswered(this.owner))
    })
  }

  /** Takes the answer of a script that asks for the token. */
  accept(reply: RedisReply, sentMs: number): Effect.Effect<void, KeyfoldError> {
    return Effect.suspend(() => {
      const answer = replyText(reply)
      if (answer === "OK" || answer === "ALREADY") {
        this.prolong(sentMs)
        return Effect.void
      }
      invariant(answer === "FENCED" || answer === "MOVED", `F: a script behind the fence answered ${answer}`)
      this.lose()
      return Effect.fail(refusal(this.owner, answer))
    })
  }

  /** A race with `lost`, with one fiber instead of two: each turn runs one. */
  #whileOurs<A>(attempt: Effect.Effect<A, KeyfoldError>): Effect.Effect<A, KeyfoldError> {
    return Effect.flatMap(Effect.forkChild(attempt, { startImmediately: true }), (fiber) =>
      Effect.callback<A, KeyfoldError>((resume) => {
        const lose = () => {
          resume(Effect.fail(unanswered(this.owner)))
          fiber.interruptUnsafe()
        }
        this.#losers.add(lose)
        if (this.#isOver) lose()
        fiber.addObserver((exit) => {
          this.#losers.delete(lose)
          resume(exit)
        })
        return Effect.andThen(
          Effect.sync(() => this.#losers.delete(lose)),
          Fiber.interrupt(fiber)
        )
      })
    )
  }

  readonly #untilAnswered = Effect.fnUntraced(function* (this: RedisTenure, attempt: Effect.Effect<RedisReply, KeyfoldError>) {
    for (;;) {
      const sentMs = yield* monotonicMs
      if (sentMs >= this.#leaseEndMs) this.lose()
      if (this.#isOver) return yield* Effect.fail(unanswered(this.owner))
      const answer = yield* Effect.result(this.#whileOurs(attempt))
      if (Result.isSuccess(answer)) return { reply: answer.success, sentMs }
      if (answer.failure.code !== "unreachable") return yield* Effect.fail(answer.failure)
      yield* Effect.sleep(retryMs)
    }
  })
}

const leaseEnd = (leaseMs: number, sentMs: number): number => sentMs + leaseMs * (1 - marginPart)

const refusal = (owner: JournalOwner, answer: "FENCED" | "MOVED"): KeyfoldError => {
  const reasons = {
    FENCED: "has another owner by now, or Redis has lost it",
    MOVED: "is not as we left it: Redis was restarted or failed over, and has lost what it had answered"
  }
  return new KeyfoldError("fenced", `the journal ${journalName(owner)} ${reasons[answer]}: nothing was written. It is taken over again`)
}

const unanswered = (owner: JournalOwner): KeyfoldError =>
  new KeyfoldError(
    "fenced",
    `the lease of the journal ${journalName(owner)} may have run out, so another worker may own it: nobody knows whether what was under way was written. It is taken over again`
  )

/** The journals that this process owns, shared by ownership and journal. */
export class RedisTenures {
  readonly #tenures = new Map<string, RedisTenure>()
  readonly #claims = new Set<string>()

  /** Answers false when somebody here has the journal, or is about to (L3). */
  claim(id: JournalId): boolean {
    const name = journalName(id)
    if (this.#claims.has(name)) return false
    this.#claims.add(name)
    return true
  }

  unclaim(id: JournalId): void {
    this.#claims.delete(journalName(id))
  }

  begin(tenure: RedisTenure): void {
    this.#tenures.set(journalName(tenure.owner), tenure)
  }

  end(tenure: RedisTenure): void {
    this.#tenures.delete(journalName(tenure.owner))
  }

  all(): readonly RedisTenure[] {
    return [...this.#tenures.values()]
  }

  find(id: JournalId): RedisTenure | undefined {
    return this.#tenures.get(journalName(id))
  }
}
