/**
 * Notices what other processes commit to a file: SQLite counts it in `data_version`, which costs a microsecond to read. Owns the one
 * timer of a database. While things move it asks every 5 ms, after a second of quiet every 50 ms.
 */
import type { ForeignChanges } from "./change-notice.ts"

const delayMsMin = 5
const delayMsMax = 50
const delayGrowth = 1.05

export class ChangePoll implements ForeignChanges {
  readonly #version: () => number
  #versionSeen = -1
  #delayMs = delayMsMin
  #timer: NodeJS.Timeout | undefined

  constructor(version: () => number) {
    this.#version = version
  }

  /** What was seen last stays known between stop and start: a change in between wakes whoever waits next. */
  start(changedAnywhere: () => void): void {
    this.#timer = setTimeout(() => {
      this.start(changedAnywhere)
      if (this.#moved()) changedAnywhere()
    }, this.#delayMs)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  #moved(): boolean {
    const version = this.#readVersion()
    const moved = version !== this.#versionSeen
    this.#versionSeen = version
    this.#delayMs = moved ? delayMsMin : Math.min(delayMsMax, this.#delayMs * delayGrowth)
    return moved
  }

  /** A file that cannot be read counts as changed: whoever waits asks the file itself, and gets its error. */
  #readVersion(): number {
    try {
      return this.#version()
    } catch {
      return Number.NaN
    }
  }
}
