/**
 * The load of a chaos run, endless and all from one seed: requests of readers who come and go. And its true sessions, by the plain sequential
 * model, which shares nothing with the engine.
 */
import type { Request } from "../fixtures/jobs.ts"
import { randomFrom } from "../fixtures/random.ts"
import type { TrueSession } from "../reference/sessions.ts"

/** As the jobs of fixtures/jobs.ts have it. */
const gapMs = 1_800_000
const parcelCount = 50
/** Less than the jobs' watermark delay: so the requests of a parcel may be published in any order, and none is late. */
const parcelMsMax = 25_000
/** Each comes back after 15 minutes on average: one pause in seven ends a session. */
const readerCount = 3_600
/** So often a reader leaves for good and another one comes. */
const requestsPerReader = 25

export class Visits {
  readonly #random: () => number
  #at = 1_389_052_800_000
  #count = 0

  constructor(seed: number) {
    this.#random = randomFrom(seed)
  }

  /** The next requests, in order of their times. All of them are stored before any of the parcel after it is published. */
  parcel(): readonly Request[] {
    return Array.from({ length: parcelCount }, () => this.#request(this.#oldest + Math.floor(this.#random() * readerCount)))
  }

  /** Everybody once more, hours later: whatever was open before is over then, in every partition. */
  finale(): readonly (readonly Request[])[] {
    const first = this.#oldest
    this.#at += 4 * gapMs
    return Array.from({ length: readerCount / parcelCount }, (_, parcel) =>
      Array.from({ length: parcelCount }, (_, index) => this.#request(first + parcel * parcelCount + index))
    )
  }

  get #oldest(): number {
    return Math.floor(this.#count / requestsPerReader)
  }

  #request(reader: number): Request {
    this.#count += 1
    this.#at += 1 + Math.floor((this.#random() * parcelMsMax) / parcelCount)
    const readerId = (Math.imul(reader, 0x9e3779b1) >>> 0).toString(16).padStart(8, "0")
    return { readerId, at: this.#at, page: `/page/${this.#count}` }
  }
}

/** Takes requests in order of their times. */
export class SequentialSessions {
  /** The one whose last request is the oldest comes first. */
  readonly #open = new Map<string, TrueSession>()

  /** Answers the sessions that are over by then. */
  add({ readerId: key, at }: Request): readonly TrueSession[] {
    const over = this.#overAt(at)
    const open = this.#open.get(key)
    this.#open.delete(key)
    this.#open.set(key, open === undefined ? { key, start: at, end: at, count: 1 } : { ...open, end: at, count: open.count + 1 })
    return over
  }

  /** Those that are left, when no more requests come. */
  close(): readonly TrueSession[] {
    return this.#overAt(Number.POSITIVE_INFINITY)
  }

  #overAt(at: number): readonly TrueSession[] {
    const over: TrueSession[] = []
    for (const session of this.#open.values()) {
      if (session.end + gapMs >= at) break
      over.push(session)
      this.#open.delete(session.key)
    }
    return over
  }
}
