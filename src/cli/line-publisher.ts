/** Publishes lines: the value of a line to its key's partition, a line without a usable value as it is, for the job to dead-letter. */
import type { VerbatimPublisher } from "../publisher.ts"
import { isKeyfoldError } from "./failure.ts"
import type { Line } from "./lines.ts"
import { lineBytesMax } from "./lines.ts"
import { SendWindow } from "./send-window.ts"

/** What lines are sent with. */
export type LineSender = Pick<VerbatimPublisher<unknown>, "send" | "sendVerbatim">

export class LinePublisher {
  readonly #sender: LineSender
  readonly #leaveOut: (line: Line) => void
  readonly #window = new SendWindow()
  stored = 0
  verbatim = 0
  leftOut = 0

  /** `leaveOut` is told of lines that no record can hold. */
  constructor(sender: LineSender, leaveOut: (line: Line) => void) {
    this.#sender = sender
    this.#leaveOut = leaveOut
  }

  /** Begins to send a line. Answers a promise when the window is full; it rejects when a send has failed. */
  take(line: Line): Promise<void> | undefined {
    if (line.byteCount > lineBytesMax) {
      this.leftOut += 1
      this.#leaveOut(line)
      return undefined
    }
    this.#window.add(this.#send(line), line.byteCount)
    return this.#window.isFull ? this.#window.room() : undefined
  }

  /** Completes when every line is stored; rejects with the first failure. */
  settled(): Promise<void> {
    return this.#window.settled()
  }

  async #send(line: Line): Promise<void> {
    const value = valueIn(line.bytes)
    if (value === noValue || !(await this.#isAccepted(value))) {
      await this.#sender.sendVerbatim(line.bytes)
      this.verbatim += 1
    }
    this.stored += 1
  }

  /** Sends a value. False: the topic's key function or codec refuses it, and nothing was sent. */
  async #isAccepted(value: unknown): Promise<boolean> {
    try {
      await this.#sender.send(value)
      return true
    } catch (thrown) {
      if (isKeyfoldError(thrown) && refusals.has(thrown.code)) return false
      throw thrown
    }
  }
}

const refusals: ReadonlySet<string> = new Set(["key-invalid", "encode-failed"])

const noValue = Symbol("a line that is not JSON")

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const valueIn = (bytes: Uint8Array): unknown => {
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch {
    return noValue
  }
}
