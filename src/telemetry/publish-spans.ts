/** The spans of a partition's outputs: one per turn and topic, open from just before the commit until the outputs are out (X3). */
import { type Attributes, type Context, type Span, SpanKind, SpanStatusCode, type Tracer } from "@opentelemetry/api"
import { KeyfoldError } from "../errors.ts"
import type { NewRecord } from "../model/record.ts"
import type { Outbox, TurnRecord } from "../model/turn.ts"
import { attributeNames, otherError, spanNames } from "./span-names.ts"
import { type Headers, headersOf } from "./trace-headers.ts"

/** A topic's share of a turn's outputs. */
interface Sending {
  readonly span: Span
  readonly headers: Headers
  count: number
  /** The one that all go to; undefined for several. */
  partition: number | undefined
}

export class PublishSpans {
  readonly #attributes: Attributes
  /** Of the turn that is being committed. */
  #open: readonly Span[] = []
  /** Of committed turns whose outputs are on their way, by revision; bounded as they are (P15). */
  readonly #unconfirmed = new Map<number, readonly Span[]>()

  /** `attributes` are those of every span. */
  constructor(attributes: Attributes) {
    this.#attributes = attributes
  }

  /** Opens the spans, below the turn's, and answers the turn with their contexts in its outputs: what is committed is what travels. */
  stamped(turn: TurnRecord, tracer: Tracer, under: Context): TurnRecord {
    const sendings = new Map<string, Sending>()
    const records: NewRecord[] = []
    for (const record of turn.outbox.records) {
      const { topic, partition, publishedAt, payload, identity } = record
      let sending = sendings.get(topic)
      if (sending === undefined) {
        sending = this.#begin(tracer, under, { topic, partition })
        sendings.set(topic, sending)
      }
      sending.count += 1
      if (sending.partition !== partition) sending.partition = undefined
      records.push({ topic, partition, publishedAt, headers: sending.headers, payload, identity })
    }
    for (const { span, count, partition } of sendings.values()) {
      span.setAttribute(attributeNames.messages, count)
      if (partition !== undefined) span.setAttribute(attributeNames.destinationPartition, String(partition))
    }
    this.#open = [...sendings.values()].map(({ span }) => span)
    return { ...turn, outbox: { records, deliveries: turn.outbox.deliveries } }
  }

  /** The commit is durable. What did not become visible with it is on its way until `published`. */
  stored(revision: number, left: Outbox): void {
    if (left.records.length > 0 && this.#open.length > 0) this.#unconfirmed.set(revision, this.#open)
    else for (const span of this.#open) span.end()
    this.#open = []
  }

  /** Everything up to `revision` is out. */
  published(revision: number): void {
    for (const [turn, spans] of this.#unconfirmed) {
      if (turn > revision) continue
      for (const span of spans) span.end()
      this.#unconfirmed.delete(turn)
    }
  }

  /** The turn will not be committed. */
  failed(thrown: unknown): void {
    for (const span of this.#open) endFailed(span, thrown)
    this.#open = []
  }

  /** The partition is given up. What was on its way, recovery brings out, without spans of its own. */
  closed(thrown: unknown): void {
    this.failed(thrown)
    for (const spans of this.#unconfirmed.values()) for (const span of spans) endFailed(span, thrown)
    this.#unconfirmed.clear()
  }

  #begin(tracer: Tracer, under: Context, to: { readonly topic: string; readonly partition: number }): Sending {
    const attributes: Attributes = {
      ...this.#attributes,
      [attributeNames.operationName]: "publish",
      [attributeNames.operationType]: "send",
      [attributeNames.destination]: to.topic
    }
    const span = tracer.startSpan(spanNames.publish(to.topic), { kind: SpanKind.PRODUCER, attributes }, under)
    return { span, headers: headersOf(span.spanContext()), count: 0, partition: to.partition }
  }
}

/** The code alone: messages may quote events. */
export const endFailed = (span: Span, thrown: unknown): void => {
  const code = thrown instanceof KeyfoldError ? thrown.code : otherError
  span.setAttribute(attributeNames.error, code)
  span.setStatus({ code: SpanStatusCode.ERROR, message: code })
  span.end()
}
