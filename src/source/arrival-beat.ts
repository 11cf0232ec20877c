/**
 * Lets those that wait for records go on together. A message at a time costs most in the kernel and in the servers: partitions that go on in
 * one go of the event loop share their writes, to Redis and to NATS, and the servers' answers. Alone, or after a quiet moment, nobody waits.
 */
import * as Effect from "effect/Effect"
import { monotonicMs } from "../storage/monotonic.ts"

const beatMs = 1

export class ArrivalBeat {
  #waiting = new Set<() => void>()
  #awake: (() => void) | undefined

  /** Calls back once, with all who join before the next beat. Answers how to leave. */
  join(call: () => void): () => void {
    this.#waiting.add(call)
    this.#awake?.()
    return () => void this.#waiting.delete(call)
  }

  /** Beats for as long as it is run. */
  readonly run: Effect.Effect<never> = Effect.gen({ self: this }, function* (this: ArrivalBeat) {
    let lastMs = Number.NEGATIVE_INFINITY
    for (;;) {
      yield* this.#somebody
      const nowMs = yield* monotonicMs
      yield* nowMs - lastMs < beatMs ? Effect.sleep(beatMs) : Effect.yieldNow
      lastMs = yield* monotonicMs
      const waiting = this.#waiting
      this.#waiting = new Set()
      for (const call of waiting) call()
    }
  })

  get #somebody(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.#waiting.size > 0) return resume(Effect.void)
      this.#awake = () => {
        this.#awake = undefined
        resume(Effect.void)
      }
    })
  }
}
