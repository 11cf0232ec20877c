/** Numbers a turn's records, densely per writer and destination partition, and makes the exact records that will be published. */
import { createHash } from "node:crypto"
import { KeyfoldError } from "../errors.ts"
import { encodeBatch } from "../model/envelope.ts"
import type { PendingDelivery, PendingRecord } from "../model/outgoing.ts"
import { type NewRecord, noHeaders } from "../model/record.ts"
import type { Delivery, Outbox } from "../model/turn.ts"

/**
 * A job's partition as a writer: a short token of its journal's name (PROTOCOL, Names). 96 bits, because two writers with one token would
 * take each other's outputs for repetitions and drop them (O3).
 */
export const writerOf = (query: string, stage: string, partition: number): string =>
  createHash("sha256").update(`${query}/${stage}/${partition}`).digest("base64url").slice(0, 16)

export const streamOf = (topic: string, partition: number): string => `${topic}/${partition}`

/** Counts this writer's records per stream. `next` starts from what the journal has. */
export class Numbering {
  readonly #writer: string
  readonly #last: Map<string, number>

  constructor(writer: string, journaled: Readonly<Record<string, number>>) {
    this.#writer = writer
    this.#last = new Map(Object.entries(journaled))
  }

  number(pending: PendingRecord, publishedAt: number): NewRecord {
    const stream = streamOf(pending.topic, pending.partition)
    const number = (this.#last.get(stream) ?? 0) + 1
    this.#last.set(stream, number)
    const { topic, partition, payload } = pending
    return { topic, partition, publishedAt, headers: noHeaders, payload, identity: { writer: this.#writer, number } }
  }

  get numbers(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#last)
  }
}

/** Rows for the next stage travel in batches: one record, one number. */
export const outboxOf = (
  pending: { readonly records: readonly PendingRecord[]; readonly deliveries: readonly PendingDelivery[] },
  numbering: Numbering,
  how: { readonly publishedAt: number; readonly internalTopic: string | undefined; readonly payloadBytesMax: number }
): Outbox => {
  const { publishedAt, internalTopic } = how
  const records: NewRecord[] = []
  const open = new Map<number, OpenBatch>()
  const close = ({ topic, partition, envelopes }: OpenBatch) =>
    records.push(numbering.number({ topic, partition, payload: encodeBatch(envelopes) }, publishedAt))
  for (const record of pending.records) {
    if (record.topic !== internalTopic) {
      records.push(numbering.number(record, publishedAt))
      continue
    }
    const batch = open.get(record.partition)
    if (batch !== undefined && hasRoom(batch, record.payload, how.payloadBytesMax)) {
      batch.envelopes.push(record.payload)
      batch.bytes += 4 + record.payload.byteLength
    } else {
      if (batch !== undefined) close(batch)
      open.set(record.partition, { ...record, envelopes: [record.payload], bytes: 5 + record.payload.byteLength })
    }
  }
  for (const batch of open.values()) close(batch)
  return { records, deliveries: groupDeliveries(pending.deliveries) }
}

interface OpenBatch {
  readonly topic: string
  readonly partition: number
  readonly envelopes: Uint8Array[]
  bytes: number
}

/** Small enough that a turn over a single batch is no larger than other turns. */
const batchRowsMax = 256
const batchBytesMax = 262_144

const hasRoom = ({ envelopes, bytes }: OpenBatch, payload: Uint8Array, payloadBytesMax: number): boolean =>
  envelopes.length < batchRowsMax && bytes + 4 + payload.byteLength <= Math.min(batchBytesMax, payloadBytesMax)

const groupDeliveries = (pending: readonly PendingDelivery[]): Delivery[] => {
  if (pending.length === 0) return []
  const bySink = new Map<string, Uint8Array[]>()
  for (const { sink, payload } of pending) {
    const values = bySink.get(sink)
    if (values === undefined) bySink.set(sink, [payload])
    else values.push(payload)
  }
  return [...bySink].map(([sink, values]) => ({ sink, values }))
}

/** P4: a stream that holds more of this writer than its journal knows says that the journal lost its last turns. */
export const checkOutputs = (stream: string, journaled: number, stored: number): KeyfoldError | undefined => {
  if (stored === journaled) return undefined
  if (stored > journaled) {
    return new KeyfoldError(
      "journal-behind-outputs",
      `${stream} holds output ${stored} of this partition, its journal knows only ${journaled}: the journal has lost its last turns. ` +
        "Restore the journal, start under another query name, or go on from what the outputs hold with --accept-loss (acceptLoss: true): " +
        "what was lost is then worked out and put out again"
    )
  }
  return new KeyfoldError(
    "output-fate-unknown",
    `${stream} holds output ${stored} of this partition, but ${journaled} was confirmed: outputs were removed`
  )
}
