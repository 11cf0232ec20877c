/**
 * The outputs of committed turns: those that are not confirmed, which come back after a restart (J7), and for a while those that are (P20).
 * Bounded: whoever publishes stops the turns when too many wait (P15), and what is only kept has a time and a size.
 */
import type { Outbox, Unpublished } from "../model/turn.ts"

interface Kept {
  readonly revision: number
  readonly outbox: Outbox
  readonly bytes: number
}

interface Confirmed {
  readonly revision: number
  readonly bytes: number
  readonly confirmedMs: number
}

/** What a partition keeps of confirmed outputs at most, whatever their age. */
export const historyBytesMax = 16 * 1_048_576

export class OutboxLedger {
  readonly #keptMs: number
  readonly #unconfirmed: Kept[] = []
  #history: Confirmed[] = []
  /** The last turn that had outputs. */
  #last: number
  #lastConfirmed = 0

  /** `inherited`: the last turn whose outputs a former owner has confirmed; it may have kept some of them, nobody knows how much. */
  constructor(options: { readonly keptMs: number; readonly inherited: number; readonly nowMs: number }) {
    this.#keptMs = options.keptMs
    this.#last = options.inherited
    if (options.inherited > 0) this.#history = [{ revision: 1, bytes: historyBytesMax, confirmedMs: options.nowMs }]
  }

  get last(): number {
    return this.#last
  }

  /** The last turn whose outputs were confirmed here. */
  get lastConfirmed(): number {
    return this.#lastConfirmed
  }

  /** Turns without outputs are not noted: nothing of them needs to be confirmed. */
  put(kept: Kept): void {
    this.#unconfirmed.push(kept)
    this.#last = kept.revision
  }

  confirm(upTo: number, nowMs: number): void {
    const count = this.#unconfirmed.findIndex(({ revision }) => revision > upTo)
    const confirmed = this.#unconfirmed.splice(0, count === -1 ? this.#unconfirmed.length : count)
    for (const { revision, bytes } of confirmed) this.#history.push({ revision, bytes, confirmedMs: nowMs })
    this.#lastConfirmed = confirmed.at(-1)?.revision ?? this.#lastConfirmed
  }

  /** No turn up to this one has outputs that are not confirmed. */
  confirmedThrough(head: number): number {
    const oldest = this.#unconfirmed[0]
    return oldest === undefined ? head : oldest.revision - 1
  }

  unpublished(): readonly Unpublished[] {
    return this.#unconfirmed.map(({ revision, outbox }) => ({ revision, outbox }))
  }

  /** What is left of a turn's outputs; undefined when nothing is. */
  left(revision: number): Outbox | undefined {
    return this.#unconfirmed.find((kept) => kept.revision === revision)?.outbox
  }

  /** Whether there are confirmed outputs that are kept no longer. */
  hasStale(nowMs: number): boolean {
    return this.#staleCount(nowMs) > 0
  }

  /** The first turn whose outputs are to be kept; those before it are forgotten here. */
  forgetStale(nowMs: number): number {
    this.#history.splice(0, this.#staleCount(nowMs))
    return this.#history[0]?.revision ?? this.#unconfirmed[0]?.revision ?? this.#last + 1
  }

  #staleCount(nowMs: number): number {
    let bytes = 0
    let count = this.#history.length
    for (; count > 0; count--) {
      const { confirmedMs, bytes: more } = this.#history[count - 1] as Confirmed
      bytes += more
      if (bytes > historyBytesMax || nowMs - confirmedMs >= this.#keptMs) break
    }
    return count
  }
}
