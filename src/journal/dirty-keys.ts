/** Keys that committed turns have changed since Redis' hash of states last had them: these are newer than the hash, whatever it says. */
import type { KeyText } from "../model/key.ts"
import type { KeyImage } from "../model/turn.ts"
import { TimeoutIndex } from "../storage/timeout-index.ts"

export class DirtyKeys {
  readonly #images = new Map<KeyText, KeyImage>()
  readonly #timeouts = new TimeoutIndex()

  get size(): number {
    return this.#images.size
  }

  /** What a turn has left. Hot path. */
  put(changes: readonly KeyImage[]): void {
    for (const change of changes) {
      this.#images.set(change.keyText, change)
      this.#timeouts.set(change.keyText, change.timeoutAt)
    }
  }

  has(keyText: KeyText): boolean {
    return this.#images.has(keyText)
  }

  /** Not a copy; a key that is gone has neither state nor timeout. */
  get(keyText: KeyText): KeyImage | undefined {
    return this.#images.get(keyText)
  }

  all(): MapIterator<KeyImage> {
    return this.#images.values()
  }

  /** Those that are armed and due strictly before a time, in order (J5). */
  due(before: number, countMax: number): readonly KeyImage[] {
    return this.#timeouts.before(before, countMax).map((keyText) => this.#images.get(keyText) as KeyImage)
  }

  span(): { readonly first: number; readonly last: number } | undefined {
    return this.#timeouts.span()
  }

  /** P20: the hash has these now; those that were changed once more stay dirty. */
  clean(written: readonly KeyImage[]): void {
    for (const image of written) {
      if (this.#images.get(image.keyText) !== image) continue
      this.#images.delete(image.keyText)
      this.#timeouts.set(image.keyText, undefined)
    }
  }
}
