/**
 * Keeps a consumer's server supplied with requests for messages, so that one is always open and what comes is bounded. The server serves
 * all open requests in turn, message by message, so each has a subscription of its own, which says whose a message is. A request ends in
 * silence when all its messages have come, or exactly all its bytes; otherwise with a status message.
 */
import { createInbox, type Msg, type NatsConnection, type Subscription } from "@nats-io/transport-node"

/** What one request may bring; there are two. */
export interface PullSize {
  readonly records: number
  readonly bytes: number
}

export class Pull {
  left: number
  bytesLeft: number
  delivered = 0
  subscription: Subscription | undefined

  constructor({ records, bytes }: PullSize) {
    this.left = records
    this.bytesLeft = bytes
  }
}

/** Open requests at once: one brings messages while the other is on its way. */
const pullsMax = 2
const expiresMs = 30_000
/** How often a request that waits says that it is alive. */
const heartbeatMs = 1_000
const nanosecondsPerMs = 1_000_000

/** Larger than any message: 64 MiB is the most that a server can be told to take. */
export const pullBytesMax = 128 * 1_048_576

export interface PullsParts {
  readonly connection: NatsConnection
  /** Where the consumer is asked. */
  readonly subject: string
  readonly inboxPrefix: string | undefined
  readonly take: (pull: Pull, error: Error | null, message: Msg) => void
}

export class Pulls {
  readonly #parts: PullsParts
  readonly #open: Pull[] = []
  #isFirst = true

  constructor(parts: PullsParts) {
    this.#parts = parts
  }

  get subject(): string {
    return this.#parts.subject
  }

  /** Whether the server is to send something. */
  get isOpen(): boolean {
    return this.#open.length > 0
  }

  get isFull(): boolean {
    return this.#open.length >= pullsMax
  }

  ask(size: PullSize): void {
    const { connection, subject, inboxPrefix, take } = this.#parts
    // The first is smaller: served in turn, two of one size would end together, and leave nothing open.
    const pull = new Pull(this.#isFirst ? { records: Math.ceil(size.records / 2), bytes: Math.ceil(size.bytes / 2) } : size)
    this.#isFirst = false
    const request = {
      batch: pull.left,
      max_bytes: pull.bytesLeft,
      expires: expiresMs * nanosecondsPerMs,
      idle_heartbeat: heartbeatMs * nanosecondsPerMs
    }
    const inbox = createInbox(inboxPrefix)
    pull.subscription = connection.subscribe(inbox, { callback: (error, message) => take(pull, error, message) })
    this.#open.push(pull)
    connection.publish(subject, JSON.stringify(request), { reply: inbox })
  }

  /** Counts a message. `bytes`: as the server counts them, with subject, reply and headers. Hot path. */
  delivered(pull: Pull, bytes: number): void {
    pull.left -= 1
    pull.bytesLeft -= bytes
    pull.delivered += 1
    if (pull.left === 0 || pull.bytesLeft === 0) this.end(pull)
  }

  /** A request has ended. */
  end(pull: Pull): void {
    pull.subscription?.unsubscribe()
    const index = this.#open.indexOf(pull)
    if (index >= 0) this.#open.splice(index, 1)
  }

  close(): void {
    for (const pull of [...this.#open]) this.end(pull)
  }
}
