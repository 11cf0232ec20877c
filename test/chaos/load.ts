/** Publishes the visits, and tells the model of them first. */
import type { Publisher } from "keyfold"
import type { Request } from "../fixtures/jobs.ts"
import { randomFrom } from "../fixtures/random.ts"
import { sleep } from "../fixtures/waiting.ts"
import type { TrueSession } from "../reference/sessions.ts"
import { SequentialSessions, Visits } from "./visits.ts"

const parcelMs = 50
const behindMs = 200

export class Load {
  readonly #out: Publisher<Request>
  readonly #visits: Visits
  readonly #random: () => number
  readonly #model = new SequentialSessions()
  readonly #expect: (session: TrueSession) => void
  /** Requests that are stored. */
  count = 0
  /** For how long it has held back. */
  heldMs = 0

  constructor(out: Publisher<Request>, seed: number, expect: (session: TrueSession) => void) {
    this.#out = out
    this.#visits = new Visits(seed)
    this.#random = randomFrom(seed + 1)
    this.#expect = expect
  }

  /** Publishes at a pace until it is over; while those who work are far behind it waits for them. */
  async run(isOver: () => boolean, isFarBehind: () => boolean): Promise<void> {
    while (!isOver()) {
      const beganMs = performance.now()
      if (isFarBehind()) {
        await sleep(behindMs)
        this.heldMs += behindMs
      } else {
        await this.#publish(this.#visits.parcel())
        await sleep(Math.max(0, parcelMs - (performance.now() - beganMs)))
      }
    }
  }

  /** What ends every session so far. */
  async finale(): Promise<void> {
    for (const parcel of this.#visits.finale()) await this.#publish(parcel)
  }

  /** The sessions that are still open are expected as well. */
  close(): void {
    for (const session of this.#model.close()) this.#expect(session)
  }

  async #publish(parcel: readonly Request[]): Promise<void> {
    for (const request of parcel) for (const session of this.#model.add(request)) this.#expect(session)
    const shuffled = parcel.map((request) => ({ request, place: this.#random() })).sort((a, b) => a.place - b.place)
    for (const { request } of shuffled) void this.#out.send(request)
    await this.#out.flush()
    this.count += parcel.length
  }
}
