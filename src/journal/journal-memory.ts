/** What the owner of a journal in Redis knows of it without asking: as of the last commit, because nobody else writes. */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { DirtyKeys } from "./dirty-keys.ts"
import type { OutboxLedger } from "./outbox-ledger.ts"

/** A checkpoint begins when the log has grown by this since the last one (P18). */
const logBytesMax = 16 * 1_048_576
/** Turns wait for the checkpoint when the log has grown by this: recovery reads no more than that, and one turn. */
const logBytesHeld = 4 * logBytesMax

export class JournalMemory {
  readonly dirty: DirtyKeys
  readonly ledger: OutboxLedger
  /** The last committed turn, and its progress. */
  revision: number
  progress: string | undefined
  /** The turn that the hash of states has come to. */
  snapshot: number
  /** How far Redis knows that outputs are confirmed. */
  confirmed: number
  /** What Redis says that states are written with. */
  fingerprint: string | undefined
  /** What the next commit says. */
  fingerprintDeclared: string | undefined
  /** Whether anything was committed since it was last asked. */
  isBusy = false
  #logBytes: number
  #isFull = Deferred.makeUnsafe<void>()
  #room = Deferred.makeUnsafe<void>()
  #broken: Cause.Cause<KeyfoldError> | undefined

  constructor(recovered: Recovered) {
    this.dirty = recovered.dirty
    this.ledger = recovered.ledger
    this.revision = recovered.revision
    this.progress = recovered.progress
    this.snapshot = recovered.snapshot
    this.confirmed = recovered.confirmed
    this.fingerprint = recovered.fingerprint
    this.#logBytes = recovered.logBytes
    this.logged(0)
  }

  /** Of the entries beyond the snapshot. */
  get logBytes(): number {
    return this.#logBytes
  }

  /** Completes when the log has grown so much that a checkpoint should not wait. */
  get logIsFull(): Effect.Effect<void> {
    return Deferred.await(this.#isFull)
  }

  logged(bytes: number): void {
    this.#logBytes += bytes
    if (this.#logBytes >= logBytesMax) Deferred.doneUnsafe(this.#isFull, Effect.void)
  }

  /** Whether turns have to wait: they have left checkpoints behind. */
  get isHeld(): boolean {
    return this.#logBytes >= logBytesHeld
  }

  /** Completes when they need not wait any more, or would wait in vain. */
  get room(): Effect.Effect<void> {
    return Effect.suspend(() => (this.isHeld && this.#broken === undefined ? Deferred.await(this.#room) : Effect.void))
  }

  /** No checkpoint gets through for now: turns fail by themselves. */
  yieldRoom(): void {
    Deferred.doneUnsafe(this.#room, Effect.void)
    this.#room = Deferred.makeUnsafe()
  }

  /** Why the work in the background has ended: the next commit fails with it. */
  get broken(): Cause.Cause<KeyfoldError> | undefined {
    return this.#broken
  }

  break(cause: Cause.Cause<KeyfoldError>): void {
    this.#broken = cause
    this.yieldRoom()
  }

  /** The log has forgotten entries of so many bytes. */
  trimmed(bytes: number): void {
    this.#isFull = Deferred.makeUnsafe()
    this.#logBytes -= bytes
    this.logged(0)
    if (!this.isHeld) this.yieldRoom()
  }
}

/** What recovery has read. */
export type Recovered = Pick<
  JournalMemory,
  "dirty" | "ledger" | "revision" | "progress" | "snapshot" | "confirmed" | "fingerprint" | "logBytes"
>
