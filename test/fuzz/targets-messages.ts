/** What comes with a message: its header block and reply subject, trace context, the rows of an internal topic, a record's payload. */
import { ok } from "node:assert/strict"
import type { Msg } from "@nats-io/transport-node"
import { type Codec, type Topic, topic } from "keyfold"
import { avro } from "keyfold/codecs/avro"
import { json } from "keyfold/codecs/json"
import { text } from "keyfold/codecs/text"
import { asKeyfoldError, type KeyfoldError } from "../../src/errors.ts"
import { deadLetterOf, encodeDeadLetter } from "../../src/model/dead-letter.ts"
import { decodeEnvelope, decodeEnvelopes, encodeRow, encodeWatermark } from "../../src/model/envelope.ts"
import { keyOfText } from "../../src/model/key.ts"
import { noHeaders, type StoredRecord } from "../../src/model/record.ts"
import type { BadRow } from "../../src/model/row.ts"
import { screen } from "../../src/model/seen.ts"
import { topicDefinition } from "../../src/plan-names.ts"
import { makeIntake } from "../../src/source/intake.ts"
import { Arrival, BufferedMessage } from "../../src/source/jetstream-message.ts"
import { contextIn, headersOf, isTraceparent, traceparentIn } from "../../src/telemetry/trace-headers.ts"
import { agree } from "./agreement.ts"
import { groupsIn } from "./parts.ts"
import type { Target } from "./target.ts"

// ---- as NATS delivers them

interface Raw {
  readonly subject: Buffer
  readonly reply: Buffer
  readonly headers: Buffer
  readonly data: Buffer
}

/** What the client makes of a message's protocol line; it has found where headers and payload begin. */
const messageOf = ({ subject, reply, headers, data }: Raw): Msg => {
  const _rdata = Buffer.concat([headers, data])
  const raw = { _msg: { subject, reply, hdr: headers.length }, _rdata, data: _rdata.subarray(headers.length), subject: subject.toString() }
  return raw as unknown as Msg
}

const place = { topic: "clicks", partition: 0, stream: "clicks-0" }
const validReply = Buffer.from("$JS.ACK.clicks-0.c.1.17.1.1700000000000000000.0")

/** Groups: subject, header block, payload. */
const headerBlock: Target = {
  name: "header-block",
  allowed: [],
  names: /./,
  words: ["\r\n", "NATS/1.0\r\n", "kf-n: ", "Nats-Msg-Id: ", ":", "\r\n\r\n", " ", "1e3", "0x10"],
  read: (input) => {
    const [[subject = empty, headers = empty, data = empty] = []] = groupsIn(input)
    const message = messageOf({ subject, reply: validReply, headers, data })
    const arrival = new Arrival()
    ok(arrival.read(message))
    const record = new BufferedMessage(arrival, message, 0).record(place)
    agree(Buffer.from(record.payload), Buffer.from(data))
    for (const [name] of record.headers) ok(name === name.toLowerCase() && !/^(kf|nats)-/.test(name), name)
    const { identity } = record
    ok(identity === undefined || (Number.isSafeInteger(identity.number) && identity.number > 0))
    screened(record)
  }
}

const empty = Buffer.alloc(0)

/** P17: whatever number it has, it is taken, dropped or a gap. */
const screened = (record: StoredRecord): void => {
  const writer = record.identity?.writer ?? "w"
  for (const last of [0, 1, Number.MAX_SAFE_INTEGER]) {
    const { records, gap, repeated } = screen([record], Object.fromEntries([[writer, last]]))
    ok(records.length + repeated + (gap === undefined ? 0 : 1) === 1)
  }
}

const ackSubject: Target = {
  name: "ack-subject",
  allowed: [],
  names: /./,
  words: [".", "$JS.ACK.", "_", "1700000000000000000", "18446744073709551616"],
  read: (input) => {
    const arrival = new Arrival()
    const isMessage = arrival.read(messageOf({ subject: Buffer.from("clicks.0"), reply: input, headers: empty, data: empty }))
    const tokens = input.toString("latin1").split(".")
    agree(isMessage, tokens.length >= 9)
    if (tokens.length === 10) return // no server writes so many
    const [, sequence = "", , nanos = ""] = tokens.slice(tokens.length === 9 ? 4 : 6)
    if (!isMessage || !/^\d{1,15}$/.test(sequence) || !/^\d{7,20}$/.test(nanos)) return
    agree([arrival.position, arrival.publishedAt], [Number(sequence), Number(nanos.slice(0, -6))])
  }
}

/** Groups: `traceparent`, `tracestate`. */
const traceHeaders: Target = {
  name: "trace-headers",
  allowed: [],
  names: /./,
  words: ["-", "00-", "ff-", "=", ",", "00000000000000000000000000000000", "0000000000000000"],
  read: (input) => {
    const [[parent = empty, state] = []] = groupsIn(input)
    const headers = new Map([
      ["traceparent", parent.toString()],
      ...(state === undefined ? [] : [["tracestate", state.toString()] as const])
    ])
    const found = traceparentIn(headers) ?? ""
    const shape = /^(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$/s.exec(found)
    agree(isTraceparent(found), shape !== null && !(shape[1] === "00" && found.length > 55))
    if (!isTraceparent(found)) return
    const again = headersOf(contextIn(found, headers))
    ok(isTraceparent(again.get("traceparent") ?? ""))
    ok((again.get("tracestate") ?? "").length <= 512)
  }
}

// ---- rows between two stages

const envelope: Target = {
  name: "envelope",
  allowed: ["decode-failed"],
  names: /^not a record of an internal topic: ./,
  read: (input) => {
    for (const found of decodeEnvelopes(input)) {
      if (found.kind === "watermark") {
        ok(Number.isFinite(found.watermarkMs), "a watermark is a time")
        agree(decodeEnvelope(encodeWatermark(found)), found)
      } else {
        const { keyText, eventTime, origin } = found
        const again = decodeEnvelope(encodeRow({ ...found, value: 1, stamped: undefined }))
        agree({ ...again }, { kind: "row", keyText, eventTime, origin, value: 1, stamped: undefined })
      }
    }
  }
}

// ---- payloads, on their way to a row or a dead letter

interface Order {
  readonly id?: unknown
  readonly card?: unknown
}

const recordOf = (payload: Buffer): StoredRecord => ({
  ...{ topic: "orders", partition: 0, position: 17, index: 0, publishedAt: 1_000, headers: noHeaders, identity: undefined },
  payload: new Uint8Array(payload)
})

/** Whatever a record is, it is a row that can be written again, or one dead letter with a reason. */
const payloadTarget = <T>(name: string, options: { codec: Codec<T>; key: (value: T) => unknown; words?: readonly string[] }): Target => {
  const source = topicDefinition(topic("orders", { ...options, key: (value) => options.key(value) as string }) as Topic<unknown>)
  const intake = makeIntake({ kind: "source", source, operators: [] } as unknown as Parameters<typeof makeIntake>[0], true)
  return {
    name,
    allowed: ["decode-failed", "key-invalid", "schema-incompatible"],
    names: /orders|^a key must be |^the topic's key function threw|Avro schema/,
    words: options.words ?? [],
    read: (input) => {
      const { rows, bad } = intake.take([recordOf(input)])
      agree(rows.length + bad.length, 1)
      if (bad[0] !== undefined) throw buried(bad[0])
      const [{ value, keyText }] = rows as unknown as [{ value: T; keyText: string }]
      keyOfText(keyText)
      const written = isDeep(input) ? undefined : writtenBy(options.codec, value)
      if (written !== undefined) agree(options.codec.decode(written), value)
    }
  }
}

/** Undefined for what can be read, but not written: JSON has 1e999, and no infinity. */
const writtenBy = <T>(codec: Codec<T>, value: T): Uint8Array | undefined => {
  try {
    return new Uint8Array(codec.encode(value))
  } catch (thrown) {
    if (thrown instanceof TypeError && /^JSON cannot hold -?Infinity/.test(thrown.message)) return undefined
    throw thrown
  }
}

/** What a value of many levels is written with would be the stack's fault. */
const isDeep = (input: Buffer): boolean => input.filter((byte) => byte === 0x5b || byte === 0x7b).length > 500

const buried = ({ record, thrown, value, keyText }: BadRow): KeyfoldError => {
  const letter = encodeDeadLetter(deadLetterOf({ thrown, stage: "s", keyText, value, record }), { brief: false, bytesMax: 1_048_576 })
  ok(letter.byteLength <= 1_048_576)
  const { code, message } = JSON.parse(Buffer.from(letter).toString()) as { readonly code: string; readonly message: string }
  const error = asKeyfoldError(thrown, "function-failed", "a function of the job threw")
  agree([code, message.slice(0, 100)], [error.code, error.message.slice(0, 100)])
  return error
}

export const orderSchema = {
  type: "record",
  name: "Order",
  fields: [
    { name: "id", type: "long" },
    { name: "card", type: ["null", "string"] },
    { name: "tags", type: { type: "map", values: ["null", "double", { type: "array", items: "string" }] } },
    { name: "lines", type: { type: "array", items: { type: "record", name: "Line", fields: [{ name: "sku", type: "bytes" }] } } },
    { name: "state", type: { type: "enum", name: "State", symbols: ["OPEN", "PAID"] }, default: "OPEN" },
    { name: "next", type: ["null", "Order"], default: null },
    { name: "nothings", type: { type: "array", items: "null" }, default: [] },
    { name: "print", type: { type: "fixed", name: "Print", size: 4 }, default: "\u0000\u0000\u0000\u0000" }
  ]
} as const

export const olderOrderSchema = { type: "record", name: "Order", fields: orderSchema.fields.slice(0, 4) } as const

export const orders = avro<Order>(orderSchema, { older: [olderOrderSchema] })

export const messageTargets: readonly Target[] = [
  headerBlock,
  ackSubject,
  traceHeaders,
  envelope,
  payloadTarget("payload-json", {
    codec: json<Order>(),
    key: ({ card }) => card,
    words: ['"card":', "null", "[[[[[[[[", '{"card":{"card":', '"__proto__":', "1e999", "\\ud800", '"toJSON":']
  }),
  payloadTarget("payload-text", { codec: text(), key: (line) => line }),
  payloadTarget("payload-avro", { codec: orders, key: ({ id }) => id })
]
