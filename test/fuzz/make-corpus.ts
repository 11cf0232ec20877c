/**
 * Writes corpus/: small real inputs, made by what writes them in production. They are kept, so that a format of yesterday stays an input:
 * this adds files, and leaves those that are there. To make them all again, remove the folder first:
 *
 *   node --conditions=keyfold-source test/fuzz/make-corpus.ts
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { MsgHdrs } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import { publisher, start } from "keyfold"
import { embedded } from "keyfold/embedded"
import { encodeOutbox, encodeTurn } from "../../src/journal/entry.ts"
import { encodeValue } from "../../src/journal/key-value.ts"
import { encodeBatch, encodeRow, encodeWatermark } from "../../src/model/envelope.ts"
import { emptyOutbox, type Outbox } from "../../src/model/turn.ts"
import { newsText } from "../../src/partition/news-text.ts"
import { encodeProgress, freshProgress } from "../../src/partition/progress.ts"
import { publisherHeaders, writerHeaders } from "../../src/sink/jetstream-headers.ts"
import { makeStoredSink } from "../../src/sink/stored.ts"
import { openDatabase } from "../../src/storage/database.ts"
import { fixtureFile } from "../upgrade/formats.ts"
import { staysJob, visits, visitsAfter, visitsBefore } from "../upgrade/stays-job.ts"
import { keep, kept } from "./kept.ts"
import { joined } from "./parts.ts"
import { settled } from "./settled.ts"
import { targets } from "./targets.ts"
import { orderSchema, orders } from "./targets-messages.ts"

type Inputs = Readonly<Record<string, string | Uint8Array>>

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

// ---- the journal

const fresh = freshProgress(
  ["clicks", "views"].map((topic) => ({ topic, created: "2026-01-01T00:00:00.5Z", upstreamCount: 0, position: 3 }))
)
const busy = {
  ...freshProgress([
    { topic: "views", created: "a1b2", upstreamCount: 3, position: 0 },
    { ...fresh.positions[0], topic: "clicks" } as never
  ]),
  seen: [{ "w-1": 17, _w2: 1 }, {}],
  positions: [
    { topic: "views", created: "a1b2", position: 1_234, publishedAt: 1_700_000_000_000 },
    { topic: "clicks", created: "c3", position: 0, publishedAt: null }
  ],
  clocks: [
    { newestMs: 1_700_000_000_000, lastRowAtMs: 5.5, upstreamMs: [] },
    { newestMs: null, lastRowAtMs: null, upstreamMs: [1, 2, 3] }
  ],
  ...{ nowMs: 1_700_000_000_000, watermarkMs: 1_699_999_990_000, outgoingNewestMs: 4, outgoingWatermarkMs: 3.5, followUp: true },
  ...{ sweepWatermarkMs: 17, initialised: 2, numbers: { "out/3": 12, "stays-total/0": 1 } }
}

const images = [
  { keyText: "ann", bytes: bytes('{"start":1}'), timeoutAt: 1_700_000_000_000 },
  { keyText: '\u0000{"site":"docs","user":"c\u00e9line"}', bytes: bytes("7"), timeoutAt: undefined },
  { keyText: "bob", bytes: undefined, timeoutAt: 0.5 },
  { keyText: "gone", bytes: undefined, timeoutAt: undefined }
]

const turn = { revision: 300, progress: encodeProgress(busy), changes: images, outbox: emptyOutbox }
const outbox: Outbox = {
  records: [1, 2].map((number) => ({
    ...{ topic: "out", partition: number, publishedAt: 1_000.5, payload: bytes(`x${number}`) },
    headers: new Map([
      ["traceparent", traceparent],
      ["h", "v"]
    ]),
    identity: number === 1 ? undefined : { writer: "w", number }
  })),
  deliveries: [{ sink: "mail", values: [bytes("hi"), bytes("")] }]
}

const entriesOf = (revisions: readonly number[]) =>
  revisions.flatMap((revision) => [`${revision}-0`, encodeTurn({ ...turn, revision, changes: images.slice(0, 2) }, 4).bytes])

const journal: Readonly<Record<string, Inputs>> = {
  "turn-entry": {
    small: encodeTurn({ revision: 1, progress: "{}", changes: [], outbox: emptyOutbox }, 0).bytes,
    turn: encodeTurn(turn, 299).bytes
  },
  "outbox-entry": {
    records: encodeOutbox({ revision: 300, previous: 298, outbox }),
    sink: encodeOutbox({ revision: 2 ** 40, previous: 0, outbox: { ...outbox, records: [] } })
  },
  "state-value": Object.fromEntries(images.slice(0, 3).map((image, index) => [`form-${index}`, encodeValue(image)])),
  progress: { fresh: encodeProgress(fresh), busy: encodeProgress(busy) },
  recovery: {
    journal: joined([
      ["7", "5", "5", "6", encodeProgress(fresh)],
      entriesOf([6, 7]),
      ["6-0", encodeOutbox({ revision: 6, previous: 3, outbox })],
      images.slice(0, 3).flatMap((image) => [image.keyText, encodeValue(image)]),
      ["ann", "1700000000000", "bob", "0.5"]
    ]),
    // As many entries as fill a page.
    long: joined([["20", "0", "20", "0"], entriesOf(Array.from({ length: 20 }, (_, index) => index + 1))])
  }
}

// ---- messages

/** What the client sends of headers. */
const blockOf = (headers: MsgHdrs): Uint8Array => (headers as unknown as { readonly encode: () => Uint8Array }).encode()

const writerBlock = blockOf(writerHeaders(new Map([["traceparent", traceparent]]), { writer: "w_1", number: 17 }, 16))

const row = { keyText: "u:c\u00e9line", eventTime: 1_700_000_000_000.5, stamped: undefined, origin: undefined, value: { a: [1, "two"] } }
const origin = { topic: "clicks", partition: 3, position: 17, publishedAt: 1_000 }
const order = {
  ...{
    id: 17,
    card: "4242",
    tags: { a: null, b: 0.5, c: ["x", "\u20ac"] },
    lines: [{ sku: bytes("s1") }, { sku: bytes("") }],
    state: "PAID"
  },
  next: { id: -1, card: null, tags: {}, lines: [], state: "OPEN", next: null, nothings: [], print: bytes("1234") },
  ...{ nothings: [null, null], print: bytes("abcd") }
}

const messages: Readonly<Record<string, Inputs>> = {
  "header-block": {
    writer: joined([["clicks.0.w_1", writerBlock, '{"a":1}']]),
    publisher: joined([["clicks.0", blockOf(publisherHeaders(new Map([["H", "v: w"]]), "id")), "x"]]),
    foreign: joined([["clicks.0", "NATS/1.0\r\nkf-n: 5\r\nA: b\r\na:c\r\nNats-Time-Stamp: t\r\n\r\n", ""]]),
    none: joined([["clicks.0", "", "payload"]])
  },
  "ack-subject": {
    plain: "$JS.ACK.clicks-0.c7Xk.1.17.1.1700000000123456789.0",
    domain: "$JS.ACK.hub.ACCOUNTHASH.clicks-0.c7Xk.1.9007199254740.12.1700000000123456789.400.rand"
  },
  "trace-headers": {
    both: joined([[traceparent, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]]),
    later: joined([["cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more"]])
  },
  envelope: {
    row: encodeRow(row),
    "same-stamped": encodeRow({ ...row, stamped: row.value, origin }),
    "rich-value": encodeRow({
      ...row,
      stamped: 3,
      value: new Map<unknown, unknown>([
        ["d", new Date(5)],
        [1n, new Uint16Array([1, 2])],
        ["s", new Set([/x/g])]
      ])
    }),
    watermark: encodeWatermark({ watermarkMs: 1.7e12, upstream: 7 }),
    batch: encodeBatch([encodeRow(row), encodeRow({ ...row, origin }), encodeWatermark({ watermarkMs: 5, upstream: 0 })])
  },
  "payload-json": {
    order: '{"id":17,"card":"4242","tags":["a",null,1e-7,{"n":[[]]}],"text":"c\\u00e9 \\ud83d\\ude00"}',
    keyed: '{"card":{"b":[1,true,null],"a":"x"}}'
  },
  "payload-text": { text: "c\u00e9line \u{1f600}\n", empty: "" },
  "payload-avro": { order: orders.encode(order as never), next: orders.encode(order.next as never) }
}

// ---- servers

const streamInfo = (state: object): string =>
  JSON.stringify({ type: "io.nats.jetstream.api.v1.stream_info_response", config: { name: "clicks-0" }, state })
const clock = { watermarkMs: 60_000, idle: false, shown: true }

const servers: Readonly<Record<string, Inputs>> = {
  "publish-answer": {
    stored: '{"stream":"clicks-0","seq":17}',
    domain: '{"stream":"clicks-0","domain":"hub","seq":120}',
    duplicate: '{"stream":"out-0","seq":3,"duplicate": true}',
    refused: '{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 0"},"stream":"out-0","seq":0}',
    full: '{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"out-0","seq":0}',
    nobody: ""
  },
  "look-answer": {
    message: JSON.stringify({
      type: "io.nats.jetstream.api.v1.stream_msg_get_response",
      message: { subject: "clicks.0.w", seq: 17, hdrs: Buffer.from(writerBlock).toString("base64"), time: "2026-01-01T00:00:00.1Z" }
    }),
    none: '{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","error":{"code":404,"err_code":10037,"description":"no message found"}}',
    state: streamInfo({ messages: 4, first_seq: 3, first_ts: "2026-01-01T00:00:00Z", last_seq: 6, last_ts: "2026-01-01T00:00:01.5Z" }),
    missing: '{"error":{"code":404,"err_code":10059,"description":"stream not found"}}'
  },
  "topic-description": {
    one: '{"keyfold":{"format":1,"topic":"clicks","partitions":1,"hash":"fnv1a32"}}',
    many: '{"keyfold":{"format":1,"topic":"clicks","partitions":16,"hash":"fnv1a32"}}'
  },
  membership: {
    whole: joined([
      ["ok", "all", "1700000000000002"],
      ["m", "n"],
      ["oa/0", "oa/1", "na/0", "na/1"],
      ["m", "n"],
      [newsText({ own: clock, outgoing: clock, positions: [1, 2], phase: "rested" }), '["reading",[60000,0,1],[55000,0,1],[17,4]]'],
      ["1700000000000000", "1700000000000001", "1700000000000001", "1700000000000002"]
    ]),
    changed: joined([["ok", "changed", "1700000000000003"], ["m"], ["oa/2"], [""], [], []]),
    gone: joined([["gone"]])
  },
  assignment: {
    three: joined([
      ["m", "n", "o"],
      ["m", "x", "m"]
    ]),
    one: joined([["m"]])
  }
}

// ---- people

const command: Readonly<Record<string, Inputs>> = {
  "command-line": {
    run: joined([["run", "job.ts", "--job", "a", "--job=b", "--until-caught-up", "--close", "--data", "/d"]]),
    workers: joined([["run", "job.ts", "--workers", "4", "--nats", "nats://n", "--redis", "redis://r", "--"]]),
    environment: joined([
      ["tail", "job.ts", "clicks", "--meta"],
      ["KEYFOLD_NATS", "nats://u:hunter2@n", "KEYFOLD_REDIS", "redis://r"]
    ]),
    help: joined([["help", "publish"]]),
    short: joined([["-hv"]])
  },
  "published-lines": {
    json: '{"a":1}\n[1,2]\r\n"\u00e9"\n\n  null \nnot json\n{"a":',
    mark: `\ufeff{"a":"${"x".repeat(80)}"}\n{}\n`
  },
  duration: {
    plain: "1 hour 30 minutes",
    spark: "interval  1 day -2 HOURS +.5 seconds 1.123456789 second",
    long: "3 years 2 months 1 week 5 milliseconds 17 microseconds"
  },
  key: { text: "c\u00e9line", object: '{"b":[1,-0.5,null,true],"a":{"\\u0000":"\\\\"}}', number: "1e21", nul: '"\\u0000x"' },
  "nats-address": { plain: "nats://ann:hunter2@n1:4222,n2,tls://[::1]:1", token: "nats://hunter2@n", escaped: "tls://a%40b:hunter2%20@n/" },
  "redis-address": {
    plain: "redis://ann:hunter2@r:6379/2",
    sentinel: "redis+sentinel://:hunter2@s1:26379,s2/primary",
    cluster: "rediss+cluster://ann:hunter2@[::1]:7000,c2"
  },
  "avro-schema": { order: JSON.stringify(orderSchema), name: '"long"', union: '["null",{"type":"long","logicalType":"timestamp-millis"}]' }
}

// ---- a directory

const databaseFile = async (): Promise<Uint8Array> => {
  const directory = mkdtempSync(join(tmpdir(), "keyfold-corpus-"))
  try {
    const runtime = embedded(directory)
    for (const portion of [...visitsBefore, visitsAfter]) {
      const out = await publisher(runtime, visits)
      for (const visit of portion) void out.send(visit)
      await out.flush()
      await out[Symbol.asyncDispose]()
      if (portion === visitsAfter) break // left to be read
      const query = await start(
        staysJob(async () => undefined),
        { runtime, trigger: "available-now" }
      )
      await query.awaitTermination()
    }
    const [visit] = visitsAfter
    const traced = { headers: new Map([["traceparent", traceparent]]), payload: Buffer.from(JSON.stringify(visit)), identity: undefined }
    const records = [{ topic: "visits", partition: 0, publishedAt: 1_000, ...traced }]
    await settled(Effect.scoped(Effect.flatMap(openDatabase(directory), (store) => makeStoredSink(store).publish(records))))
    return readFileSync(join(directory, "keyfold.db"))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const storage: Readonly<Record<string, Inputs>> = { "write-ahead-log": { stays: fixtureFile("embedded-1", "keyfold.db-wal") } }

const made: Readonly<Record<string, Inputs>> = { ...storage, ...journal, ...messages, ...servers, ...command }
for (const target of targets) {
  const known = new Set(kept("corpus", target).map(({ name }) => name))
  const inputs = made[target.name] ?? { stays: await databaseFile() }
  for (const [name, input] of Object.entries(inputs)) {
    const isThere = known.has(name) || known.has(`${name}.gz`)
    if (!isThere) process.stdout.write(`${keep("corpus", target, { name, input: Buffer.from(input as Uint8Array) })}\n`)
  }
}
