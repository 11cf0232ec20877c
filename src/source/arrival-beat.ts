/**
 * Lets those that wait for records go on together. A message at a time costs most in the kernel and in the servers: partitions that go on in
 * one go of the event loop share their writes, to Redis and to NATS, and the servers' answers. Alone, or after a quiet moment, nobody waits.
 */
const beatMs = 1

export class ArrivalBeat {
  #waiting = new Set<() => void>()
  #isSet = false
  #lastMs = Number.NEGATIVE_INFINITY

  /** Calls back once, with all who join before the next beat. Answers how to leave. */
  join(call: () => void): () => void {
    this.#waiting.add(call)
    if (!this.#isSet) {
      this.#isSet = true
      if (performance.now() - this.#lastMs >= beatMs) setImmediate(this.#beat)
      else setTimeout(this.#beat, beatMs)
    }
    return () => void this.#waiting.delete(call)
  }

  readonly #beat = (): void => {
    const waiting = this.#waiting
    this.#waiting = new Set()
    this.#isSet = false
    this.#lastMs = performance.now()
    for (const call of waiting) call()
  }
}
