/** What is to happen when: a binary heap by time, and for one time by the order in which it was put there. */

export interface Appointment {
  readonly atMs: number
  readonly act: () => void
  isCancelled: boolean
}

interface Entry extends Appointment {
  readonly order: number
}

export class Agenda {
  readonly #heap: Entry[] = []
  #count = 0

  add(atMs: number, act: () => void): Appointment {
    const entry: Entry = { atMs, act, isCancelled: false, order: ++this.#count }
    this.#heap.push(entry)
    this.#rise(this.#heap.length - 1)
    return entry
  }

  /** The next that is not cancelled, taken out; undefined when nothing is to happen until then. */
  next(untilMs: number): Appointment | undefined {
    for (;;) {
      const first = this.#heap[0]
      if (first === undefined || (first.atMs > untilMs && !first.isCancelled)) return undefined
      const last = this.#heap.pop() as Entry
      if (this.#heap.length > 0) {
        this.#heap[0] = last
        this.#sink(0)
      }
      if (!first.isCancelled) return first
    }
  }

  #rise(from: number): void {
    const heap = this.#heap
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1
      if (!isBefore(heap[at] as Entry, heap[parent] as Entry)) return
      swap(heap, at, parent)
      at = parent
    }
  }

  #sink(from: number): void {
    const heap = this.#heap
    for (let at = from; ; ) {
      const [left, right] = [2 * at + 1, 2 * at + 2]
      let first = at
      if (left < heap.length && isBefore(heap[left] as Entry, heap[first] as Entry)) first = left
      if (right < heap.length && isBefore(heap[right] as Entry, heap[first] as Entry)) first = right
      if (first === at) return
      swap(heap, at, first)
      at = first
    }
  }
}

const isBefore = (one: Entry, other: Entry): boolean => one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order)

const swap = (heap: Entry[], one: number, other: number): void => {
  const entry = heap[one] as Entry
  heap[one] = heap[other] as Entry
  heap[other] = entry
}
