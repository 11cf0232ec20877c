/**
 * Records without a writer on their way into one stream: many under way at once, in the order given.
 *
 *   flowing ──a record fails──▶ stopping ──all the others answered──▶ repairing ──all stored──▶ flowing
 *
 * While flowing, records follow each other without waiting. One connection to one server loses the end of what was sent, never something
 * in between, so what is sent again begins where the order broke off. Between servers a record can be lost and the next one stored, during a
 * change of leaders: there, and while repairing, a record waits for the one before it. Repetitions carry the same message id, which the
 * server drops within its duplicate window.
 */
import type { Msg } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { KeyfoldError } from "../errors.ts"
import { publisherSubject, streamOf } from "../model/jetstream-names.ts"
import type { NewRecord, TopicPartition } from "../model/record.ts"
import { disconnected, type Hitch, hitchError, isHitch, isStoredBefore, notSent, readAck } from "./jetstream-answers.ts"
import { publisherHeaders } from "./jetstream-headers.ts"
import { type Asking, backOff, reachOf } from "./jetstream-look.ts"
import type { Awaiting } from "./jetstream-publish.ts"

/** All records of one publish: it completes when the last of them is stored. */
export interface Parcel {
  left: number
  /** Its first failure; what is not sent yet of a parcel that has failed is left out. */
  failure: KeyfoldError | undefined
  readonly done: () => void
}

export interface Waiting {
  readonly record: NewRecord
  readonly id: string
  readonly parcel: Parcel
}

/** What all lanes of a sink share. */
export interface Traffic {
  readonly asking: Asking
  readonly recordsMaxPerStream: number
  readonly recordsMax: number
  readonly bytesMax: number
  /** How long a record is tried before its publish fails. */
  readonly patienceMs: number
  records: number
  bytes: number
  /** Whether a lane waits for the others. */
  isBlocked: boolean
  /** Sends what lanes have that were blocked. */
  readonly unblock: () => void
  /** Lets `repair` run. */
  readonly broken: (lane: Lane) => void
}

export class Lane implements Awaiting {
  readonly #traffic: Traffic
  readonly #of: TopicPartition
  readonly #subject: string
  #queue: Waiting[] = []
  /** Of the queue, what is sent and gone from it in thought: a plain shift would move the whole queue each time. */
  #head = 0
  /** In the order of sending, by token. */
  readonly #underWay = new Map<number, Waiting>()
  /** What has failed, in the order of sending: to be sent again before anything else. */
  #failed: { readonly token: number; readonly waiting: Waiting; readonly hitch: Hitch }[] = []
  #state: "flowing" | "stopping" | "repairing" | "closed" = "flowing"

  constructor(traffic: Traffic, of: TopicPartition) {
    this.#traffic = traffic
    this.#of = of
    this.#subject = publisherSubject(of)
  }

  add(waiting: Waiting): void {
    this.#queue.push(waiting)
  }

  /** Sends what may be sent. Hot path: plain calls. */
  pump(): void {
    const { recordsMaxPerStream, recordsMax, bytesMax } = this.#traffic
    while (this.#state === "flowing" && this.#head < this.#queue.length && this.#underWay.size < recordsMaxPerStream) {
      if (this.#traffic.records > 0 && (this.#traffic.records >= recordsMax || this.#traffic.bytes >= bytesMax)) {
        this.#traffic.isBlocked = true
        return
      }
      const waiting = this.#queue[this.#head++] as Waiting
      if (this.#head === this.#queue.length || this.#head >= 4_096) this.#compact()
      this.#send(waiting)
    }
  }

  answered(message: Msg, token: number): void {
    const waiting = this.#take(token)
    if (waiting === undefined) return
    const stored = readAck(message)
    if (typeof stored === "number" || isStoredBefore(stored)) settle(waiting)
    else this.#fail(token, waiting, stored)
    this.#goOn()
  }

  unanswered(hitch: Hitch, token: number): void {
    const waiting = this.#take(token)
    if (waiting === undefined) return
    this.#fail(token, waiting, hitch)
    this.#goOn()
  }

  /**
   * Sends again what has failed, one record at a time, until all of it is stored or given up. What was lost with a connection may flow again
   * as soon as one record is stored: it breaks off at one place.
   */
  readonly repair = Effect.fnUntraced(function* (this: Lane) {
    this.#failed.sort((left, right) => left.token - right.token)
    for (let next = this.#failed[0]; next !== undefined; next = this.#failed[0]) {
      const { waiting, hitch } = next
      const { failure, isOut } = waiting.parcel.failure === undefined ? yield* this.#persist(waiting, hitch) : notTried
      this.#failed.shift()
      settle(waiting, failure)
      if (isOut && failure !== undefined) this.#dropAll(failure)
      if (this.#failed.every((other) => other.hitch === disconnected || other.hitch === notSent)) this.#requeue()
    }
    this.#state = "flowing"
    this.pump()
  })

  /** Nothing is sent any more. */
  close(error: KeyfoldError): void {
    this.#state = "closed"
    const underWay = [...this.#underWay.keys()].map((token) => this.#take(token) as Waiting)
    for (const waiting of underWay) settle(waiting, error)
    this.#dropAll(error)
  }

  // ---- inside

  #send(waiting: Waiting): void {
    const { record, id, parcel } = waiting
    if (parcel.failure !== undefined) {
      settle(waiting)
      return
    }
    try {
      const token = this.#traffic.asking.link.send(this.#subject, record.payload, publisherHeaders(record.headers, id), this)
      this.#underWay.set(token, waiting)
      this.#traffic.records += 1
      this.#traffic.bytes += record.payload.byteLength
    } catch (thrown) {
      settle(waiting, thrown as KeyfoldError)
    }
  }

  #take(token: number): Waiting | undefined {
    const waiting = this.#underWay.get(token)
    if (waiting === undefined) return undefined
    this.#underWay.delete(token)
    this.#traffic.records -= 1
    this.#traffic.bytes -= waiting.record.payload.byteLength
    return waiting
  }

  #fail(token: number, waiting: Waiting, hitch: Hitch): void {
    this.#failed.push({ token, waiting, hitch })
    if (this.#state === "flowing") this.#state = "stopping"
  }

  #goOn(): void {
    if (this.#state === "stopping" && this.#underWay.size === 0) {
      this.#state = "repairing"
      this.#traffic.broken(this)
    }
    this.pump()
    if (this.#traffic.isBlocked) this.#traffic.unblock()
  }

  /** What waits here fails with the record that it waits for. */
  #dropAll(error: KeyfoldError): void {
    const dropped = [...this.#failed.map(({ waiting }) => waiting), ...this.#queue.slice(this.#head)]
    this.#failed = []
    this.#queue = []
    this.#head = 0
    for (const waiting of dropped) settle(waiting, error)
  }

  #requeue(): void {
    this.#queue = [...this.#failed.map(({ waiting }) => waiting), ...this.#queue.slice(this.#head)]
    this.#failed = []
    this.#head = 0
  }

  #compact(): void {
    this.#queue = this.#queue.slice(this.#head)
    this.#head = 0
  }

  /** Tries until it is stored, refused for good, or patience is at its end: `isOut`. */
  readonly #persist = Effect.fnUntraced(function* (this: Lane, { record, id }: Waiting, before: Hitch | undefined) {
    const { asking, patienceMs } = this.#traffic
    const stream = streamOf(this.#of)
    let hitch = before
    const attempts = Effect.gen({ self: this }, function* () {
      for (let attempt = 0; ; attempt++) {
        if (hitch?.kind === "refused") return yield* Effect.fail(hitchError(stream, hitch))
        if (hitch?.kind === "nobody") yield* reachOf(asking, this.#of)
        if (hitch !== undefined) yield* backOff(attempt)
        yield* asking.link.up
        const answer = yield* asking.link.ask(this.#subject, record.payload, publisherHeaders(record.headers, id))
        const stored = isHitch(answer) ? answer : readAck(answer)
        if (typeof stored === "number" || isStoredBefore(stored)) return
        hitch = stored
      }
    })
    const outcome = attempts.pipe(
      Effect.match({ onFailure: (failure) => ({ failure, isOut: false }), onSuccess: () => notTried }),
      Effect.timeoutOption(patienceMs)
    )
    return Option.getOrElse(yield* outcome, () => ({ failure: hitchError(stream, hitch ?? notSent), isOut: true }))
  })
}

const notTried: { readonly failure: KeyfoldError | undefined; readonly isOut: boolean } = { failure: undefined, isOut: false }

const settle = ({ parcel }: Waiting, failure?: KeyfoldError): void => {
  parcel.failure ??= failure
  parcel.left -= 1
  if (parcel.left === 0) parcel.done()
}
