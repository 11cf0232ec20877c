/**
 * One writer's line into one stream: its outputs in order of their numbers, ONE under way at a time, because messages that overtake each
 * other during a change of leaders break the order per key. Rules P12 to P15; the port's O3 and O4.
 *
 *   resting ──prepare──▶ known ──send──▶ under way ──ack (P13)──▶ known
 *      ▲                   ▲                 │
 *      │                   │                 ├─ passes by itself (P15): wait, send again
 *   interrupted            └──── look ◀──────┴─ no or another answer (P14)
 *
 * What is known of the stream may be out of date: another owner of the partition may have written since. The server then refuses what is
 * sent, and the look says what is true.
 */
import type { Msg } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import { streamOf, writerSubject } from "../model/jetstream-names.ts"
import type { NewRecord, TopicPartition, WriterNumber } from "../model/record.ts"
import { type Hitch, hitchError, readAck } from "./jetstream-answers.ts"
import { writerHeaders } from "./jetstream-headers.ts"
import { type Asking, backOff, isMessage, type LastMessage, look, reachOf, type StreamReach } from "./jetstream-look.ts"
import type { Awaiting } from "./jetstream-publish.ts"

/** A record that has a writer. */
export type Unit = NewRecord & { readonly identity: WriterNumber }

const none: LastMessage = { number: 0, sequence: 0 }
/** How far the clocks of servers and workers may differ at worst. */
const clocksDifferMsMax = 60_000

/** With the pauses between them some 7 seconds. */
const staleTimesMax = 8
/** How long a take-over waits for a look before it fails, and is tried again later. */
const lookMsMax = 10_000

export class WriterLine implements Awaiting {
  readonly #asking: Asking
  readonly #of: TopicPartition
  readonly #writer: string
  readonly #subject: string
  /** What the next unit may be sent upon; undefined until somebody has looked. */
  #known: LastMessage | undefined
  /** The last message that was ever seen to be stored: the limits of the stream may remove it later. */
  #confirmed: LastMessage = none
  /** What is sent from now on cannot be stored at this sequence or below it. */
  #floor = 0
  #units: readonly Unit[] = []
  #index = 0
  /** Whether the unit at the index may have been stored unnoticed. */
  #doubt = false
  #token = 0
  #resume: ((hitch: Hitch | KeyfoldError | undefined) => void) | undefined

  constructor(asking: Asking, of: TopicPartition, writer: string) {
    this.#asking = asking
    this.#of = of
    this.#writer = writer
    this.#subject = writerSubject(of, writer)
  }

  /**
   * O5, by a look: also what is known is made new by it, unless something is under way. Fails with `unreachable` when nobody answers. A server
   * that does not know yet that it leads no more would make P4 stop a query whose outputs are all there.
   */
  readonly lastNumber = Effect.fnUntraced(function* (this: WriterLine, least: number) {
    for (let times = 0; ; times++) {
      const number = yield* this.#lookForLast()
      if (number >= least || !this.#asking.link.isClustered || times === staleTimesMax) return number
      yield* backOff(times)
    }
  })

  readonly #lookForLast = Effect.fnUntraced(function* (this: WriterLine) {
    const asked = look(this.#asking, this.#of, this.#writer)
    const found = yield* Effect.timeoutOrElse(asked, { duration: lookMsMax, orElse: () => Effect.fail(nobodyAnswers(this.#stream)) })
    const isRemoved = !isMessage(found) && this.#confirmed !== none && isRemovedByLimits(this.#confirmed, found)
    const last = isMessage(found) ? found : isRemoved ? { number: this.#confirmed.number, sequence: 0 } : none
    if (this.#resume !== undefined) return last.number
    this.#known = last
    if (!isRemoved) this.#confirmed = last
    if (!isMessage(found)) this.#floor = found.lastSequence
    return last.number
  })

  /** O3, O4: whether these can follow what is stored; to be asked before anything is sent. Looks when they don't follow what is known. */
  readonly prepare = Effect.fnUntraced(function* (this: WriterLine, units: readonly Unit[]) {
    const first = units[0] as Unit
    const isKnown = this.#known?.number === first.identity.number - 1
    yield* isKnown ? this.#checkGaps(units) : this.#persistent(() => Effect.andThen(this.#look(first), this.#checkGaps(units)))
  })

  #checkGaps(units: readonly Unit[]): Effect.Effect<void, KeyfoldError> {
    return Effect.suspend(() => {
      let last = (this.#known ?? none).number
      for (const { identity } of units) {
        if (identity.number > last + 1) return Effect.fail(missingNumbers(this.#stream, last, identity.number))
        last = Math.max(last, identity.number)
      }
      return Effect.void
    })
  }

  /** Sends what is not stored yet, and completes when all is (O2). To be prepared first; one publish at a time. */
  publish(units: readonly Unit[]): Effect.Effect<void, KeyfoldError> {
    return Effect.suspend(() => {
      this.#units = units
      this.#index = 0
      this.#doubt = false
      this.#skipStored()
      return Effect.flatMap(this.#stretch, (hitch) => (hitch === undefined ? Effect.void : this.#struggle(hitch)))
    })
  }

  // ---- the hot path: called by the link, once per message

  answered(message: Msg): void {
    const stored = readAck(message)
    if (typeof stored !== "number") {
      this.#end(stored)
      return
    }
    this.#known = { number: (this.#units[this.#index] as Unit).identity.number, sequence: stored } // P13
    this.#confirmed = this.#known
    this.#doubt = false
    this.#index += 1
    this.#skipStored()
    this.#sendNext()
  }

  unanswered(hitch: Hitch): void {
    this.#end(hitch)
  }

  #sendNext(): void {
    const unit = this.#units[this.#index]
    if (unit === undefined) {
      this.#end(undefined)
      return
    }
    const { headers, identity, payload } = unit
    try {
      const block = writerHeaders(headers, identity, (this.#known ?? none).sequence)
      this.#token = this.#asking.link.send(this.#subject, payload, block, this)
    } catch (thrown) {
      this.#end(thrown as KeyfoldError)
    }
  }

  #end(hitch: Hitch | KeyfoldError | undefined): void {
    const resume = this.#resume
    this.#resume = undefined
    resume?.(hitch)
  }

  #skipStored(): void {
    const stored = (this.#known ?? none).number
    while (this.#index < this.#units.length && (this.#units[this.#index] as Unit).identity.number <= stored) this.#index += 1
  }

  // ---- and what ends it

  /** Sends one unit after the other until all are stored or one is not. Interrupted, nothing is known any more. */
  get #stretch(): Effect.Effect<Hitch | undefined, KeyfoldError> {
    return Effect.callback((resume) => {
      this.#resume = (hitch) => resume(hitch instanceof KeyfoldError ? Effect.fail(hitch) : Effect.succeed(hitch))
      this.#sendNext()
      return Effect.sync(() => {
        this.#resume = undefined
        this.#known = undefined
        this.#asking.link.forget(this.#token)
      })
    })
  }

  readonly #struggle = Effect.fnUntraced(function* (this: WriterLine, first: Hitch) {
    let hitch: Hitch | undefined = first
    for (let attempt = 0; hitch !== undefined; attempt++) {
      const index = this.#index
      yield* this.#overcome(hitch, attempt)
      hitch = yield* this.#stretch
      if (this.#index > index) attempt = -1
    }
  })

  /** Afterwards the unit at the index can be sent, again or for the first time. */
  readonly #overcome = Effect.fnUntraced(function* (this: WriterLine, hitch: Hitch, attempt: number) {
    if (hitch.kind === "refused") {
      if (hitch.maybeStored) this.#known = undefined
      return yield* Effect.fail(hitchError(this.#stream, hitch))
    }
    this.#doubt ||= hitch.maybeStored
    if (attempt > 0 || hitch.kind !== "look") yield* backOff(attempt)
    yield* this.#asking.link.up
    if (hitch.kind === "nobody") yield* reachOf(this.#asking, this.#of)
    if (this.#doubt || hitch.kind === "look") yield* this.#persistent(() => this.#realign(hitch.duplicateOf ?? 0))
  })

  /** P14. The server may hold less than it has acknowledged: what it lost of this publish is sent again. */
  readonly #realign = Effect.fnUntraced(function* (this: WriterLine, duplicateOf: number) {
    const unit = this.#units[this.#index] as Unit
    yield* this.#look(unit)
    if (duplicateOf > 0 && (this.#known ?? none).number < unit.identity.number) yield* this.#acceptRemoved(duplicateOf, unit)
    this.#index = 0
    this.#skipStored()
    const last = (this.#known ?? none).number
    const next = this.#units[this.#index]?.identity.number ?? last + 1
    if (next !== last + 1) return yield* Effect.fail(missingNumbers(this.#stream, last, next))
    this.#doubt = false
  })

  /** Makes known what is stored, as it concerns this unit: the next to be sent. */
  readonly #look = Effect.fnUntraced(function* (this: WriterLine, unit: Unit) {
    const confirmed = this.#confirmed
    this.#known = undefined
    const found = yield* look(this.#asking, this.#of, this.#writer)
    if (isMessage(found)) {
      this.#known = found
      this.#confirmed = found
    } else if (confirmed !== none) {
      if (!isRemovedByLimits(confirmed, found)) return yield* Effect.fail(outputsRemoved(this.#stream, confirmed.number))
      this.#known = { number: confirmed.number, sequence: 0 }
    } else {
      if (unit.identity.number === 1 && !isNeverStored(this.#floor, found, unit))
        return yield* Effect.fail(fateUnknown(this.#stream, found))
      this.#known = none
    }
  })

  /** The server drops this unit as a repetition of a message that is not the last one, so it has been removed since. */
  readonly #acceptRemoved = Effect.fnUntraced(function* (this: WriterLine, sequence: number, { identity: { number } }: Unit) {
    const removed = { number, sequence }
    const reach = yield* reachOf(this.#asking, this.#of)
    if ((this.#known ?? none).sequence > 0 || !isRemovedByLimits(removed, reach)) {
      this.#known = undefined
      return yield* Effect.fail(outputsRemoved(this.#stream, number))
    }
    this.#known = { number, sequence: 0 }
    this.#confirmed = removed
  })

  /** A server that does not know yet that it leads no more answers from the past: among several, what is unbelievable is asked again. */
  #persistent(attempt: () => Effect.Effect<void, KeyfoldError>): Effect.Effect<void, KeyfoldError> {
    const again = (times: number): Effect.Effect<void, KeyfoldError> =>
      Effect.catch(attempt(), (error) => {
        const isFinal = error.code !== "output-fate-unknown" || !this.#asking.link.isClustered || times === staleTimesMax
        return isFinal ? Effect.fail(error) : Effect.andThen(backOff(times), again(times + 1))
      })
    return again(0)
  }

  get #stream(): string {
    return streamOf(this.#of)
  }
}

/** P14: the stream reaches to where the message was, but begins behind it. */
const isRemovedByLimits = ({ sequence }: LastMessage, { firstSequence, lastSequence }: StreamReach): boolean =>
  firstSequence > sequence && lastSequence >= sequence

/**
 * P14, of a writer that has nothing in the stream: the first message cannot have been stored and removed when nothing that came after the
 * last look at an empty subject was removed; or when the stream still holds something older than the turn that made the message.
 */
const isNeverStored = (floor: number, { firstSequence, sinceMs }: StreamReach, { publishedAt }: Unit): boolean =>
  firstSequence <= floor + 1 || sinceMs < publishedAt - clocksDifferMsMax

const nobodyAnswers = (stream: string): KeyfoldError =>
  new KeyfoldError("unreachable", `nobody answers for the stream ${stream}: look whether NATS and its JetStream are well`)

const missingNumbers = (stream: string, last: number, number: number): KeyfoldError =>
  new KeyfoldError(
    "output-fate-unknown",
    `${stream}: a writer sends its output ${number}, but ${last === 0 ? "none" : `only ${last}`} of its outputs ${last > 1 ? "are" : "is"} ` +
      "stored: those between are missing, and nothing of this was written. Look whether the stream was purged, restored from an old copy, " +
      "or has limits that remove records early; a query under another name starts anew"
  )

const outputsRemoved = (stream: string, number: number): KeyfoldError =>
  new KeyfoldError(
    "output-fate-unknown",
    `${stream} has acknowledged output ${number} of a writer and does not hold it any more, though its limits did not remove it: the ` +
      "stream was purged, restored from an old copy or deleted and created again. A query under another name starts anew"
  )

const fateUnknown = (stream: string, { firstSequence }: StreamReach): KeyfoldError =>
  new KeyfoldError(
    "output-fate-unknown",
    `${stream} has removed everything before message ${firstSequence} since a writer's first output was sent, so nobody can tell whether ` +
      "it was stored. Let the stream keep records for longer than an outage; a query under another name starts anew"
  )
