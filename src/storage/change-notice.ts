/**
 * Wakes who waits for a change (S5). Writers of this process say which channels they changed; what other processes change is noticed by
 * polling, for as long as somebody waits.
 */
import * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"

/** Looks for changes of other processes between `start` and `stop`, and calls `changedAnywhere` when it saw one. */
export interface ForeignChanges {
  readonly start: (changedAnywhere: () => void) => void
  readonly stop: () => void
}

interface Waiter {
  readonly channels: readonly string[]
  /** How to go on, or undefined: not yet. */
  readonly outcome: () => Effect.Effect<void, KeyfoldError> | undefined
  readonly resume: (outcome: Effect.Effect<void, KeyfoldError>) => void
}

export class ChangeNotice {
  readonly #foreign: ForeignChanges | undefined
  readonly #waiters = new Set<Waiter>()
  #byChannel = new Map<string, Set<Waiter>>()
  #woken = new Set<Waiter>()

  constructor(foreign?: ForeignChanges) {
    this.#foreign = foreign
  }

  until(channels: readonly string[], outcome: Waiter["outcome"]): Effect.Effect<void, KeyfoldError> {
    return Effect.callback<void, KeyfoldError>((resume) => {
      const known = outcome()
      if (known !== undefined) return resume(known)
      const waiter = { channels, outcome, resume }
      this.#add(waiter)
      return Effect.sync(() => this.#remove(waiter))
    })
  }

  changed(channels: Iterable<string>): void {
    for (const channel of channels) for (const waiter of this.#byChannel.get(channel) ?? none) this.#wake(waiter)
  }

  changedAnywhere(): void {
    for (const waiter of this.#waiters) this.#wake(waiter)
  }

  /** Later, in one go: who waits must not run inside of the write that it waits for. */
  #wake(waiter: Waiter): void {
    if (this.#woken.size === 0) queueMicrotask(() => this.#ask())
    this.#woken.add(waiter)
  }

  #ask(): void {
    const woken = this.#woken
    this.#woken = new Set()
    for (const waiter of woken) {
      const outcome = this.#waiters.has(waiter) ? waiter.outcome() : undefined
      if (outcome === undefined) continue
      this.#remove(waiter)
      waiter.resume(outcome)
    }
  }

  #add(waiter: Waiter): void {
    if (this.#waiters.size === 0) this.#foreign?.start(() => this.changedAnywhere())
    this.#waiters.add(waiter)
    for (const channel of waiter.channels) {
      const waiters = this.#byChannel.get(channel)
      if (waiters === undefined) this.#byChannel.set(channel, new Set([waiter]))
      else waiters.add(waiter)
    }
  }

  #remove(waiter: Waiter): void {
    if (!this.#waiters.delete(waiter)) return
    for (const channel of waiter.channels) {
      const waiters = this.#byChannel.get(channel)
      waiters?.delete(waiter)
      if (waiters?.size === 0) this.#byChannel.delete(channel)
    }
    if (this.#waiters.size === 0) this.#foreign?.stop()
  }
}

const none: readonly Waiter[] = []
