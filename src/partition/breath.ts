/**
 * Lets the process breathe between the calls of its partitions. State functions are synchronous, and what many partitions wait for comes
 * together: without this their calls would follow each other without a pause, for longer than a lease, and nobody could prolong one (P21).
 * Owns when the event loop goes on; how long the calls of one turn take is up to their function.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** Calls that have taken so long on end are followed by whatever else waits. */
const burstMsMax = 50
/** Rounds of the event loop until a prolongation is on its way: its fiber, the race in it, the script, the socket. */
const roundsPerBreath = 16

/** One for all partitions of a query. */
export class Breath {
  readonly #line = Semaphore.makeUnsafe(1)
  /** Spent in calls since the last breath. */
  #burstMs = 0

  /** Runs the calls of a turn; before them the event loop goes on, when other calls have taken long. */
  run<A>(calls: () => A): Effect.Effect<A> {
    const timed = Effect.clockWith((clock) =>
      Effect.sync(() => {
        const beganNanos = clock.monotonicTimeNanosUnsafe()
        try {
          return calls()
        } finally {
          this.#burstMs += Number(clock.monotonicTimeNanosUnsafe() - beganNanos) / 1_000_000
        }
      })
    )
    return this.#line.withPermit(Effect.suspend(() => (this.#burstMs < burstMsMax ? timed : Effect.andThen(this.#breathe(), timed))))
  }

  readonly #breathe = Effect.fnUntraced(function* (this: Breath) {
    for (let round = 0; round < roundsPerBreath; round++) yield* Effect.yieldNow
    this.#burstMs = 0
  })
}
