/** The pull consumers of a simulated JetStream: who has asked for how much, and who gets what. They are in memory: a restart forgets them. */
import type { SimulatedStream, StoredMessage } from "./nats-stream.ts"
import type { World } from "./world.ts"

/** One end of a subscription: where messages for an inbox go. */
export interface Inbox {
  readonly subject: string
  readonly isOpen: () => boolean
  readonly deliver: (message: Delivered) => void
}

/** A message on its way to a client. */
export interface Delivered {
  readonly subject: string
  readonly reply: string
  readonly headers: Uint8Array
  readonly data: Uint8Array
}

interface PullRequest {
  readonly batch: number
  readonly max_bytes: number
  /** Nanoseconds. */
  readonly expires: number
  readonly idle_heartbeat: number
}

interface Pull {
  readonly inbox: Inbox
  left: number
  bytesLeft: number
  isOver: boolean
  heardAtMs: number
}

interface Consumer {
  readonly stream: SimulatedStream
  readonly name: string
  next: number
  delivered: number
  readonly pulls: Pull[]
  usedAtMs: number
}

const nanosPerMs = 1_000_000
const inactiveMsMax = 30_000

export class Consumers {
  readonly #world: World
  readonly #consumers = new Map<string, Consumer>()

  constructor(world: World) {
    this.#world = world
  }

  /** A start beyond the end is moved without a word, but by the newest servers, which wait for it (`isPatient`). */
  create(stream: SimulatedStream, name: string, { start, isPatient }: { readonly start: number; readonly isPatient: boolean }): void {
    const next = isPatient ? Math.max(1, start) : Math.min(Math.max(1, start), stream.lastSequence + 1)
    this.#consumers.set(keyOf(stream.config.name, name), { stream, name, next, delivered: 0, pulls: [], usedAtMs: this.#world.nowMs })
  }

  delete(stream: string, name: string): boolean {
    return this.#consumers.delete(keyOf(stream, name))
  }

  /** A stream is no more, and its consumers with it. */
  deleteAllOf(stream: string): void {
    for (const [key, consumer] of this.#consumers) if (consumer.stream.config.name === stream) this.#consumers.delete(key)
  }

  clear(): void {
    this.#consumers.clear()
  }

  /** Answers false when there is no such consumer. */
  pull(stream: string, name: string, inbox: Inbox, { batch, max_bytes, expires, idle_heartbeat }: PullRequest): boolean {
    const consumer = this.#consumers.get(keyOf(stream, name))
    if (consumer === undefined || this.#world.nowMs - consumer.usedAtMs > inactiveMsMax) return false
    const pull: Pull = { inbox, left: batch, bytesLeft: max_bytes, isOver: false, heardAtMs: this.#world.nowMs }
    consumer.usedAtMs = this.#world.nowMs
    consumer.pulls.push(pull)
    this.#world.after(expires / nanosPerMs, () => this.#end(consumer, pull, "NATS/1.0 408 Request Timeout"))
    this.#beat(consumer, pull, idle_heartbeat / nanosPerMs)
    this.#serve(consumer)
    return true
  }

  /** Somebody does not listen any more. */
  unsubscribed(inbox: string): void {
    for (const { pulls } of this.#consumers.values()) for (const pull of pulls) if (pull.inbox.subject === inbox) pull.isOver = true
  }

  stored(stream: SimulatedStream): void {
    for (const consumer of this.#consumers.values()) if (consumer.stream === stream) this.#serve(consumer)
  }

  #serve(consumer: Consumer): void {
    const { stream, pulls } = consumer
    for (;;) {
      const message = stream.from(consumer.next)
      prune(pulls)
      const pull = pulls.shift()
      if (pull === undefined) return
      if (message === undefined) return void pulls.unshift(pull)
      const delivered = this.#asDelivered(consumer, message)
      const bytes = sizeOf(delivered)
      if (bytes > pull.bytesLeft) {
        this.#end(consumer, pull, "NATS/1.0 409 Message Size Exceeds MaxBytes")
        continue
      }
      pull.left -= 1
      pull.bytesLeft -= bytes
      pull.heardAtMs = this.#world.nowMs
      consumer.next = message.sequence + 1
      consumer.delivered += 1
      consumer.usedAtMs = this.#world.nowMs
      pull.inbox.deliver(delivered)
      // In turn: the next message is the next one's. One that has all its bytes ends in silence.
      if (pull.left > 0 && pull.bytesLeft > 0) pulls.push(pull)
      else pull.isOver = true
    }
  }

  #asDelivered({ stream, name, delivered }: Consumer, { sequence, subject, headers, data, storedNanos }: StoredMessage): Delivered {
    const pending = Math.max(0, stream.lastSequence - sequence)
    const reply = `$JS.ACK.${stream.config.name}.${name}.1.${sequence}.${delivered + 1}.${storedNanos}.${pending}`
    return { subject, reply, headers, data }
  }

  #beat(consumer: Consumer, pull: Pull, everyMs: number): void {
    this.#world.after(everyMs, () => {
      if (!isAlive(pull)) return
      if (
        this.#world.nowMs - pull.heardAtMs >= everyMs - 1 &&
        this.#consumers.get(keyOf(consumer.stream.config.name, consumer.name)) === consumer
      ) {
        pull.inbox.deliver(statusOf(pull.inbox, "NATS/1.0 100 Idle Heartbeat"))
      }
      this.#beat(consumer, pull, everyMs)
    })
  }

  #end({ pulls }: Consumer, pull: Pull, status: string): void {
    if (!isAlive(pull)) return
    pull.isOver = true
    prune(pulls)
    pull.inbox.deliver(statusOf(pull.inbox, status))
  }
}

const keyOf = (stream: string, name: string): string => `${stream} ${name}`

const isAlive = (pull: Pull): boolean => !pull.isOver && pull.inbox.isOpen()

const prune = (pulls: Pull[]): void => {
  for (let index = pulls.length - 1; index >= 0; index--) if (!isAlive(pulls[index] as Pull)) pulls.splice(index, 1)
}

/** As the server counts it against `max_bytes`. */
const sizeOf = ({ subject, reply, headers, data }: Delivered): number =>
  subject.length + reply.length + headers.byteLength + data.byteLength

const empty = new Uint8Array(0)

export const statusOf = ({ subject }: Pick<Inbox, "subject">, line: string): Delivered => ({
  subject,
  reply: "",
  headers: Buffer.from(`${line}\r\n\r\n`),
  data: empty
})
