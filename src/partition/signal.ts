/** Lets fibers of one process wait for a condition: whoever changes what it depends on says so. */
import * as Effect from "effect/Effect"

export class Signal {
  readonly #waiting = new Set<() => void>()

  /** Looks at every condition that is waited for. */
  fire(): void {
    for (const look of [...this.#waiting]) look()
  }

  /** Completes when `ready` is true: now, or when a `fire` finds it so. */
  until(ready: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const look = () => {
        if (!ready()) return
        this.#waiting.delete(look)
        resume(Effect.void)
      }
      this.#waiting.add(look)
      look()
      return Effect.sync(() => void this.#waiting.delete(look))
    })
  }
}
