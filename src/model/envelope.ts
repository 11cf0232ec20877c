/**
 * What travels through an internal topic: a row with its key and event time, or a watermark of one upstream partition (P24).
 *
 *   byte 0       1: row, 2: watermark, 3: batch
 *   row          f64 event time (NaN: none) · u32 key length · key text, UTF-8 · origin · u32 length of `stamped` · stamped · value
 *                (origin: u8 length of its topic, 0: none · topic · u32 partition · f64 position · f64 published at)
 *                (`stamped`: what the event time was read from, for a late topic; length 0: none, 2^32 - 1: the value itself)
 *   watermark    f64 watermark · u32 upstream partition
 *   batch        for each of its envelopes: u32 length · envelope. What a turn puts into one partition travels together, as one record
 *
 * All numbers little-endian. Values are in Node's structured-clone format (`node:v8`), because rows between two stages have no codec: what
 * JSON would change in silence (dates, maps, NaN, undefined) arrives as it left.
 */
import { deserialize, serialize } from "node:v8"
import { KeyfoldError, reasonOf } from "../errors.ts"
import type { KeyText } from "./key.ts"
import type { RecordOrigin } from "./record.ts"

export interface RowEnvelope {
  readonly kind: "row"
  readonly keyText: KeyText
  readonly eventTime: number
  readonly stamped: unknown
  /** The source's record that the row is a transform of; none for what a state function has made. */
  readonly origin: RecordOrigin | undefined
  readonly value: unknown
}

export interface WatermarkEnvelope {
  readonly kind: "watermark"
  readonly watermarkMs: number
  readonly upstream: number
}

const rowKind = 1
const watermarkKind = 2
const batchKind = 3
const headBytes = 1 + 8 + 4
const placeBytes = 4 + 8 + 8
const sameAsValue = 0xffffffff

export const encodeRow = (row: Omit<RowEnvelope, "kind">): Uint8Array => {
  const value = serialized(row.value)
  const isSame = row.stamped === row.value
  const stamped = row.stamped === undefined || isSame ? empty : serialized(row.stamped)
  const keyBytes = Buffer.byteLength(row.keyText)
  const originBytes = row.origin === undefined ? 1 : 1 + row.origin.topic.length + placeBytes
  const bytes = Buffer.allocUnsafeSlow(headBytes + keyBytes + originBytes + 4 + stamped.length + value.length)
  bytes[0] = rowKind
  bytes.writeDoubleLE(row.eventTime, 1)
  bytes.writeUInt32LE(keyBytes, 9)
  bytes.write(row.keyText, headBytes)
  writeOrigin(bytes, headBytes + keyBytes, row.origin)
  const stampedAt = headBytes + keyBytes + originBytes
  bytes.writeUInt32LE(isSame ? sameAsValue : stamped.length, stampedAt)
  stamped.copy(bytes, stampedAt + 4)
  value.copy(bytes, stampedAt + 4 + stamped.length)
  return bytes
}

/** A topic's name is ASCII and shorter than 256 (plan-names.ts), and so is a NATS stream's. */
const writeOrigin = (bytes: Buffer, at: number, origin: RecordOrigin | undefined): void => {
  bytes[at] = origin?.topic.length ?? 0
  if (origin === undefined) return
  const placeAt = at + 1 + bytes.write(origin.topic, at + 1, "latin1")
  bytes.writeUInt32LE(origin.partition, placeAt)
  bytes.writeDoubleLE(origin.position, placeAt + 4)
  bytes.writeDoubleLE(origin.publishedAt, placeAt + 12)
}

const readOrigin = (bytes: Buffer, at: number): RecordOrigin | undefined => {
  const length = bytes.readUInt8(at)
  if (length === 0) return undefined
  const placeAt = at + 1 + length
  return {
    topic: bytes.toString("latin1", at + 1, placeAt),
    partition: bytes.readUInt32LE(placeAt),
    position: bytes.readDoubleLE(placeAt + 4),
    publishedAt: bytes.readDoubleLE(placeAt + 12)
  }
}

export const encodeWatermark = (watermark: Omit<WatermarkEnvelope, "kind">): Uint8Array => {
  const bytes = Buffer.alloc(headBytes)
  bytes[0] = watermarkKind
  bytes.writeDoubleLE(watermark.watermarkMs, 1)
  bytes.writeUInt32LE(watermark.upstream, 9)
  return bytes
}

const readWatermark = (bytes: Buffer): WatermarkEnvelope => {
  const watermarkMs = bytes.readDoubleLE(1)
  if (!Number.isFinite(watermarkMs)) throw new RangeError("a watermark that is no time")
  return { kind: "watermark", watermarkMs, upstream: bytes.readUInt32LE(9) }
}

/** One record for several envelopes; a single one stays as it is. */
export const encodeBatch = (envelopes: readonly Uint8Array[]): Uint8Array => {
  const [first] = envelopes
  if (first !== undefined && envelopes.length === 1) return first
  const bytes = Buffer.allocUnsafeSlow(envelopes.reduce((size, envelope) => size + 4 + envelope.byteLength, 1))
  bytes[0] = batchKind
  let at = 1
  for (const envelope of envelopes) {
    at = bytes.writeUInt32LE(envelope.byteLength, at)
    bytes.set(envelope, at)
    at += envelope.byteLength
  }
  return bytes
}

/** Whether a record of an internal topic brings nothing but a watermark: one that travels with rows is in a batch behind them. */
export const isWatermark = (payload: Uint8Array): boolean => payload[0] === watermarkKind

/** Every envelope of a record, in order. Throws `decode-failed` on bytes that no keyfold has written. */
export const decodeEnvelopes = (payload: Uint8Array): (RowEnvelope | WatermarkEnvelope)[] => {
  if (payload[0] !== batchKind) return [decodeEnvelope(payload)]
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  const envelopes: (RowEnvelope | WatermarkEnvelope)[] = []
  for (let at = 1; at < bytes.length; ) {
    const start = at + 4
    const end = start <= bytes.length ? start + bytes.readUInt32LE(at) : Number.POSITIVE_INFINITY
    if (end > bytes.length) throw new KeyfoldError("decode-failed", "not a record of an internal topic: a batch that is cut off")
    envelopes.push(decodeEnvelope(bytes.subarray(start, end)))
    at = end
  }
  return envelopes
}

/** Throws `decode-failed` on bytes that no keyfold has written. */
export const decodeEnvelope = (payload: Uint8Array): RowEnvelope | WatermarkEnvelope => {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  try {
    if (bytes[0] === watermarkKind) return readWatermark(bytes)
    if (bytes[0] !== rowKind) throw new RangeError(`unknown kind ${bytes[0]}`)
    const keyEnd = headBytes + bytes.readUInt32LE(9)
    const origin = readOrigin(bytes, keyEnd)
    const stampedAt = keyEnd + 1 + (origin === undefined ? 0 : origin.topic.length + placeBytes)
    const stampedBytes = bytes.readUInt32LE(stampedAt)
    const isSame = stampedBytes === sameAsValue
    const stampedEnd = stampedAt + 4 + (isSame ? 0 : stampedBytes)
    if (stampedEnd >= bytes.length) throw new RangeError("cut off")
    const value: unknown = deserialize(bytes.subarray(stampedEnd))
    const other: unknown = isSame || stampedBytes === 0 ? undefined : deserialize(bytes.subarray(stampedAt + 4, stampedEnd))
    return {
      kind: "row",
      eventTime: bytes.readDoubleLE(1),
      keyText: bytes.toString("utf8", headBytes, keyEnd),
      stamped: isSame ? value : other,
      origin,
      value
    }
  } catch (thrown) {
    throw new KeyfoldError("decode-failed", `not a record of an internal topic: ${reasonOf(thrown)}`, { cause: thrown })
  }
}

const empty = Buffer.alloc(0)

/** Values of the user's: what structured clone refuses (a function, a symbol) fails the call that put it out. */
const serialized = (value: unknown): Buffer => {
  try {
    return serialize(value)
  } catch (thrown) {
    throw new KeyfoldError("encode-failed", `a row cannot travel to the next stage: ${reasonOf(thrown)}`, { cause: thrown })
  }
}
