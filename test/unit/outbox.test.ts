// Goal: a turn's records get dense numbers per stream, rows for the next stage travel in batches, and nothing is larger than a record may be (P7).
// Method: the real outbox over hand-made pending records; batches are read back with the reader's own decoder.
import { expect, test } from "vitest"
import { type DeadLetter, encodeDeadLetter } from "../../src/model/dead-letter.ts"
import { decodeEnvelopes, encodeRow, encodeWatermark } from "../../src/model/envelope.ts"
import type { PendingRecord } from "../../src/model/outgoing.ts"
import { Numbering, outboxOf } from "../../src/partition/outbox.ts"

const row = (keyText: string, partition: number, filler = ""): PendingRecord => ({
  topic: "job~hop",
  partition,
  payload: encodeRow({ keyText, eventTime: 1, value: filler, stamped: undefined, origin: undefined })
})

const recordsOf = (records: readonly PendingRecord[], payloadBytesMax = 1_048_576) =>
  outboxOf({ records, deliveries: [] }, new Numbering("w", { "job~hop/1": 4, "out/0": 9 }), {
    publishedAt: 7,
    internalTopic: "job~hop",
    payloadBytesMax
  }).records

const keysOf = (payload: Uint8Array) =>
  decodeEnvelopes(payload).map((envelope) => (envelope.kind === "row" ? envelope.keyText : `watermark ${envelope.watermarkMs}`))

test("rows for one partition of the next stage are one record with one number, in order, its watermark last (P24)", () => {
  const watermark = { topic: "job~hop", partition: 1, payload: encodeWatermark({ watermarkMs: 3, upstream: 0 }) }
  const records = recordsOf([row("a", 1), row("b", 0), row("c", 1), { topic: "out", partition: 0, payload: Buffer.from("x") }, watermark])
  const told = records.map(({ topic, partition, identity }) => `${topic}/${partition} ${identity?.number}`).sort()
  expect(told).toEqual(["job~hop/0 1", "job~hop/1 5", "out/0 10"])
  const batch = records.find(({ topic, partition }) => topic === "job~hop" && partition === 1)
  expect(keysOf(batch?.payload as Uint8Array)).toEqual(["a", "c", "watermark 3"])
})

test("a batch ends at 256 rows and at the size that a record may have, and loses none", () => {
  const keys = Array.from({ length: 1_000 }, (_, index) => `k${index}`)
  const many = recordsOf(keys.map((key) => row(key, 0)))
  expect(many.map(({ payload }) => keysOf(payload).length)).toEqual([256, 256, 256, 232])
  expect(many.flatMap(({ payload }) => keysOf(payload))).toEqual(keys)
  expect(many.map(({ identity }) => identity?.number)).toEqual([1, 2, 3, 4])

  const large = recordsOf(
    keys.slice(0, 20).map((key) => row(key, 0, "x".repeat(300))),
    1_000
  )
  expect(Math.max(...large.map(({ payload }) => payload.byteLength))).toBeLessThanOrEqual(1_000)
  expect(large.flatMap(({ payload }) => keysOf(payload))).toEqual(keys.slice(0, 20))
})

test("a dead letter always fits: it loses its value first, then its bytes, then its key", () => {
  const letter: DeadLetter = {
    code: "decode-failed",
    message: "no",
    stage: "s",
    key: "k".repeat(2_000),
    value: "v".repeat(30_000),
    topic: "in",
    partition: 0,
    position: 5,
    bytes: "b".repeat(9_000)
  }
  const kept = (bytesMax: number, brief = false) =>
    Object.keys(JSON.parse(Buffer.from(encodeDeadLetter(letter, { brief, bytesMax })).toString()))
  expect(kept(100_000)).toEqual(Object.keys(letter))
  expect(kept(20_000)).not.toContain("value")
  expect(kept(20_000)).toContain("bytes")
  expect(kept(5_000)).toEqual(["code", "message", "stage", "key", "topic", "partition", "position"])
  expect(kept(100_000, true)).not.toContain("bytes")
  expect(kept(1_000)).toEqual(["code", "message", "stage", "topic", "partition", "position"])
})
