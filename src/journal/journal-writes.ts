/** Writes of an owned journal in Redis: turns and confirmations. Memory changes with the answer, in the same line (P9). */
import * as Effect from "effect/Effect"
import { invariant, type KeyfoldError } from "../errors.ts"
import { emptyOutbox, type Outbox, type TurnRecord } from "../model/turn.ts"
import { monotonicMs } from "../storage/monotonic.ts"
import { witness } from "../storage/redis-fence.ts"
import type { RedisTenure } from "../storage/redis-tenure.ts"
import { journalName } from "../storage/store.ts"
import { encodeOutbox, encodeTurn } from "./entry.ts"
import type { JournalMemory } from "./journal-memory.ts"
import { commit, confirm } from "./scripts.ts"

/** P16. A confirmation that no commit has taken along waits for so long, or twice as long when there was a commit just before it. */
const flushMsEvery = 1_000

export class JournalWrites {
  readonly #tenure: RedisTenure
  readonly #memory: JournalMemory

  constructor(tenure: RedisTenure, memory: JournalMemory) {
    this.#tenure = tenure
    this.#memory = memory
  }

  /** P8, P9. What is left to publish is everything: nothing becomes visible with the commit itself. */
  readonly commit = Effect.fnUntraced(function* (this: JournalWrites, turn: TurnRecord) {
    const written = Effect.uninterruptible(Effect.suspend(() => this.#commit(turn)))
    if (this.#memory.isHeld) yield* Effect.raceFirst(this.#memory.room, this.#tenure.lost)
    const left = yield* this.#tenure.inLine(written)
    yield* this.lasting
    return left
  })

  /**
   * P9: completes when what was asked for has all that was written so far, for as long as it takes. Only a stop interrupts it: the turn is in
   * the log, and whoever owns the journal next waits again before anything of it is published.
   */
  get lasting(): Effect.Effect<void, KeyfoldError> {
    return Effect.suspend(() =>
      this.#tenure.link.lastingScript === undefined ? Effect.void : Effect.interruptible(this.#lasting(this.#tenure.rev))
    )
  }

  readonly #commit = Effect.fnUntraced(function* (this: JournalWrites, turn: TurnRecord) {
    const memory = this.#memory
    if (memory.broken !== undefined) return yield* Effect.failCause(memory.broken)
    const { revision, progress, outbox } = turn
    if (revision === memory.revision) return memory.ledger.left(revision) ?? emptyOutbox // J3
    const follows = revision === memory.revision + 1
    invariant(follows, `J3: revision ${revision} of ${journalName(this.#tenure.owner)} does not follow ${memory.revision}`)

    const confirmed = memory.ledger.confirmedThrough(memory.revision)
    const entry = encodeTurn(turn, confirmed)
    const kept = keptOf(outbox)
    const outboxEntry = kept && encodeOutbox({ revision, previous: memory.ledger.last, outbox: kept })
    const fingerprint = memory.fingerprintDeclared === memory.fingerprint ? "" : (memory.fingerprintDeclared ?? "")
    yield* this.#tenure.write(commit, [String(revision), String(confirmed), entry.bytes, outboxEntry ?? "", fingerprint])

    memory.revision = revision
    memory.progress = progress
    memory.confirmed = confirmed
    memory.fingerprint = memory.fingerprintDeclared
    memory.isBusy = true
    memory.dirty.put(entry.changes)
    if (kept !== undefined && outboxEntry !== undefined) memory.ledger.put({ revision, outbox: kept, bytes: outboxEntry.byteLength })
    memory.logged(entry.bytes.byteLength)
    return outbox
  })

  /** `write`: what the fence's revision is after it. */
  readonly #lasting = Effect.fnUntraced(function* (this: JournalWrites, write: number) {
    const { lastingScript } = this.#tenure.link
    if (lastingScript === undefined) return
    const { keys, owner, leaseMs } = this.#tenure
    const sentMs = yield* monotonicMs
    const attempt = lastingScript(witness, keys.all, [owner.token, String(write), String(leaseMs)])
    yield* this.#tenure.accept(yield* this.#tenure.ask(attempt), sentMs)
  })

  /** Known here at once, and to Redis with the next commit, alone soon after, or when the journal is given back: until then a crash repeats it. */
  readonly confirm = Effect.fnUntraced(function* (this: JournalWrites, revision: number) {
    this.#memory.ledger.confirm(revision, yield* monotonicMs)
  })

  /** Tells Redis what no commit has taken along. */
  get flush(): Effect.Effect<void, KeyfoldError> {
    return this.#tenure.inLine(Effect.uninterruptible(this.#flush()))
  }

  readonly #flush = Effect.fnUntraced(function* (this: JournalWrites) {
    const { ledger, revision, confirmed } = this.#memory
    if (ledger.lastConfirmed <= confirmed) return
    const confirmedNow = ledger.confirmedThrough(revision)
    yield* this.#tenure.write(confirm, [String(confirmedNow)])
    this.#memory.confirmed = confirmedNow
  })

  /** Flushes for as long as it is run; a busy journal's commits do it by themselves. */
  readonly keepFlushed = Effect.fnUntraced(function* (this: JournalWrites) {
    for (;;) {
      yield* Effect.sleep(flushMsEvery)
      if (!this.#memory.isBusy)
        yield* Effect.catch(this.flush, (failure) => (failure.code === "storage-full" ? Effect.void : Effect.fail(failure)))
      this.#memory.isBusy = false
    }
  })
}

/** What there is to publish; undefined when nothing is. */
const keptOf = ({ records, deliveries }: Outbox): Outbox | undefined => {
  const kept = { records, deliveries: deliveries.filter(({ values }) => values.length > 0) }
  return kept.records.length + kept.deliveries.length === 0 ? undefined : kept
}
