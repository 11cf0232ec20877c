/** Writes lines to stdout: gathered into larger writes, no faster than the reader takes them. A failed write is the stream's to tell. */
import { nextRound } from "./terminal.ts"

/** All that lines need from a stream. */
export interface ByteSink {
  write(text: string, done: () => void): boolean
}

const gatheredMax = 65_536

export class LineOutput {
  readonly #sink: ByteSink
  #gathered: string[] = []
  #length = 0
  #isFlushing = false

  constructor(sink: ByteSink) {
    this.#sink = sink
  }

  /** Takes a line. Answers a promise when the reader must be waited for. */
  line(text: string): Promise<void> | undefined {
    this.#gathered.push(text)
    this.#length += text.length
    if (this.#length >= gatheredMax) return this.#fullWrite()
    if (!this.#isFlushing) this.#flushSoon()
    return undefined
  }

  /** Completes when everything that was taken is written. */
  flush(): Promise<void> {
    if (this.#gathered.length === 0) return Promise.resolve()
    const text = `${this.#gathered.join("\n")}\n`
    this.#gathered = []
    this.#length = 0
    return new Promise((resolve) => this.#sink.write(text, () => resolve()))
  }

  /** What comes in one round goes out with it: nothing lies here while a topic is quiet. */
  #flushSoon(): void {
    this.#isFlushing = true
    void nextRound().then(() => {
      this.#isFlushing = false
      return this.flush()
    })
  }

  async #fullWrite(): Promise<void> {
    await this.flush()
    await nextRound() // a topic in memory is read without a pause; signals must get through
  }
}
