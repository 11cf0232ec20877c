/** Reads the binary formats of the journal. Whatever the bytes are, it ends and reads none beyond them: what is wrong throws `Damage`. */

/** Bytes that are not what they should be; whoever knows what they belong to says so. */
export class Damage extends Error {}

export class ByteReader {
  readonly #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes
    this.#at = at
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  u8(): number {
    return this.#bytes[this.#take(1)] as number
  }

  f64(): number {
    return this.#bytes.readDoubleLE(this.#take(8))
  }

  count(): number {
    let value = 0
    let scale = 1
    for (;;) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (scale > 2 ** 49 || value > Number.MAX_SAFE_INTEGER) throw new Damage("a number is too large")
      if (byte < 0x80) return value
      scale *= 0x80
    }
  }

  /** How many of something follow; each takes a byte at least, so a wrong one is found before anything is made of it. */
  items(): number {
    const items = this.count()
    if (items > this.#bytes.length - this.#at) throw new Damage("a count is beyond the end")
    return items
  }

  /** A view, not a copy. */
  blob(): Buffer {
    const size = this.count()
    const start = this.#take(size)
    return this.#bytes.subarray(start, start + size)
  }

  /** All that is left; a copy. */
  rest(): Uint8Array {
    return new Uint8Array(this.#bytes.subarray(this.#take(this.#bytes.length - this.#at)))
  }

  text(): string {
    const size = this.count()
    const start = this.#take(size)
    return this.#bytes.toString("utf8", start, start + size)
  }

  #take(size: number): number {
    const start = this.#at
    if (size > this.#bytes.length - start) throw new Damage("it is cut off")
    this.#at = start + size
    return start
  }
}
