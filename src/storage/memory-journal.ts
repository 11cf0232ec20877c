/** One journal in memory. */
import { compareKeyTexts, type KeyText } from "../model/key.ts"
import { type Delivery, emptyOutbox, type KeyImage, type Unpublished } from "../model/turn.ts"
import type { JournalState, StoredJournal } from "./store.ts"
import { TimeoutIndex } from "./timeout-index.ts"

export class MemoryJournal implements StoredJournal {
  #state: JournalState = { epoch: 0, revision: 0, fingerprint: undefined, progress: undefined }
  readonly #images = new Map<KeyText, KeyImage>()
  readonly #timeouts = new TimeoutIndex()
  #unpublished: readonly Unpublished[] = []

  nextEpoch(): number {
    this.#state = { ...this.#state, epoch: this.#state.epoch + 1 }
    return this.#state.epoch
  }

  state(): JournalState {
    return this.#state
  }

  advance(to: Omit<JournalState, "epoch">): void {
    this.#state = { ...to, epoch: this.#state.epoch }
  }

  change(images: readonly KeyImage[]): void {
    for (const image of images) {
      const { keyText, bytes, timeoutAt } = image
      this.#timeouts.set(keyText, timeoutAt)
      if (bytes === undefined && timeoutAt === undefined)
        this.#images.delete(keyText) // J6
      else this.#images.set(keyText, copyOf(image))
    }
  }

  load(keys: readonly KeyText[]): readonly (KeyImage | undefined)[] {
    return keys.map((key) => this.#image(key))
  }

  due({ before, countMax }: { readonly before: number; readonly countMax: number }): readonly KeyImage[] {
    return this.#timeouts.before(before, countMax).map((key) => this.#image(key) as KeyImage)
  }

  timeouts(): { readonly first: number; readonly last: number } | undefined {
    return this.#timeouts.span()
  }

  keys(): readonly KeyImage[] {
    return [...this.#images.keys()].sort(compareKeyTexts).map((key) => this.#image(key) as KeyImage)
  }

  holdsState(): boolean {
    return this.#images.values().some((image) => image.bytes !== undefined)
  }

  keepDeliveries(revision: number, deliveries: readonly Delivery[]): void {
    const kept = deliveries.filter(({ values }) => values.length > 0).map(copyOfDelivery)
    if (kept.length > 0) this.#unpublished = [...this.#unpublished, { revision, outbox: { ...emptyOutbox, deliveries: kept } }]
  }

  forgetDeliveries(upTo: number): void {
    this.#unpublished = this.#unpublished.filter(({ revision }) => revision > upTo)
  }

  unpublished(): readonly Unpublished[] {
    return this.#unpublished.map(({ revision, outbox }) => ({
      revision,
      outbox: { ...outbox, deliveries: outbox.deliveries.map(copyOfDelivery) }
    }))
  }

  #image(key: KeyText): KeyImage | undefined {
    const image = this.#images.get(key)
    return image && copyOf(image)
  }
}

const copyOf = ({ keyText, bytes, timeoutAt }: KeyImage): KeyImage => ({ keyText, bytes: bytes && new Uint8Array(bytes), timeoutAt })

const copyOfDelivery = ({ sink, values }: Delivery): Delivery => ({ sink, values: values.map((value) => new Uint8Array(value)) })
