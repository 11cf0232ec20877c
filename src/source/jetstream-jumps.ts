/**
 * The jumps of a reader over records that are missing in the middle, where a stream's own settings remove records one by one. A jump looks the
 * same when a limit or a purge has overtaken the reader, and that is a gap (P3). Only where the stream begins tells them apart, and only when
 * it is asked after the jump: what has come behind one is held back until the leader has said it. One question clears all jumps that had
 * come before it was asked.
 *
 *   none ──jump──▶ asked ──cleared──▶ none
 *                    │ ▲
 *         another jump └─cleared: the next question is about that one
 */
import * as Effect from "effect/Effect"
import type { ReaderPosition } from "./jetstream-consumer.ts"

export class Jumps {
  /** Where the reader was before the first jump that is asked about, and before the first since. */
  #asked: ReaderPosition | undefined
  #next: ReaderPosition | undefined
  #came: (() => void) | undefined

  /** The place behind which everything is held back. */
  get heldBehind(): ReaderPosition | undefined {
    return this.#asked
  }

  /** The reader jumps from here. */
  from(at: ReaderPosition): void {
    if (this.#asked === undefined) {
      this.#asked = at
      this.#came?.()
    } else this.#next ??= at
  }

  /** The jump that was asked about is over records removed one by one. */
  clear(): void {
    this.#asked = this.#next
    this.#next = undefined
  }

  /** What was held back is not there any more. */
  forget(): void {
    this.#asked = undefined
    this.#next = undefined
  }

  /** Completes when there is one to ask about. */
  get came(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.#asked !== undefined) return resume(Effect.void)
      this.#came = () => resume(Effect.void)
      return Effect.sync(() => {
        this.#came = undefined
      })
    })
  }
}
