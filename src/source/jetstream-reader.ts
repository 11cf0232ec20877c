/**
 * Reads one stream in order from a position on, with an ephemeral consumer that it makes again whenever there is doubt. Owns the buffer
 * between server and engine. What it has verified is never lost by a reset: `scanned` only grows, and each consumer starts behind it.
 *
 *   opening ──guarded (P3)──▶ reading ──lost, hole, other sequence, silence, nothing comes──▶ opening
 *      │
 *      └──gap, refused──▶ faulty (for good; whoever reads next gets a new reader)
 *
 * Only messages run through here one by one (R16); opening is an Effect, one per reader.
 */
import { type Msg, PermissionViolationError } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import { invariant, KeyfoldError } from "../errors.ts"
import type { StoredRecord } from "../model/record.ts"
import type { ApiFault, JetStreamApi } from "./jetstream-api.ts"
import { MessageBuffer, type TakeBounds } from "./jetstream-buffer.ts"
import { openConsumer, type ReaderPlace, type ReaderPosition } from "./jetstream-consumer.ts"
import { guard } from "./jetstream-guard.ts"
import { Jumps } from "./jetstream-jumps.ts"
import { Arrival } from "./jetstream-message.ts"
import { type Pull, type PullSize, Pulls, pullBytesMax } from "./jetstream-pulls.ts"

export interface ReaderParts {
  readonly api: JetStreamApi
  readonly inboxPrefix: string | undefined
  /** What one request may bring, by how many readers there are. */
  readonly pullSize: () => PullSize
}

/** Looks of the source (one a second) without a word from the server, heartbeats included, after which a consumer counts as lost. */
const silentLooksMax = 4
/** Looks without a record, though there are more and the server was asked for them, after which its leader is asked what is there. */
const emptyLooksMax = 3
const reopenMs = 100
/** Between two questions about jumps: in a stream full of holes one of them clears many. */
const clearMsEvery = 5

export class StreamReader {
  readonly place: ReaderPlace
  readonly #parts: ReaderParts
  readonly #buffer = new MessageBuffer()
  #arrival = new Arrival()
  readonly #jumps = new Jumps()
  readonly #waiting = new Set<() => boolean>()
  /** All that counts in (base, scanned] is in the buffer; what has arrived behind that is in doubt, and hidden there. */
  #base: number
  #scanned: number
  #arrived: number
  /** When the messages there were published; null when it is not known. */
  #baseAt: number | null
  #scannedAt: number | null
  #arrivedAt: number | null
  #known = 0
  #fault: KeyfoldError | undefined
  #isGuarded = false
  #isClosed = false
  #isWaking = false
  #pulls: Pulls | undefined
  #lost: (() => void) | undefined
  /** The server has jumped over records, or brings none: the leader is to say whether they are there. */
  #isMissing = false
  #pullBytesMin = 0
  #silentLooks = 0
  #emptyLooks = 0
  #unusedLooks = 0

  constructor(place: ReaderPlace, at: ReaderPosition, parts: ReaderParts) {
    this.place = place
    this.#parts = parts
    this.#base = at.position
    this.#scanned = at.position
    this.#arrived = at.position
    this.#baseAt = at.publishedAt
    this.#scannedAt = at.publishedAt
    this.#arrivedAt = at.publishedAt
  }

  // ---- for whoever reads

  /** Whether it reads on from this position without beginning anew. */
  serves(after: number): boolean {
    return (this.#fault !== undefined || !this.#isClosed) && after >= this.#base && after <= this.#scanned
  }

  /** Why there is nothing more; to be asked when `take` is empty. */
  get fault(): KeyfoldError | undefined {
    return this.#fault
  }

  /** What has been read for good. */
  get base(): ReaderPosition {
    return { position: this.#base, publishedAt: this.#baseAt }
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get isGuarded(): boolean {
    return this.#isGuarded
  }

  get isWaitedFor(): boolean {
    return this.#waiting.size > 0
  }

  /** Looks since somebody has read. */
  get unusedLooks(): number {
    return this.#unusedLooks
  }

  /** Whether records behind a position are there, or a reason why there are none. */
  hasBehind(after: number): boolean {
    return this.#fault !== undefined || this.#buffer.hasBehind(after)
  }

  /** Whether more is on its way than is here. */
  isBehind(bounds: TakeBounds): boolean {
    return this.#fault === undefined && this.#scanned < this.#known && !this.#buffer.isEnough(bounds)
  }

  take(bounds: TakeBounds): readonly StoredRecord[] {
    invariant(this.serves(bounds.after), `I1: ${this.place.stream} is not read on from ${bounds.after} here`)
    this.#unusedLooks = 0
    if (bounds.after > this.#base) this.#baseAt = this.#buffer.publishedAt(bounds.after)
    this.#base = bounds.after
    const records = this.#buffer.take(this.place, bounds)
    this.#refill()
    return records
  }

  /** The stream's leader has said that there are records up to here (I1). */
  knows(last: number): void {
    this.#known = Math.max(this.#known, last)
  }

  /** Completes when `isDone`, which is asked again whenever something has changed. */
  until(isDone: () => boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      this.#unusedLooks = 0
      if (isDone()) return resume(Effect.void)
      return this.onChange(() => {
        if (!isDone()) return true
        resume(Effect.void)
        return false
      })
    })
  }

  /** Calls back on every change, for as long as it answers true. */
  onChange(call: () => boolean): Effect.Effect<void> {
    this.#waiting.add(call)
    return Effect.sync(() => this.#waiting.delete(call))
  }

  // ---- its life

  /** Reads until it is closed or faulty. */
  readonly run: Effect.Effect<void> = Effect.gen({ self: this }, function* (this: StreamReader) {
    while (!this.#isClosed) {
      const consumer = yield* Effect.catch(this.#open(), (fault) => Effect.sync(() => this.#fail(fault)))
      if (this.#fault !== undefined) return
      const before = this.#scanned
      if (consumer !== undefined) {
        const deleted = Effect.forkDetach(this.#parts.api.deleteConsumer(this.place.stream, consumer))
        const lost = this.#untilLost(consumer)
        const reading = this.place.hasHoles ? Effect.raceFirst(lost, this.#clearJumps) : lost
        yield* Effect.ensuring(
          Effect.catch(reading, (fault) => Effect.sync(() => this.#fail(fault))),
          deleted
        )
      }
      if (!this.#isClosed && this.#scanned === before) yield* Effect.sleep(reopenMs)
    }
  })

  /** Begins anew: the connection was lost, or whoever reads has lost patience. */
  reset(): void {
    this.#pulls?.close()
    this.#pulls = undefined
    this.#jumps.forget()
    this.#buffer.dropHidden()
    this.#arrived = this.#scanned
    this.#arrivedAt = this.#scannedAt
    this.#lost?.()
  }

  close(): void {
    this.#isClosed = true
    this.reset()
    this.#wake()
  }

  /** Once a second. Counts looks, not time: a process that was stopped blames nobody. */
  look(): void {
    this.#unusedLooks += 1
    this.#silentLooks += 1
    this.#emptyLooks = this.#pulls?.isOpen === true && this.#arrived < this.#known ? this.#emptyLooks + 1 : 0
    if (this.#emptyLooks > emptyLooksMax) this.#isMissing = true
    const isLost = this.#silentLooks > silentLooksMax || this.#emptyLooks > emptyLooksMax
    if (this.#pulls !== undefined && isLost) this.reset()
  }

  /** The server has refused a request by its permissions, and says only to which subject. */
  refused(violation: PermissionViolationError): void {
    if (violation.subject === this.#pulls?.subject) this.#fail(this.#parts.api.refused(violation))
  }

  // ---- inside

  /** Begins with a consumer of its own; undefined: to be tried again. */
  readonly #open = Effect.fnUntraced(function* (this: StreamReader): Effect.fn.Return<string | undefined, KeyfoldError> {
    const isMissing = this.#isMissing
    this.#isMissing = false
    const at = { position: this.#scanned, publishedAt: this.#scannedAt }
    const consumer = yield* Effect.catch(openConsumer(this.#parts.api, this.place, at, isMissing), (fault) => this.#again(fault))
    if (consumer === undefined) return undefined
    this.#known = consumer.last
    this.#isGuarded = true
    this.#wake()
    return consumer.name
  })

  /** What a question that was not answered means: try again, or an error. */
  #again(fault: ApiFault | KeyfoldError): Effect.Effect<undefined, KeyfoldError> {
    if (fault instanceof KeyfoldError) return Effect.fail(fault)
    if (fault.kind === "refused") return Effect.fail(fault.error)
    // What was there a moment ago is not: the next guard says what that means.
    if (fault.kind === "silent" || fault.code === 404) return Effect.succeed(undefined)
    const why = `the server answers "${fault.reason}" (${fault.errorCode})`
    return Effect.fail(new KeyfoldError("unreachable", `the stream ${this.place.stream} cannot be read: ${why}`))
  }

  /** Reads with a consumer until it is lost, or something is wrong with it. */
  #untilLost(consumer: string): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.#isClosed) return resume(Effect.void)
      this.#lost = () => {
        this.#lost = undefined
        resume(Effect.void)
      }
      const { api, inboxPrefix } = this.#parts
      this.#silentLooks = 0
      this.#emptyLooks = 0
      this.#arrival = new Arrival()
      const pulls: Pulls = new Pulls({
        connection: api.connection,
        subject: api.pullSubject(this.place.stream, consumer),
        inboxPrefix,
        take: (pull, error, message) => {
          if (this.#pulls === pulls) this.#take(pulls, pull, error, message)
        }
      })
      this.#pulls = pulls
      this.#refill()
      return Effect.sync(() => this.reset())
    })
  }

  /** Hot path. */
  #take(pulls: Pulls, pull: Pull, error: Error | null, message: Msg): void {
    this.#silentLooks = 0
    const arrival = this.#arrival
    if (error !== null) this.#failed(error)
    else if (!arrival.read(message)) this.#status(pulls, pull, message)
    else if (arrival.position === this.#arrived + 1 || this.#mayJumpTo(arrival.position)) {
      pulls.delivered(pull, arrival.bytes)
      this.#emptyLooks = 0
      this.#arrived = arrival.position
      this.#arrivedAt = arrival.publishedAt
      const { accepts } = this.place
      if (accepts === undefined || accepts(message.subject)) this.#buffer.push(arrival, message)
      if (this.#jumps.heldBehind === undefined) this.#show()
      if (!pulls.isFull) this.#refill()
    } else this.reset()
  }

  /** What has arrived up to the next jump has been verified. */
  #show(): void {
    const held = this.#jumps.heldBehind
    this.#scanned = held === undefined ? this.#arrived : held.position
    this.#scannedAt = held === undefined ? this.#arrivedAt : held.publishedAt
    if (held === undefined) this.#buffer.showAll()
    else this.#buffer.show(held.position)
    this.#wake()
  }

  /** I1. Otherwise it is cleared up first: with a new consumer, and by asking the leader. */
  #mayJumpTo(position: number): boolean {
    if (position <= this.#arrived) return false
    if (this.place.hasHoles) this.#jumps.from({ position: this.#arrived, publishedAt: this.#arrivedAt })
    else this.#isMissing = true
    return this.place.hasHoles
  }

  /** P3: the stream must begin before what was jumped over; then its settings have removed that, one by one. For as long as it reads. */
  readonly #clearJumps: Effect.Effect<void, KeyfoldError> = Effect.gen({ self: this }, function* (this: StreamReader) {
    const { api } = this.#parts
    for (;;) {
      yield* this.#jumps.came
      const before = { created: this.place.created, position: this.#scanned, publishedAt: null }
      const info = yield* Effect.catch(guard(api, this.place, before), (fault) => this.#again(fault))
      if (info === undefined) return this.reset()
      this.#jumps.clear()
      this.#show()
      yield* Effect.sleep(clearMsEvery)
    }
  })

  #status(pulls: Pulls, pull: Pull, message: Msg): void {
    const { code = 0, description = "" } = message.headers ?? {}
    if (code === 100) return
    pulls.end(pull)
    const isLarge = code === 409 && /max ?bytes/i.test(description)
    // A message that the request did not let through: the next ones let larger ones through.
    if (isLarge && pull.delivered === 0) this.#pullBytesMin = Math.min(pullBytesMax, 4 * this.#pullBytes)
    const isOver = isLarge || code === 408 || code === 404 || /batch completed/i.test(description)
    if (isOver) this.#refill()
    else this.reset()
  }

  get #pullBytes(): number {
    return Math.max(this.#pullBytesMin, this.#parts.pullSize().bytes)
  }

  #refill(): void {
    const pulls = this.#pulls
    if (pulls === undefined) return
    const size = { records: this.#parts.pullSize().records, bytes: this.#pullBytes }
    while (!pulls.isFull && this.#buffer.count < 2 * size.records && this.#buffer.bytes < 2 * size.bytes) pulls.ask(size)
  }

  #failed(error: Error): void {
    if (error instanceof PermissionViolationError) this.#fail(this.#parts.api.refused(error))
    else this.reset()
  }

  #fail(fault: KeyfoldError): undefined {
    this.#fault = fault
    this.#isClosed = true
    this.reset()
    this.#wake()
  }

  /** Once for all that a piece of the network brought: whoever waits takes it together. */
  #wake(): void {
    if (this.#isWaking || this.#waiting.size === 0) return
    this.#isWaking = true
    queueMicrotask(() => {
      this.#isWaking = false
      for (const call of [...this.#waiting]) if (!call()) this.#waiting.delete(call)
    })
  }
}
