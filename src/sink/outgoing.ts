/**
 * From results to records: runs the operators behind a state function, picks sinks, encodes, finds the destination partition. All of
 * that happens before the commit and inside the call that yielded the result, so that what cannot be written fails its call (P7).
 * What a call has put out can be taken back until the next call begins.
 */
import { asKeyfoldError, KeyfoldError } from "../errors.ts"
import { ByteSlab } from "../model/byte-slab.ts"
import { encodeRow } from "../model/envelope.ts"
import { partitionOf } from "../model/hash.ts"
import { type KeyText, keyText } from "../model/key.ts"
import { noEventTime, OperatorChain } from "../model/operator.ts"
import { type PendingDelivery, type PendingRecord, TurnTooLarge } from "../model/outgoing.ts"
import { noHeaders, type RecordInfo, type RecordOrigin } from "../model/record.ts"
import type { StagePlan } from "../model/stage.ts"
import { definitionOf, type ForeachDefinition, type TopicDefinition } from "../model/topic.ts"
import { turnOutputBytesMax } from "../options.ts"

/** How many partitions the topics of the job really have. */
export interface TopicSizes {
  readonly partitionsOf: (topic: string) => number
}

export interface OutgoingParts {
  readonly sizes: TopicSizes
  readonly partition: number
  /** The internal topic that the stage writes; empty for a stage that ends in sinks. */
  readonly internalTopic: string
  /** Whether rows must carry what their event time was read from: a late topic behind the hop wants it. */
  readonly keepsStamped: boolean
  /** What is too large for any record (P7): a result beyond it fails its call. */
  readonly payloadBytesMax: number
  /** Copies a result for whoever watches, when it is yielded: the function may use the object again (G17). */
  readonly snapshot: ((value: unknown) => unknown) | undefined
}

export class Outgoing {
  readonly #stage: StagePlan
  readonly #sizes: TopicSizes
  readonly #internalTopic: string
  readonly #keepsStamped: boolean
  readonly #payloadBytesMax: number
  readonly #snapshot: OutgoingParts["snapshot"]
  readonly #origin: RecordInfo
  readonly #chain: OperatorChain
  #records: PendingRecord[] = []
  #deliveries: PendingDelivery[] = []
  #results: unknown[] = []
  #bytes = 0
  #from: RecordOrigin | undefined
  #smallest = false
  #tooLarge = false
  #live = false
  #newestMs = noEventTime
  #keyText: KeyText = ""
  #eventTime = noEventTime
  #mark = { records: 0, deliveries: 0, results: 0, bytes: 0, newestMs: noEventTime }

  constructor(stage: StagePlan, parts: OutgoingParts) {
    this.#stage = stage
    this.#sizes = parts.sizes
    this.#internalTopic = parts.internalTopic
    this.#keepsStamped = parts.keepsStamped
    this.#payloadBytesMax = parts.payloadBytesMax
    this.#snapshot = parts.snapshot
    this.#origin = { topic: parts.internalTopic, partition: parts.partition, position: 0, index: 0, publishedAt: 0, headers: noHeaders }
    this.#chain = new OperatorChain(stage.operators, (value, eventTime, stamped) => this.#accept(value, eventTime, stamped))
  }

  get records(): readonly PendingRecord[] {
    return this.#records
  }

  get deliveries(): readonly PendingDelivery[] {
    return this.#deliveries
  }

  /** The values that reached the end of the stage, once however many sinks; empty unless somebody watches. */
  get results(): readonly unknown[] {
    return this.#results
  }

  /** Whether a call came to more than the turn may put out, also when its function caught what it was told (P7). */
  get tooLarge(): boolean {
    return this.#tooLarge
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The largest event time that was put out; NaN for none. */
  get newestMs(): number {
    return largest(this.#newestMs, this.#chain.newestMs)
  }

  /** `nowMs` is when the turn's results are made: the `publishedAt` of a `withWatermark` behind the stage. */
  startTurn(nowMs: number, smallest: boolean): void {
    this.#smallest = smallest
    this.#tooLarge = false
    this.#chain.from({ ...this.#origin, publishedAt: nowMs })
    this.#records = []
    this.#deliveries = []
    this.#results = []
    this.#bytes = 0
    this.#newestMs = noEventTime
    this.#chain.newestMs = noEventTime
  }

  /** From here on `undo` takes back; `eventTime` is that of the results to come, `from` the record that they are a mere transform of. */
  startCall(key: KeyText, eventTime: number, from?: RecordOrigin): void {
    this.#from = from
    this.#live = true
    this.#keyText = key
    this.#eventTime = eventTime
    const mark = this.#mark
    mark.records = this.#records.length
    mark.deliveries = this.#deliveries.length
    mark.results = this.#results.length
    mark.bytes = this.#bytes
    mark.newestMs = this.newestMs
  }

  /** Nothing belongs to the call any more. */
  endCall(): void {
    this.#live = false
  }

  undo(): void {
    this.#live = false
    this.#records.length = this.#mark.records
    this.#deliveries.length = this.#mark.deliveries
    this.#results.length = this.#mark.results
    this.#bytes = this.#mark.bytes
    this.#newestMs = this.#mark.newestMs
    this.#chain.newestMs = noEventTime
  }

  /** A result of the stage, on its way through the operators behind it. `stamped` is what its event time was read from, if known. */
  result(value: unknown, stamped?: unknown): void {
    this.#chain.push(value, this.#eventTime, stamped)
  }

  /** A side output. Throws `illegal-argument` for a topic that the stage does not declare. */
  emitTo(topic: unknown, value: unknown): void {
    if (!this.#live)
      throw new KeyfoldError("unsupported-operation", "emitTo was used after its call had ended: a state function is synchronous")
    const defined = definitionOf(topic)
    if (defined?.kind === "topic" && this.#stage.actor?.emits.includes(defined)) this.write(defined, value)
    else {
      const name = defined === undefined ? "something that is no topic" : defined.name
      throw new KeyfoldError("illegal-argument", `emitTo(${name}): name the topic in the stage's \`emits\`, so that recovery knows it`)
    }
  }

  /** Encodes a value for a topic or a custom sink. */
  write(sink: TopicDefinition | ForeachDefinition, value: unknown): void {
    if (sink.kind === "foreach") {
      const payload = encodeRow({ keyText: "", eventTime: Number.NaN, stamped: undefined, origin: undefined, value })
      this.#count(payload)
      this.#deliveries.push({ sink: sink.name, payload })
      return
    }
    const key = keyTextBy(sink.key, value, `the key function of ${sink.name}`)
    const payload = encoded(sink, value)
    this.#append({ topic: sink.name, partition: partitionOf(key, this.#sizes.partitionsOf(sink.name)), payload })
  }

  /** A dead letter or a watermark: there is always room for it. */
  appendOwn(record: PendingRecord): void {
    this.#records.push(record)
  }

  #append(record: PendingRecord): void {
    if (record.payload.byteLength > this.#payloadBytesMax) {
      throw new KeyfoldError(
        "encode-failed",
        `a record for ${record.topic} has ${record.payload.byteLength} bytes, ${this.#payloadBytesMax} are allowed`
      )
    }
    this.#count(record.payload)
    this.#records.push(record)
  }

  /** P7. A turn that can be made smaller is given up; in the smallest one it is the call's fault. */
  #count(payload: Uint8Array): void {
    const bytes = this.#bytes + payload.byteLength
    if (bytes > turnOutputBytesMax) {
      this.#tooLarge ||= !this.#smallest
      if (!this.#smallest) throw new TurnTooLarge("a turn puts out more than it may")
      throw new KeyfoldError("encode-failed", `one call puts out more than ${turnOutputBytesMax} bytes`)
    }
    this.#bytes = bytes
  }

  #accept(value: unknown, eventTime: number, stamped: unknown): void {
    const { output } = this.#stage
    this.#newestMs = largest(this.#newestMs, eventTime)
    if (this.#snapshot !== undefined) this.#results.push(this.#snapshot(value))
    if (output.kind === "shuffle") this.#shuffle(value, eventTime, stamped)
    else if (output.kind === "route") this.write(this.#routed(output, value), value)
    else for (const sink of output.sinks) this.write(sink, value)
  }

  #shuffle(value: unknown, eventTime: number, stamped: unknown): void {
    const { output } = this.#stage
    const regroup = output.kind === "shuffle" ? output.key : undefined
    const key = regroup === undefined ? this.#keyText : keyTextBy(regroup, value, "groupByKey's function")
    const payload = encodeRow({ keyText: key, eventTime, stamped: this.#keepsStamped ? stamped : undefined, origin: this.#from, value })
    const partition = partitionOf(key, this.#sizes.partitionsOf(this.#internalTopic))
    this.#append({ topic: this.#internalTopic, partition, payload })
  }

  #routed(output: Extract<StagePlan["output"], { kind: "route" }>, value: unknown): TopicDefinition | ForeachDefinition {
    const sink = definitionOf(output.route(value))
    const declared = output.sinks.find((candidate) => candidate === sink)
    if (declared !== undefined) return declared
    throw new KeyfoldError(
      "illegal-argument",
      "to(route) answered a sink that is not among its `routes`: declare it there, so that recovery knows it"
    )
  }
}

const keyTextBy = (key: (value: unknown) => unknown, value: unknown, what: string): KeyText => {
  try {
    return keyText(key(value))
  } catch (thrown) {
    throw asKeyfoldError(thrown, "key-invalid", `${what} threw`)
  }
}

/** Of two event times, either of which may be none. */
const largest = (left: number, right: number): number => (left >= right || Number.isNaN(right) ? left : right)

/** Records of a turn leave together. */
const records = new ByteSlab(65_536)

const encoded = (sink: TopicDefinition, value: unknown): Uint8Array => {
  try {
    return records.copy(sink.codec.encode(value)) // a codec may use its buffer again
  } catch (thrown) {
    throw asKeyfoldError(thrown, "encode-failed", `the codec of ${sink.name} refuses a result`)
  }
}
