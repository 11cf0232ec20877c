/** Where Avro's binary encoding is written: a buffer that grows. Callers have checked the values; text is checked here, once. */
import { depthMax, Misfit, weightlessItemsMax } from "./misfit.ts"

const bytesAtFirst = 1_024
/** A buffer that one large value has made larger than this is not kept for the next. */
const bytesKeptMax = 65_536
const asciiAtOnceMax = 64

export class Output {
  #bytes: Buffer = Buffer.allocUnsafeSlow(bytesAtFirst)
  #view = viewOf(this.#bytes)
  #position = 0
  #depth = 0
  #weightless = 0

  begin(header: Uint8Array): void {
    this.#position = 0
    this.#depth = 0
    this.#weightless = 0
    this.raw(header)
  }

  /** What was written, in memory that nobody writes again: a window on Node's pool, as the json codec's. */
  end(): Uint8Array {
    const { buffer, byteOffset, byteLength } = Buffer.from(this.#bytes.subarray(0, this.#position))
    if (this.#bytes.length > bytesKeptMax) this.#grow(bytesAtFirst)
    return new Uint8Array(buffer, byteOffset, byteLength)
  }

  enter(): void {
    this.#depth += 1
    if (this.#depth > depthMax) throw new Misfit(`more than ${depthMax} records within each other, or a cycle`)
  }

  leave(): void {
    this.#depth -= 1
  }

  /** See `weightlessItemsMax`. */
  weightless(count: number): void {
    this.#weightless += count
    if (this.#weightless > weightlessItemsMax) throw new Misfit(`more than ${weightlessItemsMax} items that take no bytes`)
  }

  raw(bytes: Uint8Array): void {
    this.#ensure(bytes.length)
    this.#bytes.set(bytes, this.#position)
    this.#position += bytes.length
  }

  byte(value: number): void {
    this.#ensure(1)
    this.#bytes[this.#position++] = value
  }

  /**
   * A safe integer as zigzag varint. Without bit operations on all of it, which have 32 bits, and without doubling it, which beyond 2^52
   * loses the lowest bit (avsc 5.7 writes -(2^52 + 1) as -2^52).
   */
  long(value: number): void {
    this.#ensure(10)
    const bytes = this.#bytes
    const negative = value < 0
    const magnitude = negative ? -value - 1 : value
    let rest = Math.floor(magnitude / 64)
    let low = ((magnitude & 63) << 1) | (negative ? 1 : 0)
    while (rest > 0) {
      bytes[this.#position++] = low | 0x80
      low = rest & 127
      rest = rest < 2 ** 31 ? rest >>> 7 : Math.floor(rest / 128)
    }
    bytes[this.#position++] = low
  }

  float(value: number): void {
    this.#ensure(4)
    this.#view.setFloat32(this.#position, value, true)
    this.#position += 4
  }

  double(value: number): void {
    this.#ensure(8)
    this.#view.setFloat64(this.#position, value, true)
    this.#position += 8
  }

  /** Refuses a lone surrogate, which UTF-8 cannot hold. */
  text(value: string): void {
    if (value.length > asciiAtOnceMax || !this.#ascii(value)) this.#utf8(value)
  }

  /** Short ASCII, by far the most: byte by byte is faster than a call. False: it is not, and nothing was written. */
  #ascii(value: string): boolean {
    const { length } = value
    const before = this.#position
    this.long(length)
    this.#ensure(length)
    const bytes = this.#bytes
    let at = this.#position
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index)
      if (code > 0x7f) {
        this.#position = before
        return false
      }
      bytes[at++] = code
    }
    this.#position = at
    return true
  }

  #utf8(value: string): void {
    if (!value.isWellFormed()) throw new Misfit("a text with a lone surrogate has no UTF-8")
    const length = Buffer.byteLength(value, "utf8")
    this.long(length)
    this.#ensure(length)
    this.#position += this.#bytes.write(value, this.#position, length, "utf8")
  }

  #ensure(count: number): void {
    const needed = this.#position + count
    if (needed > this.#bytes.length) this.#grow(Math.max(needed, 2 * this.#bytes.length))
  }

  #grow(size: number): void {
    const grown = Buffer.allocUnsafeSlow(size)
    grown.set(this.#bytes.subarray(0, Math.min(this.#position, size)))
    this.#bytes = grown
    this.#view = viewOf(grown)
  }
}

const viewOf = ({ buffer, byteOffset, byteLength }: Buffer): DataView => new DataView(buffer, byteOffset, byteLength)
