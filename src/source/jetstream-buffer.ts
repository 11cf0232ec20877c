/**
 * The messages of one partition between the consumer and the engine, in order. What was answered stays until somebody reads on from behind
 * it, because the same position may be read again (I2). What comes last may be in doubt: nobody sees it before it is shown.
 */
import type { Msg } from "@nats-io/transport-node"
import type { StoredRecord } from "../model/record.ts"
import type { StreamPlace } from "./jetstream-guard.ts"
import { type Arrival, BufferedMessage } from "./jetstream-message.ts"

export interface TakeBounds {
  readonly after: number
  readonly countMax: number
  readonly bytesMax: number
}

/** What a message takes besides its payload, about. */
const messageBytes = 256
const compactEvery = 4_096

export class MessageBuffer {
  #messages: BufferedMessage[] = []
  /** Where what was not forgotten begins, what was not answered, and what is not shown. */
  #head = 0
  #answered = 0
  #shown = 0
  #bytesEnd = 0

  /** Messages that nobody has read yet. */
  get count(): number {
    return this.#messages.length - this.#answered
  }

  get bytes(): number {
    return this.#bytesEnd - this.#bytesBefore(this.#answered) + this.count * messageBytes
  }

  push(arrival: Arrival, message: Msg): void {
    const buffered = new BufferedMessage(arrival, message, this.#bytesEnd)
    this.#bytesEnd = buffered.bytesEnd
    this.#messages.push(buffered)
  }

  showAll(): void {
    this.#shown = this.#messages.length
  }

  show(upTo: number): void {
    this.#shown = this.#indexBehind(upTo)
  }

  /** Forgets what is not shown. */
  dropHidden(): void {
    this.#messages.length = this.#shown
    this.#bytesEnd = this.#messages.at(-1)?.bytesEnd ?? this.#bytesEnd
  }

  /** Whether there is something behind a position. */
  hasBehind(after: number): boolean {
    const last = this.#messages[this.#shown - 1]
    return last !== undefined && last.position > after
  }

  /** When the message at a position was published; null when it is not here. */
  publishedAt(position: number): number | null {
    const message = this.#messages[this.#indexBehind(position) - 1]
    return message?.position === position ? message.publishedAt : null
  }

  /** Whether there is as much behind a position as one reading may take. */
  isEnough({ after, countMax, bytesMax }: TakeBounds): boolean {
    const from = this.#indexBehind(after)
    return this.#shown - from >= countMax || this.#bytesBefore(this.#shown) - this.#bytesBefore(from) > bytesMax
  }

  /** I3. Forgets what lies up to `after`. */
  take(of: StreamPlace, { after, countMax, bytesMax }: TakeBounds): readonly StoredRecord[] {
    this.#forget(this.#indexBehind(after))
    const from = this.#head
    const bytesBefore = this.#bytesBefore(from)
    const records: StoredRecord[] = []
    for (let index = from; index < this.#shown && records.length < countMax; index++) {
      const message = this.#messages[index] as BufferedMessage
      if (records.length > 0 && message.bytesEnd - bytesBefore > bytesMax) break
      records.push(message.record(of))
    }
    this.#answered = Math.max(this.#answered, from + records.length)
    return records
  }

  #bytesBefore(index: number): number {
    const message = this.#messages[index]
    return message === undefined ? this.#bytesEnd : message.bytesEnd - message.data.byteLength
  }

  /** Positions ascend, with holes perhaps. */
  #indexBehind(after: number): number {
    let low = this.#head
    let high = this.#messages.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#messages[middle] as BufferedMessage).position > after) high = middle
      else low = middle + 1
    }
    return low
  }

  #forget(upTo: number): void {
    this.#head = upTo
    this.#answered = Math.max(this.#answered, upTo)
    if (upTo < compactEvery && upTo < this.#messages.length) return
    this.#messages = this.#messages.slice(upTo)
    this.#answered -= upTo
    this.#shown -= upTo
    this.#head = 0
  }
}
