/**
 * Cuts a stream of bytes into lines, byte by byte the same however the chunks were cut. Holds one line, never more than `lineBytesMax`
 * of it. Bytes, not text: a line that is not UTF-8 must arrive as it is.
 */

/** What a record can hold (the sink's bound): a longer line can never be stored. */
export const lineBytesMax = 8 * 1_048_576

/** A line without its end (LF or CRLF). */
export interface Line {
  /** 1-based, blank lines included, as editors count. */
  readonly number: number
  /** At most `lineBytesMax`; empty for a line that is longer. */
  readonly bytes: Uint8Array
  /** How long the line is, also when it is too long to be kept (then with the CR of its end). */
  readonly byteCount: number
}

export class LineSplitter {
  readonly #bytesMax: number
  #parts: Uint8Array[] = []
  #byteCount = 0
  #number = 0

  constructor(bytesMax: number = lineBytesMax) {
    this.#bytesMax = bytesMax
  }

  /** The lines that this chunk ends. They may share the chunk's memory. Blank lines are left out. */
  push(chunk: Uint8Array): Line[] {
    const lines: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(lineFeed); end !== -1; end = chunk.indexOf(lineFeed, start)) {
      this.#keep(chunk.subarray(start, end))
      this.#take(lines)
      start = end + 1
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
    return lines
  }

  /** The last line, when the stream did not end it. */
  end(): Line[] {
    const lines: Line[] = []
    if (this.#byteCount > 0) this.#take(lines)
    return lines
  }

  #keep(part: Uint8Array): void {
    this.#byteCount += part.length
    // A CR may turn out to belong to the line's end, hence one byte of grace.
    if (this.#byteCount > this.#bytesMax + 1) this.#parts = []
    else if (part.length > 0) this.#parts.push(part)
  }

  #take(lines: Line[]): void {
    const [only = nothing, ...more] = this.#parts
    const whole = more.length === 0 ? only : Buffer.concat(this.#parts)
    const lost = this.#byteCount - whole.length
    this.#parts = []
    this.#byteCount = 0
    this.#number += 1
    const bytes = withoutEnds(whole, this.#number === 1)
    const byteCount = bytes.length + lost
    if (lost > 0 || bytes.length > this.#bytesMax) lines.push({ number: this.#number, bytes: nothing, byteCount })
    else if (!isBlank(bytes)) lines.push({ number: this.#number, bytes, byteCount })
  }
}

const lineFeed = 0x0a
const carriageReturn = 0x0d
const nothing = new Uint8Array()

/** Without the CR of a CRLF, and without the byte order mark that some editors put before the first line. */
const withoutEnds = (line: Uint8Array, isFirst: boolean): Uint8Array => {
  const start = isFirst && line[0] === 0xef && line[1] === 0xbb && line[2] === 0xbf ? 3 : 0
  const end = line.at(-1) === carriageReturn ? line.length - 1 : line.length
  return line.subarray(start, Math.max(start, end))
}

/** Nothing but JSON's white space. */
const isBlank = (line: Uint8Array): boolean => {
  for (const byte of line) if (byte !== 0x20 && byte !== 0x09 && byte !== carriageReturn) return false
  return true
}
