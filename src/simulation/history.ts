/**
 * What has happened in a simulation, as short lines: the last of them for people, and a digest of all of them, by which two runs of one
 * seed are known to be the same.
 */
const linesMax = 400

export class History {
  readonly #now: () => number
  readonly #last: string[] = []
  #digest = 0x811c9dc5
  #count = 0
  /** Told every line as it comes. */
  listener: ((line: string) => void) | undefined

  constructor(now: () => number) {
    this.#now = now
  }

  /** Something has happened to somebody. No random names: they differ from run to run. */
  add(who: string, what: string): void {
    const line = `${this.#now().toFixed(3)} ${who} ${what}`
    this.#count += 1
    for (let index = 0; index < line.length; index++) this.#digest = Math.imul(this.#digest ^ line.charCodeAt(index), 0x01000193)
    this.#last.push(line)
    if (this.#last.length >= 2 * linesMax) this.#last.splice(0, linesMax)
    this.listener?.(line)
  }

  get count(): number {
    return this.#count
  }

  /** FNV-1a of all lines, 32 bits, hexadecimal. */
  get digest(): string {
    return (this.#digest >>> 0).toString(16).padStart(8, "0")
  }

  last(count: number): readonly string[] {
    return this.#last.slice(-count)
  }
}
