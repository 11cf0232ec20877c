/** What becomes of a row that cannot be processed: a JSON record in `<job>-dead`, with its error, where it came from, and its bytes. */
import { asKeyfoldError } from "../errors.ts"
import { type KeyText, keyOfText } from "./key.ts"
import type { RecordOrigin, StoredRecord } from "./record.ts"

/** A dead letter as it is stored. Fields that are not known are left out. */
export interface DeadLetter {
  /** What was wrong: decode-failed, key-invalid, event-time-invalid, encode-failed, function-failed ... */
  readonly code: string
  /** At most 4,096 characters of it. */
  readonly message: string
  readonly stage?: string
  /** Left out when it is longer than half a million characters. */
  readonly key?: unknown
  /** The row, when it could be decoded and JSON can hold it. */
  readonly value?: unknown
  /** Where the row came from; none for a timeout call. */
  readonly topic?: string
  readonly partition?: number
  readonly position?: number
  readonly publishedAt?: number
  /** The original payload, base64; at most the first 512 KiB of it. None for a row that was re-keyed: the source's record has it. */
  readonly bytes?: string | undefined
  /** The payload's whole size, when `bytes` is cut short. */
  readonly bytesTotal?: number
}

const bytesKeptMax = 524_288
const valueCharsMax = 524_288
const messageCharsMax = 4_096

export interface DeadLetterParts {
  readonly thrown: unknown
  readonly stage: string
  readonly keyText: KeyText | undefined
  readonly value: unknown
  readonly record: StoredRecord | undefined
  /** Behind a hop: the source's record, which still has the original bytes. */
  readonly origin?: RecordOrigin | undefined
}

export const deadLetterOf = (parts: DeadLetterParts): DeadLetter => {
  const error = asKeyfoldError(parts.thrown, "function-failed", "the state function threw")
  return {
    code: error.code,
    message: cut(error.message),
    stage: parts.stage,
    ...keyIn(parts),
    ...(parts.value === undefined ? {} : { value: parts.value }),
    ...placeOf(parts)
  }
}

/** A letter about a key that cannot be read must be written as well. */
const keyIn = ({ keyText }: DeadLetterParts): Pick<DeadLetter, "key"> => {
  if (keyText === undefined || keyText.length > valueCharsMax) return {}
  try {
    return { key: keyOfText(keyText) }
  } catch {
    return {}
  }
}

/** A message may quote the user's data, of any size. */
const cut = (message: string): string => (message.length <= messageCharsMax ? message : `${message.slice(0, messageCharsMax)}...`)

const placeOf = ({ record, origin }: DeadLetterParts): Partial<DeadLetter> => {
  if (record === undefined) return {}
  const { topic, partition, position, publishedAt } = origin ?? record
  if (origin !== undefined) return { topic, partition, position, publishedAt }
  const { payload } = record
  const kept = Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.byteLength, bytesKeptMax))
  const cut = payload.byteLength > bytesKeptMax ? { bytesTotal: payload.byteLength } : {}
  return { topic, partition, position, publishedAt, bytes: kept.toString("base64"), ...cut }
}

/**
 * A value that JSON cannot hold, or that is too large, is left out, and so is what else does not fit into a record: the letter itself must
 * always be written. `brief`: without value and bytes, because the turn has a great many of them; the record is still where the letter says.
 */
export const encodeDeadLetter = (letter: DeadLetter, limits: { readonly brief: boolean; readonly bytesMax: number }): Uint8Array => {
  const { value, ...rest } = letter
  const short: DeadLetter = { ...rest, bytes: undefined }
  const versions = limits.brief ? [] : fitsJson(value) ? [letter, rest] : [rest]
  for (const version of [...versions, short]) {
    const encoded = Buffer.from(JSON.stringify(version), "utf8")
    if (encoded.byteLength <= limits.bytesMax) return encoded
  }
  return Buffer.from(JSON.stringify({ ...short, key: undefined }), "utf8")
}

const fitsJson = (value: unknown): boolean => {
  try {
    return (JSON.stringify(value)?.length ?? 0) <= valueCharsMax
  } catch {
    return false
  }
}
