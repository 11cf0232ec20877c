/**
 * The entries of a journal in Redis, and what its hash of states holds, as bytes: docs/journal-format.md has them byte by byte.
 *
 * Every entry says its format's version and its own checksum, so that what is damaged is found before anything is made of it. A change has
 * a form of its own: version 1 knows whole after-images, and other forms (one entry of a map inside of a state) can be added beside them.
 */
import { crc32 } from "node:zlib"
import { KeyfoldError } from "../errors.ts"
import type { KeyText } from "../model/key.ts"
import { type NewRecord, noHeaders, type WriterNumber } from "../model/record.ts"
import type { Delivery, KeyImage, Outbox, TurnRecord } from "../model/turn.ts"
import { ByteReader, Damage } from "./byte-reader.ts"
import { ByteWriter } from "./byte-writer.ts"

const formatVersion = 1

/** What a turn changed, in the stream `log`. */
export interface TurnEntry {
  readonly revision: number
  /** No turn up to this one has outputs that are not confirmed. */
  readonly confirmed: number
  readonly progress: string
  /** Their bytes are views of the entry's. */
  readonly changes: readonly KeyImage[]
}

/** What a turn put out, in the stream `outbox`. */
export interface OutboxEntry {
  readonly revision: number
  /** Of the entry before, 0 for none: so that a missing one is noticed. */
  readonly previous: number
  readonly outbox: Outbox
}

const headBytes = 8
const kinds = { turn: 1, outbox: 2 } as const
const [hasState, hasTimeout] = [1, 2]
const hasIdentity = 1

/** The entry, and its changes as views of it: whatever is done with the arrays that were committed, these stay (J4). Hot path. */
export const encodeTurn = (turn: TurnRecord, confirmed: number): { readonly bytes: Buffer; readonly changes: readonly KeyImage[] } => {
  const { changes } = turn
  let bytesExpected = headBytes + 24 + turn.progress.length
  for (const change of changes) bytesExpected += 14 + change.keyText.length + (change.bytes?.byteLength ?? 0)
  const writer = begin(kinds.turn, bytesExpected)
  writer.count(turn.revision)
  writer.count(confirmed)
  writer.text(turn.progress)
  writer.count(changes.length)
  const ends = new Float64Array(changes.length)
  for (let index = 0; index < changes.length; index++) {
    const { keyText, bytes, timeoutAt } = changes[index] as KeyImage
    writer.u8(formOf(bytes, timeoutAt))
    writer.text(keyText)
    if (timeoutAt !== undefined) writer.f64(timeoutAt)
    if (bytes !== undefined) writer.blob(bytes)
    ends[index] = writer.size
  }
  const entry = seal(writer)
  return { bytes: entry, changes: changes.map((change, index) => viewOf(change, entry, ends[index] as number)) }
}

export const decodeTurn = (bytes: Buffer, what: string): TurnEntry =>
  decoded(bytes, { kind: kinds.turn, what }, (reader) => {
    const [revision, confirmed, progress] = [reader.count(), reader.count(), reader.text()]
    const changes: KeyImage[] = []
    for (let left = reader.items(); left > 0; left--) {
      changes.push(readChange(reader))
    }
    return { revision, confirmed, progress, changes }
  })

export const encodeOutbox = ({ revision, previous, outbox }: OutboxEntry): Buffer => {
  const { records, deliveries } = outbox
  let bytesExpected = headBytes + 64
  for (const { payload } of records) bytesExpected += 48 + payload.byteLength
  for (const { values } of deliveries) for (const value of values) bytesExpected += 4 + value.byteLength
  const writer = begin(kinds.outbox, bytesExpected)
  writer.count(revision)
  writer.count(previous)
  writer.count(records.length)
  const names = new NameWriter(writer)
  for (const record of records) writeRecord(writer, names, record)
  writer.count(deliveries.length)
  for (const { sink, values } of deliveries) {
    writer.text(sink)
    writer.count(values.length)
    for (const value of values) writer.blob(value)
  }
  return seal(writer)
}

export const decodeOutbox = (bytes: Buffer, what: string): OutboxEntry =>
  decoded(bytes, { kind: kinds.outbox, what }, (reader) => {
    const [revision, previous] = [reader.count(), reader.count()]
    const records: NewRecord[] = []
    const names = new NameReader(reader)
    for (let left = reader.items(); left > 0; left--) records.push(readRecord(reader, names))
    const deliveries: Delivery[] = []
    for (let left = reader.items(); left > 0; left--) {
      const sink = reader.text()
      const values: Uint8Array[] = []
      for (let more = reader.items(); more > 0; more--) values.push(new Uint8Array(reader.blob()))
      deliveries.push({ sink, values })
    }
    return { revision, previous, outbox: { records, deliveries } }
  })

/** A key's value in the hash `state`; only keys that have something are there (J6). */
export const encodeImage = ({ bytes, timeoutAt }: KeyImage): Buffer => {
  const size = 1 + (timeoutAt === undefined ? 0 : 8) + (bytes?.byteLength ?? 0)
  const value = Buffer.allocUnsafe(size)
  let at = value.writeUInt8(formOf(bytes, timeoutAt))
  if (timeoutAt !== undefined) at = value.writeDoubleLE(timeoutAt, at)
  if (bytes !== undefined) value.set(bytes, at)
  return value
}

/** Its bytes are a copy. */
export const decodeImage = (keyText: KeyText, value: Buffer, what: string): KeyImage => {
  try {
    const reader = new ByteReader(value)
    const form = formIn(reader)
    const timeoutAt = (form & hasTimeout) === 0 ? undefined : reader.f64()
    const bytes = reader.rest()
    return { keyText, bytes: (form & hasState) === 0 ? undefined : bytes, timeoutAt }
  } catch (thrown) {
    throw faultOf(thrown, what)
  }
}

/** Whether a value of the hash `state` holds a state, or only a timeout. */
export const imageHasState = (value: Buffer): boolean => ((value[0] ?? 0) & hasState) !== 0

// ---- the parts of an entry

const formOf = (bytes: Uint8Array | undefined, timeoutAt: number | undefined): number =>
  (bytes === undefined ? 0 : hasState) | (timeoutAt === undefined ? 0 : hasTimeout)

const formIn = (reader: ByteReader): number => {
  const form = reader.u8()
  if (form > (hasState | hasTimeout)) throw new Newer(`a change of the form ${form}`)
  return form
}

const readChange = (reader: ByteReader): KeyImage => {
  const form = formIn(reader)
  const keyText = reader.text()
  const timeoutAt = (form & hasTimeout) === 0 ? undefined : reader.f64()
  return { keyText, bytes: (form & hasState) === 0 ? undefined : reader.blob(), timeoutAt }
}

const viewOf = ({ keyText, bytes, timeoutAt }: KeyImage, entry: Buffer, end: number): KeyImage => ({
  keyText,
  bytes: bytes === undefined ? undefined : entry.subarray(end - bytes.byteLength, end),
  timeoutAt
})

const writeRecord = (writer: ByteWriter, names: NameWriter, record: NewRecord): void => {
  const { topic, partition, publishedAt, headers, payload, identity } = record
  writer.u8(identity === undefined ? 0 : hasIdentity)
  names.write(topic)
  writer.count(partition)
  writer.f64(publishedAt)
  if (identity !== undefined) {
    names.write(identity.writer)
    writer.count(identity.number)
  }
  writer.count(headers.size)
  for (const [name, value] of headers) {
    names.write(name)
    writer.text(value)
  }
  writer.blob(payload)
}

const readRecord = (reader: ByteReader, names: NameReader): NewRecord => {
  const form = reader.u8()
  if (form > hasIdentity) throw new Newer(`a record of the form ${form}`)
  const [topic, partition, publishedAt] = [names.read(), reader.count(), reader.f64()]
  const identity: WriterNumber | undefined = form === hasIdentity ? { writer: names.read(), number: reader.count() } : undefined
  const headers = new Map<string, string>()
  for (let left = reader.items(); left > 0; left--) headers.set(names.read(), reader.text())
  const payload = new Uint8Array(reader.blob())
  return { topic, partition, publishedAt, headers: headers.size === 0 ? noHeaders : headers, payload, identity }
}

/** Topics, writers and the names of headers repeat in every record: each is written once, and after that by its number. */
class NameWriter {
  readonly #writer: ByteWriter
  readonly #numbers = new Map<string, number>()

  constructor(writer: ByteWriter) {
    this.#writer = writer
  }

  write(name: string): void {
    const number = this.#numbers.get(name)
    this.#writer.count(number ?? 0)
    if (number !== undefined) return
    this.#numbers.set(name, this.#numbers.size + 1)
    this.#writer.text(name)
  }
}

class NameReader {
  readonly #reader: ByteReader
  readonly #names: string[] = []

  constructor(reader: ByteReader) {
    this.#reader = reader
  }

  read(): string {
    const number = this.#reader.count()
    if (number === 0) this.#names.push(this.#reader.text())
    const name = number === 0 ? this.#names.at(-1) : this.#names[number - 1]
    if (name === undefined) throw new Damage("a name that was not said")
    return name
  }
}

// ---- what every entry begins with: "kf", version, kind, checksum

const begin = (kind: number, bytesExpected: number): ByteWriter => {
  const writer = new ByteWriter(bytesExpected)
  for (const byte of [0x6b, 0x66, formatVersion, kind, 0, 0, 0, 0]) writer.u8(byte)
  return writer
}

const seal = (writer: ByteWriter): Buffer => {
  const bytes = writer.finish()
  bytes.writeUInt32LE(checksum(bytes), 4)
  return bytes
}

const checksum = (bytes: Buffer): number => crc32(bytes.subarray(headBytes), crc32(bytes.subarray(0, 4)))

/** Bytes that a newer keyfold has written. */
class Newer extends Error {}

const decoded = <A>(bytes: Buffer, expected: { readonly kind: number; readonly what: string }, read: (reader: ByteReader) => A): A => {
  try {
    if (bytes.length < headBytes || bytes[0] !== 0x6b || bytes[1] !== 0x66) throw new Damage("it is none of keyfold's")
    if ((bytes[2] as number) > formatVersion) throw new Newer(`version ${bytes[2]} of the format`)
    if (bytes.readUInt32LE(4) !== checksum(bytes)) throw new Damage("its checksum is wrong")
    if (bytes[2] !== formatVersion || bytes[3] !== expected.kind) throw new Damage("it is of another kind")
    const reader = new ByteReader(bytes, headBytes)
    const entry = read(reader)
    if (!reader.isAtEnd) throw new Damage("something follows its end")
    return entry
  } catch (thrown) {
    throw faultOf(thrown, expected.what)
  }
}

const faultOf = (thrown: unknown, what: string): unknown => {
  if (thrown instanceof Newer) {
    return new KeyfoldError("format-newer", `${what} has ${thrown.message}: a newer keyfold wrote it. Use that one; nothing was changed`)
  }
  if (!(thrown instanceof Damage)) return thrown
  return new KeyfoldError(
    "directory-damaged",
    `${what} is damaged: ${thrown.message}. Something else has written to it, or Redis has lost a part of it; restore a backup of Redis, or begin anew under another query name`
  )
}
