/**
 * Where Avro's binary encoding is read from. Trusts no byte: nothing is allocated, and no loop begun, for more than the bytes that are
 * there can hold.
 */
import { depthMax, Misfit, weightlessItemsMax } from "./misfit.ts"

export class Input {
  readonly #bytes: Uint8Array
  /** The same bytes, made when the first text is read: a view costs as much as a text. */
  #buffer: Buffer | undefined
  #position: number
  #depth = 0
  #weightless = 0

  constructor(bytes: Uint8Array, position: number) {
    this.#bytes = bytes
    this.#position = position
  }

  end(): void {
    const left = this.#left
    if (left > 0) throw new Misfit(`${left} bytes too many: the value ends at byte ${this.#position}`)
  }

  enter(): void {
    this.#depth += 1
    if (this.#depth > depthMax) throw new Misfit(`more than ${depthMax} records within each other`)
  }

  leave(): void {
    this.#depth -= 1
  }

  boolean(): boolean {
    const byte = this.#byte()
    if (byte > 1) throw new Misfit(`a boolean is one byte, 0 or 1, got ${byte}`)
    return byte === 1
  }

  int(): number {
    const value = this.long()
    if (value !== (value | 0)) throw new Misfit(`an int has 32 bits, got ${value}`)
    return value
  }

  /** Refuses what a number cannot hold exactly, instead of rounding it. */
  long(): number {
    let byte = this.#byte()
    const negative = (byte & 1) === 1
    let magnitude = (byte & 0x7f) >> 1
    let scale = 64
    for (let count = 1; byte > 0x7f; count++) {
      if (count === longBytesMax) throw new Misfit(`a number of more than ${longBytesMax} bytes`)
      byte = this.#byte()
      magnitude += (byte & 0x7f) * scale
      scale *= 128
    }
    const value = negative ? -magnitude - 1 : magnitude
    if (!Number.isSafeInteger(value)) throw new Misfit("a long beyond 2^53 - 1, which a JavaScript number cannot hold exactly")
    return value
  }

  float(): number {
    this.#scratch(4)
    return scratch.getFloat32(0, true)
  }

  double(): number {
    this.#scratch(8)
    return scratch.getFloat64(0, true)
  }

  /** The length of a text or of bytes. */
  length(): number {
    const length = this.long()
    if (length < 0) throw new Misfit(`a length below 0, ${length}`)
    return length
  }

  /** Strict: what is not UTF-8 is refused, never replaced. */
  text(length: number): string {
    const start = this.#take(length)
    const end = start + length
    const bytes = this.#bytes
    for (let at = start; at < end; at++) {
      if ((bytes[at] as number) > 0x7f) return decodedUtf8(bytes.subarray(start, end))
    }
    this.#buffer ??= Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    return this.#buffer.toString("latin1", start, end)
  }

  /** A copy: plain bytes that neither keep the record's buffer alive nor can write into it. */
  fixed(length: number): Uint8Array {
    const start = this.#take(length)
    const copy = new Uint8Array(length)
    copy.set(this.#bytes.subarray(start, start + length))
    return copy
  }

  /**
   * The number of items in the next block of an array or a map; 0: there is none. `itemBytesMin` is what each takes at least, so a count
   * beyond the bytes that are left is a lie.
   */
  block(itemBytesMin: number): number {
    let count = this.long()
    if (count < 0) {
      count = -count
      this.length() // the block's size, for those who skip it
    }
    if (itemBytesMin === 0) {
      this.#weightless += count
      if (this.#weightless > weightlessItemsMax) throw new Misfit(`more than ${weightlessItemsMax} items that take no bytes`)
    } else if (count * itemBytesMin > this.#left) throw new Misfit(`${count} items in ${this.#left} bytes: cut off, or not Avro`)
    return count
  }

  /** Byte by byte is faster than a view of its own. */
  #scratch(count: number): void {
    const start = this.#take(count)
    for (let index = 0; index < count; index++) scratchBytes[index] = this.#bytes[start + index] as number
  }

  get #left(): number {
    return this.#bytes.length - this.#position
  }

  #byte(): number {
    const byte = this.#bytes[this.#position]
    if (byte === undefined) throw new Misfit(`cut off at byte ${this.#bytes.length}`)
    this.#position += 1
    return byte
  }

  /** Answers where they begin. */
  #take(count: number): number {
    const start = this.#position
    if (count > this.#left) throw new Misfit(`cut off: ${count} bytes from byte ${start} on, of which ${this.#left} are there`)
    this.#position = start + count
    return start
  }
}

const longBytesMax = 10

const scratch = new DataView(new ArrayBuffer(8))
const scratchBytes = new Uint8Array(scratch.buffer)

const decodedUtf8 = (bytes: Uint8Array): string => {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new Misfit("a text that is not UTF-8")
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
