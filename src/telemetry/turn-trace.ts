/**
 * The spans of one partition's turns. Owns names, parents and links; what travels in headers is publish-spans.ts'. The turn itself knows
 * only when it begins, calls, fails and is committed. docs/tracing.md has the table of spans and attributes.
 *
 *   producers ══link══▶ process <topic> (CONSUMER) ──child──▶ publish <topic> (PRODUCER), one per topic ──headers──▶ outputs
 *
 * X1. A turn that has rows, timeouts or initial states is one span, linked to each distinct producer of its records: at most 128 links,
 *     sampled producers first; an attribute has the total.
 * X2. Producers of one trace: the turn continues it. Of several, none of them sampled: it continues the first, and so is not sampled
 *     either. Else it begins a trace of its own, and the links connect them.
 * X3. Outputs carry the context of their topic's publish span. It is settled before the commit (P7), so what is published again after a
 *     crash is the same bytes.
 * X4. A timeout counts the turn that armed it among the producers, as long as its key has stayed in memory. A follow-up is linked to the
 *     turn that it follows, or to what made the watermark that it follows, and is its child when nothing else is known.
 * X5. Without an SDK nothing happens per event: no header is read, none is written.
 * X6. What is no trace context is passed over.
 * X7. A publisher's record carries the span that was active when it was sent.
 */
import { type Attributes, context, ROOT_CONTEXT, type Span, type SpanContext, SpanKind, type Tracer, trace } from "@opentelemetry/api"
import { isWatermark } from "../model/envelope.ts"
import type { StoredRecord } from "../model/record.ts"
import { type Change, noTimeout, type Resident } from "../model/resident.ts"
import type { TraceContext } from "../model/trace-context.ts"
import type { Outbox, TurnRecord } from "../model/turn.ts"
import { armedBy, linksMax, linksTo, noProducers, parentAmong, producersOf } from "./producers.ts"
import { endFailed, PublishSpans } from "./publish-spans.ts"
import { attributeNames, linkKinds, spanNames } from "./span-names.ts"
import { type Headers, headersOf, installedTracer } from "./trace-headers.ts"

export interface TracedPartition {
  /** What carries the messages: `messaging.system`. */
  readonly system: string
  readonly job: string
  readonly query: string
  readonly stage: string
  readonly partition: number
  /** The topics that it reads, in the order of a turn's batch. */
  readonly inputs: readonly { readonly topic: string; readonly internal: boolean }[]
  /** Its name as a writer, which is in the identity of every output. */
  readonly writer: string
  readonly deadLetterTopic: string
}

export interface TracedTurn {
  readonly revision: number
  readonly batch: readonly (readonly StoredRecord[])[]
  /** It fires what the turn before made due. */
  readonly followUp: boolean
}

/** What of a committed turn its span tells. */
export interface CountedTurn {
  readonly rows: number
  readonly bad: number
  readonly dropped: number
  readonly outputRecords: number
  readonly changes: readonly Change[]
}

export class TurnTrace {
  readonly #of: TracedPartition
  readonly #attributes: Attributes
  readonly #sent: PublishSpans
  #tracer: Tracer | undefined
  #span: Span | undefined
  #work: Work = { topics: [], records: 0, revision: 0, followUp: false }
  #producers = noProducers
  /** What a follow-up follows. */
  #causes: readonly SpanContext[] = []
  /** The last that can have moved the watermark: a turn with records, or what made a watermark that came in-band. */
  #moved: SpanContext | undefined

  constructor(of: TracedPartition) {
    this.#of = of
    this.#attributes = {
      [attributeNames.system]: of.system,
      [attributeNames.client]: of.writer,
      [attributeNames.job]: of.job,
      [attributeNames.query]: of.query,
      [attributeNames.stage]: of.stage,
      [attributeNames.partition]: of.partition
    }
    this.#sent = new PublishSpans(this.#attributes)
  }

  /** A turn begins. Its span does so only if it has rows; else `calls` will know whether there is anything to do (watermarks are not). */
  begin(turn: TracedTurn): void {
    this.#span = undefined
    this.#tracer = installedTracer()
    if (this.#tracer === undefined) return
    const { inputs } = this.#of
    this.#work = workOf(turn, inputs)
    this.#producers = producersOf(turn.batch)
    if (!turn.followUp) this.#causes = this.#producers.contexts
    this.#moved = this.#producers.contexts[0] ?? this.#moved
    const bringRows = (records: readonly StoredRecord[], index: number) =>
      records.some(({ payload }) => inputs[index]?.internal !== true || !isWatermark(payload))
    if (turn.batch.some(bringRows)) this.#start([])
  }

  /** Runs the turn's calls with its span active, so that what they trace themselves belongs to it. */
  calls<A>(called: { readonly data: readonly Resident[]; readonly initial: number; readonly due: readonly Resident[] }, run: () => A): A {
    if (this.#tracer === undefined) return run()
    const armed = armedBy(called.due, linksMax - this.#producers.contexts.length)
    if (this.#span !== undefined)
      this.#span.addLinks?.(linksTo(armed, linkKinds.armed)) // tracers older than API 1.9 cannot
    else if (called.due.length > 0 || called.initial > 0) this.#start(armed)
    const span = this.#span
    if (span === undefined) return run()
    let timeouts = 0
    for (const resident of called.due) if (resident.events === undefined) timeouts += 1
    span.setAttributes({ [attributeNames.keys]: called.data.length, [attributeNames.timeouts]: timeouts })
    return context.with(trace.setSpan(ROOT_CONTEXT, span), run)
  }

  /** The turn is given up, to run again with less. */
  discarded(): void {
    this.#span?.setAttribute(attributeNames.discarded, true)
    this.#end()
  }

  failed(thrown: unknown): void {
    this.#sent.failed(thrown)
    if (this.#span !== undefined) endFailed(this.#span, thrown)
    this.#span = undefined
  }

  /** The turn as it is to be committed, with trace contexts in its outputs. */
  stamped(turn: TurnRecord): TurnRecord {
    const { records } = turn.outbox
    if (this.#tracer === undefined) return turn
    if (this.#span === undefined) return this.#moved === undefined ? turn : withHeaders(turn, headersOf(this.#moved))
    let deadLetters = 0
    for (const { topic } of records) if (topic === this.#of.deadLetterTopic) deadLetters += 1
    this.#span.setAttribute(attributeNames.deadLetters, deadLetters)
    return this.#sent.stamped(turn, this.#tracer, trace.setSpan(ROOT_CONTEXT, this.#span))
  }

  /** The commit is durable; `left` is what did not become visible with it. */
  stored(revision: number, left: Outbox): void {
    this.#sent.stored(revision, left)
  }

  /** Everything up to `revision` is out. */
  published(revision: number): void {
    this.#sent.published(revision)
  }

  /** The partition is given up. */
  closed(thrown: unknown): void {
    this.#sent.closed(thrown)
    this.failed(thrown)
  }

  /** The turn's end, and which keys it has armed. */
  committed<Turn extends CountedTurn>(turn: Turn): Turn {
    const span = this.#span
    if (span === undefined) return turn
    span.setAttributes({
      [attributeNames.events]: turn.rows,
      [attributeNames.late]: turn.dropped,
      [attributeNames.failed]: turn.bad,
      [attributeNames.outputs]: turn.outputRecords
    })
    const here = span.spanContext()
    for (const { resident } of turn.changes) resident.armedBy = resident.timeoutAt === noTimeout ? undefined : here
    this.#end()
    return turn
  }

  // ---- inside

  #start(armed: readonly TraceContext[]): void {
    const { topics, records, revision, followUp } = this.#work
    const producers = this.#producers
    const attributes: Attributes = {
      ...this.#attributes,
      [attributeNames.operationName]: "process",
      [attributeNames.operationType]: "process",
      [attributeNames.consumerGroup]: this.#of.query,
      [attributeNames.destinationPartition]: String(this.#of.partition),
      [attributeNames.messages]: records,
      [attributeNames.producers]: producers.total,
      [attributeNames.turn]: revision
    }
    if (topics.length === 1) attributes[attributeNames.destination] = topics[0] as string
    const causes = followUp ? this.#causes : []
    const links = [
      ...linksTo(producers.contexts, linkKinds.producer),
      ...linksTo(armed, linkKinds.armed),
      ...linksTo(causes, linkKinds.caused)
    ].slice(0, linksMax)
    const parent = parentAmong(producers, armed) ?? (producers.total + armed.length === 0 ? causes[0] : undefined)
    // Never below whatever span was active where the query was started.
    const under = parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent)
    this.#span = this.#tracer?.startSpan(spanNames.process(topics.join(",")), { kind: SpanKind.CONSUMER, attributes, links }, under)
    if (followUp || this.#span === undefined) return
    this.#causes = [this.#span.spanContext()]
    if (records > 0) this.#moved = this.#causes[0]
  }

  #end(): void {
    this.#span?.end()
    this.#span = undefined
  }
}

/** What of a turn its span says; not the turn itself, whose records would stay in memory until the next one. */
interface Work {
  /** That its records are of; those it may be of, for a turn without. */
  readonly topics: readonly string[]
  readonly records: number
  readonly revision: number
  readonly followUp: boolean
}

/** Of a turn that has nothing to put out but a watermark, and no span of its own. */
const withHeaders = (turn: TurnRecord, headers: Headers): TurnRecord => ({
  ...turn,
  outbox: { ...turn.outbox, records: turn.outbox.records.map((record) => ({ ...record, headers })) }
})

const workOf = ({ batch, revision, followUp }: TracedTurn, inputs: TracedPartition["inputs"]): Work => {
  const read = inputs.filter((_, index) => (batch[index]?.length ?? 0) > 0)
  const records = batch.reduce((count, input) => count + input.length, 0)
  return { topics: (read.length === 0 ? inputs : read).map(({ topic }) => topic), records, revision, followUp }
}
