/**
 * The entries of a journal in Redis, as bytes: one Avro record each, behind a head that says the format's version and has a checksum, so that
 * what is damaged is found before anything is made of it. docs/journal-format.md has them byte by byte.
 *
 * States are no part of a change but stand together at the end, so that an entry is written and read with one copy of them all. What a
 * change says of its key's state is a union, with room for branches beside the whole after-image: one entry of a map inside of a state, say.
 */
import { crc32 } from "node:zlib"
import avsc from "avsc"
import { type NewRecord, noHeaders } from "../model/record.ts"
import type { Delivery, KeyImage, Outbox, TurnRecord } from "../model/turn.ts"
import { Damage, Newer, reading } from "./damage.ts"
import { type Schema, shapeCheck } from "./entry-shape.ts"

/** What a turn changed, in the stream `log`. */
export interface TurnEntry {
  readonly revision: number
  /** No turn up to this one has outputs that are not confirmed. */
  readonly confirmed: number
  readonly progress: string
  /** Their bytes are views of one array. */
  readonly changes: readonly KeyImage[]
}

/** What a turn put out, in the stream `outbox`. */
export interface OutboxEntry {
  readonly revision: number
  /** Of the entry before, 0 for none: so that a missing one is noticed. */
  readonly previous: number
  readonly outbox: Outbox
}

/** The entry, and its changes as views of a copy: whatever is done with the arrays that were committed, these stay (J4). Hot path. */
export const encodeTurn = (turn: TurnRecord, confirmed: number): { readonly bytes: Buffer; readonly changes: readonly KeyImage[] } => {
  const { revision, progress, changes: images } = turn
  let stateBytes = 0
  let bytesExpected = headBytes + 32 + progress.length
  for (const { keyText, bytes } of images) {
    stateBytes += bytes?.byteLength ?? 0
    bytesExpected += 16 + keyText.length
  }
  const states = Buffer.allocUnsafeSlow(stateBytes)
  const changes: WrittenChange[] = new Array(images.length)
  const views: KeyImage[] = new Array(images.length)
  let at = 0
  for (let index = 0; index < images.length; index++) {
    const { keyText, bytes, timeoutAt } = images[index] as KeyImage
    const start = at
    if (bytes !== undefined) {
      states.set(bytes, at)
      at += bytes.byteLength
    }
    changes[index] = { key: keyText, timeoutAt: timeoutAt ?? null, state: bytes === undefined ? null : at - start }
    views[index] = { keyText, bytes: bytes && states.subarray(start, at), timeoutAt }
  }
  const written: WrittenTurn = { revision, confirmed, progress, changes, states }
  return { bytes: encoded(kinds.turn, written, bytesExpected + stateBytes), changes: views }
}

export const decodeTurn = (entry: Buffer, what: string): TurnEntry =>
  reading(what, () => {
    const { revision, confirmed, progress, changes: written, states } = decoded<WrittenTurn>(kinds.turn, entry)
    let at = 0
    const changes = written.map(({ key: keyText, timeoutAt, state }): KeyImage => {
      const start = at
      at += state ?? 0
      if (at < start || at > states.length) throw new Damage("its changes and its states do not fit")
      return { keyText, bytes: state === null ? undefined : states.subarray(start, at), timeoutAt: timeoutAt ?? undefined }
    })
    if (at !== states.length) throw new Damage("its changes and its states do not fit")
    return { revision, confirmed, progress, changes }
  })

export const encodeOutbox = ({ revision, previous, outbox }: OutboxEntry): Buffer => {
  const { records, deliveries } = outbox
  const numbers = new Map<string, number>()
  /** Topics, writers and the names of headers repeat in every record: each is written once. */
  const numberOf = (name: string): number => {
    const number = numbers.get(name) ?? numbers.size
    if (number === numbers.size) numbers.set(name, number)
    return number
  }
  let bytesExpected = headBytes + 128
  const writtenRecords = records.map(({ topic, partition, publishedAt, headers, payload, identity }): WrittenRecord => {
    bytesExpected += 48 + payload.byteLength
    return {
      topic: numberOf(topic),
      partition,
      publishedAt,
      identity: identity === undefined ? null : { writer: numberOf(identity.writer), number: identity.number },
      headers: headers.size === 0 ? [] : Array.from(headers, ([name, value]) => ({ name: numberOf(name), value })),
      payload
    }
  })
  for (const { values } of deliveries) for (const value of values) bytesExpected += 4 + value.byteLength
  const written: WrittenOutbox = { revision, previous, names: [...numbers.keys()], records: writtenRecords, deliveries }
  return encoded(kinds.outbox, written, bytesExpected)
}

export const decodeOutbox = (entry: Buffer, what: string): OutboxEntry =>
  reading(what, () => {
    const { revision, previous, names, records: written, deliveries } = decoded<WrittenOutbox>(kinds.outbox, entry)
    const nameOf = (number: number): string => {
      const name = names[number]
      if (name === undefined) throw new Damage("it uses a name that it does not have")
      return name
    }
    const records = written.map(
      ({ topic, partition, publishedAt, identity, headers, payload }): NewRecord => ({
        topic: nameOf(topic),
        partition,
        publishedAt,
        headers: headers.length === 0 ? noHeaders : new Map(headers.map(({ name, value }) => [nameOf(name), value])),
        payload,
        identity: identity === null ? undefined : { writer: nameOf(identity.writer), number: identity.number }
      })
    )
    return { revision, previous, outbox: { records, deliveries: deliveries.map(({ sink, values }) => ({ sink, values })) } }
  })

// ---- the records, as Avro has them

interface WrittenChange {
  readonly key: string
  readonly timeoutAt: number | null
  /** The bytes of its state, which follow those of the changes before it. */
  readonly state: number | null
}

interface WrittenTurn extends Omit<TurnEntry, "changes"> {
  readonly changes: readonly WrittenChange[]
  readonly states: Buffer
}

interface WrittenRecord extends Pick<NewRecord, "partition" | "publishedAt" | "payload"> {
  readonly topic: number
  readonly identity: { readonly writer: number; readonly number: number } | null
  readonly headers: readonly { readonly name: number; readonly value: string }[]
}

interface WrittenOutbox extends Omit<OutboxEntry, "outbox"> {
  readonly names: readonly string[]
  readonly records: readonly WrittenRecord[]
  readonly deliveries: readonly Delivery[]
}

/** A plain array, where avsc takes and gives Buffers. */
class Blob extends avsc.types.LogicalType {
  protected override _fromValue(bytes: Buffer): Uint8Array {
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  protected override _toValue(bytes: Uint8Array): Buffer {
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}

const blob = { type: "bytes", logicalType: "blob" } as const
const logicalTypes = { blob: Blob }

const arrayOf = (items: object | string) => ({ type: "array", items }) as const
const recordOf = (name: string, fields: Readonly<Record<string, unknown>>) =>
  ({ type: "record", name, fields: Object.entries(fields).map(([field, type]) => ({ name: field, type })) }) as const

export const turnSchema = recordOf("Turn", {
  revision: "long",
  confirmed: "long",
  progress: "string",
  changes: arrayOf(recordOf("Change", { key: "string", timeoutAt: ["null", "double"], state: ["null", "long"] })),
  states: "bytes"
})

export const outboxSchema = recordOf("Outbox", {
  revision: "long",
  previous: "long",
  names: arrayOf("string"),
  records: arrayOf(
    recordOf("Record", {
      topic: "int",
      partition: "int",
      publishedAt: "double",
      identity: ["null", recordOf("Identity", { writer: "int", number: "long" })],
      headers: arrayOf(recordOf("Header", { name: "int", value: "string" })),
      payload: blob
    })
  ),
  deliveries: arrayOf(recordOf("Delivery", { sink: "string", values: arrayOf(blob) }))
})

interface Kind {
  readonly code: number
  readonly type: avsc.Type
  readonly check: (bytes: Uint8Array) => void
}

const kindOf = (code: number, schema: object): Kind => ({
  code,
  type: avsc.Type.forSchema(schema as avsc.Schema, { logicalTypes }),
  check: shapeCheck(schema as Schema)
})

const kinds = { turn: kindOf(1, turnSchema), outbox: kindOf(2, outboxSchema) }

// ---- what every entry begins with: "kf", version, kind, checksum

export const formatVersion = 1
const headBytes = 8

const encoded = ({ code, type }: Kind, value: object, bytesExpected: number): Buffer => {
  let entry = Buffer.allocUnsafe(bytesExpected)
  let end = type.encode(value, entry, headBytes)
  if (end < 0) {
    // It is told how much is missing.
    entry = Buffer.allocUnsafe(bytesExpected - end)
    end = type.encode(value, entry, headBytes)
  }
  entry[0] = 0x6b
  entry[1] = 0x66
  entry[2] = formatVersion
  entry[3] = code
  const bytes = entry.subarray(0, end)
  bytes.writeUInt32LE(checksum(bytes), 4)
  return bytes
}

const decoded = <A>({ code, type, check }: Kind, entry: Buffer): A => {
  if (entry.length < headBytes || entry[0] !== 0x6b || entry[1] !== 0x66) throw new Damage("it is none of keyfold's")
  if ((entry[2] as number) > formatVersion) throw new Newer(`version ${entry[2]} of the format`)
  if (entry.readUInt32LE(4) !== checksum(entry)) throw new Damage("its checksum is wrong")
  if (entry[2] !== formatVersion || entry[3] !== code) throw new Damage("it is of another kind")
  const body = entry.subarray(headBytes)
  check(body)
  try {
    return type.fromBuffer(body)
  } catch (thrown) {
    throw thrown instanceof Damage ? thrown : new Damage((thrown as Error).message)
  }
}

const checksum = (bytes: Buffer): number => crc32(bytes.subarray(headBytes), crc32(bytes.subarray(0, 4)))
