/**
 * What travels through an internal topic: a row with its key and event time, or a watermark of one upstream partition (P24).
 *
 *   byte 0       1: row, 2: watermark
 *   row          f64 event time (NaN: none) · u32 key length · key text, UTF-8 · u32 length of `stamped` · stamped · value
 *                (`stamped`: what the event time was read from, for a late topic; length 0: none, 2^32 - 1: the value itself)
 *   watermark    f64 watermark · u32 upstream partition
 *
 * All numbers little-endian. Values are in Node's structured-clone format (`node:v8`), because rows between two stages have no codec: what
 * JSON would change in silence (dates, maps, NaN, undefined) arrives as it left.
 */
import { deserialize, serialize } from "node:v8"
import { KeyfoldError, reasonOf } from "../errors.ts"
import type { KeyText } from "./key.ts"

export interface RowEnvelope {
  readonly kind: "row"
  readonly keyText: KeyText
  readonly eventTime: number
  readonly stamped: unknown
  readonly value: unknown
}

export interface WatermarkEnvelope {
  readonly kind: "watermark"
  readonly watermarkMs: number
  readonly upstream: number
}

const rowKind = 1
const watermarkKind = 2
const headBytes = 1 + 8 + 4
const sameAsValue = 0xffffffff

export const encodeRow = (row: Omit<RowEnvelope, "kind">): Uint8Array => {
  const value = serialized(row.value)
  const isSame = row.stamped === row.value
  const stamped = row.stamped === undefined || isSame ? empty : serialized(row.stamped)
  const keyBytes = Buffer.byteLength(row.keyText)
  const bytes = Buffer.allocUnsafeSlow(headBytes + keyBytes + 4 + stamped.length + value.length)
  bytes[0] = rowKind
  bytes.writeDoubleLE(row.eventTime, 1)
  bytes.writeUInt32LE(keyBytes, 9)
  bytes.write(row.keyText, headBytes)
  bytes.writeUInt32LE(isSame ? sameAsValue : stamped.length, headBytes + keyBytes)
  stamped.copy(bytes, headBytes + keyBytes + 4)
  value.copy(bytes, headBytes + keyBytes + 4 + stamped.length)
  return bytes
}

export const encodeWatermark = (watermark: Omit<WatermarkEnvelope, "kind">): Uint8Array => {
  const bytes = Buffer.alloc(headBytes)
  bytes[0] = watermarkKind
  bytes.writeDoubleLE(watermark.watermarkMs, 1)
  bytes.writeUInt32LE(watermark.upstream, 9)
  return bytes
}

/** Throws `decode-failed` on bytes that no keyfold has written. */
export const decodeEnvelope = (payload: Uint8Array): RowEnvelope | WatermarkEnvelope => {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  try {
    if (bytes[0] === watermarkKind) return { kind: "watermark", watermarkMs: bytes.readDoubleLE(1), upstream: bytes.readUInt32LE(9) }
    if (bytes[0] !== rowKind) throw new RangeError(`unknown kind ${bytes[0]}`)
    const keyEnd = headBytes + bytes.readUInt32LE(9)
    const stampedBytes = bytes.readUInt32LE(keyEnd)
    const isSame = stampedBytes === sameAsValue
    const stampedEnd = keyEnd + 4 + (isSame ? 0 : stampedBytes)
    if (stampedEnd >= bytes.length) throw new RangeError("cut off")
    const value: unknown = deserialize(bytes.subarray(stampedEnd))
    const other: unknown = isSame || stampedBytes === 0 ? undefined : deserialize(bytes.subarray(keyEnd + 4, stampedEnd))
    return {
      kind: "row",
      eventTime: bytes.readDoubleLE(1),
      keyText: bytes.toString("utf8", headBytes, keyEnd),
      stamped: isSame ? value : other,
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
