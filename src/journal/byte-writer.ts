/** Writes the binary formats of the journal (docs/journal-format.md) into one growing buffer. Hot path: no object per number or text. */

const bytesMin = 256

export class ByteWriter {
  #bytes: Buffer
  #at = 0

  constructor(bytesExpected: number) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(bytesMin, bytesExpected))
  }

  get size(): number {
    return this.#at
  }

  /** What has been written; the writer is not used any more. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }

  u8(value: number): void {
    this.#reserve(1)
    this.#bytes[this.#at++] = value
  }

  f64(value: number): void {
    this.#reserve(8)
    this.#at = this.#bytes.writeDoubleLE(value, this.#at)
  }

  /** A whole number from 0 to 2^53 - 1: seven bits a byte, the lowest first, the top bit of a byte set when another follows (LEB128). */
  count(value: number): void {
    this.#reserve(8)
    let rest = value
    while (rest >= 0x80) {
      this.#bytes[this.#at++] = (rest % 0x80) | 0x80
      rest = rest < 0x80000000 ? rest >>> 7 : Math.floor(rest / 0x80)
    }
    this.#bytes[this.#at++] = rest
  }

  blob(bytes: Uint8Array): void {
    this.count(bytes.byteLength)
    this.#reserve(bytes.byteLength)
    this.#bytes.set(bytes, this.#at)
    this.#at += bytes.byteLength
  }

  text(text: string): void {
    // A text of up to 42 units has at most 127 bytes: its length takes one byte, so that it can be written before it is known.
    if (text.length > 42) {
      this.count(Buffer.byteLength(text))
      this.#reserve(3 * text.length)
      this.#at += this.#bytes.write(text, this.#at)
      return
    }
    this.#reserve(1 + 3 * text.length)
    const size = this.#bytes.write(text, this.#at + 1)
    this.#bytes[this.#at] = size
    this.#at += 1 + size
  }

  #reserve(bytes: number): void {
    const needed = this.#at + bytes
    if (needed <= this.#bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bytes.length))
    this.#bytes.copy(larger, 0, 0, this.#at)
    this.#bytes = larger
  }
}
