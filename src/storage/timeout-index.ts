/**
 * Armed timeouts in order of time, then key bytes (T4): what SQLite has an index for. Two heaps, earliest and latest first, from which
 * entries that are no longer armed are dropped when they come to the top, or all at once when they are the majority.
 */
import { compareKeyTexts, type KeyText } from "../model/key.ts"

interface Entry {
  readonly keyText: KeyText
  readonly timeoutAt: number
}

const staleCountMin = 1_024

export class TimeoutIndex {
  readonly #armed = new Map<KeyText, Entry>()
  readonly #earliest = new Heap(compareEntries)
  readonly #latest = new Heap((left, right) => compareEntries(right, left))

  set(keyText: KeyText, timeoutAt: number | undefined): void {
    if (this.#armed.get(keyText)?.timeoutAt === timeoutAt) return
    if (timeoutAt === undefined) this.#armed.delete(keyText)
    else {
      const entry = { keyText, timeoutAt }
      this.#armed.set(keyText, entry)
      this.#earliest.push(entry)
      this.#latest.push(entry)
    }
    this.#compact(this.#earliest)
    this.#compact(this.#latest)
  }

  /** The first `countMax` keys that are due strictly before a time, in order. They stay armed. */
  before(timeMs: number, countMax: number): readonly KeyText[] {
    const due: Entry[] = []
    while (due.length < countMax) {
      const entry = this.#top(this.#earliest)
      if (entry === undefined || entry.timeoutAt >= timeMs) break
      due.push(entry)
      this.#earliest.pop()
    }
    for (const entry of due) this.#earliest.push(entry)
    return due.map((entry) => entry.keyText)
  }

  span(): { readonly first: number; readonly last: number } | undefined {
    const first = this.#top(this.#earliest)
    const last = this.#top(this.#latest)
    return first === undefined || last === undefined ? undefined : { first: first.timeoutAt, last: last.timeoutAt }
  }

  #top(heap: Heap): Entry | undefined {
    for (let entry = heap.top; entry !== undefined; entry = heap.top) {
      if (this.#armed.get(entry.keyText) === entry) return entry
      heap.pop()
    }
    return undefined
  }

  #compact(heap: Heap): void {
    if (heap.size > 2 * this.#armed.size + staleCountMin) heap.fill(this.#armed.values())
  }
}

function compareEntries(left: Entry, right: Entry): number {
  return left.timeoutAt - right.timeoutAt || compareKeyTexts(left.keyText, right.keyText)
}

/** A binary heap: the parent of `index` is at (index - 1) / 2. */
class Heap {
  readonly #compare: (left: Entry, right: Entry) => number
  #entries: Entry[] = []

  constructor(compare: (left: Entry, right: Entry) => number) {
    this.#compare = compare
  }

  get size(): number {
    return this.#entries.length
  }

  get top(): Entry | undefined {
    return this.#entries[0]
  }

  /** A sorted array is a heap. */
  fill(entries: Iterable<Entry>): void {
    this.#entries = [...entries].sort(this.#compare)
  }

  push(entry: Entry): void {
    const entries = this.#entries
    let index = entries.length
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (this.#compare(entries[parent] as Entry, entry) <= 0) break
      entries[index] = entries[parent] as Entry
      index = parent
    }
    entries[index] = entry
  }

  pop(): void {
    const entries = this.#entries
    const moved = entries.pop()
    if (moved === undefined || entries.length === 0) return
    let index = 0
    for (;;) {
      const child = this.#lesserChild(index)
      if (child === undefined || this.#compare(entries[child] as Entry, moved) >= 0) break
      entries[index] = entries[child] as Entry
      index = child
    }
    entries[index] = moved
  }

  #lesserChild(index: number): number | undefined {
    const entries = this.#entries
    const left = 2 * index + 1
    if (left >= entries.length) return undefined
    const right = left + 1
    return right < entries.length && this.#compare(entries[right] as Entry, entries[left] as Entry) < 0 ? right : left
  }
}
