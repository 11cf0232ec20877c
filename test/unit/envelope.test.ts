// Goal: a row arrives behind a hop as it left, and bytes that no keyfold wrote are refused, never misread.
// Method: round trips by property, then every cut and random changes of real envelopes.
import fc from "fast-check"
import { expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { decodeEnvelope, decodeEnvelopes, encodeBatch, encodeRow, encodeWatermark } from "../../src/model/envelope.ts"

const seed = Number(process.env["SEED"] ?? 1)

const origins = fc.option(
  fc.record({
    topic: fc.stringMatching(/^[a-zA-Z0-9_~-]{1,150}$/),
    partition: fc.nat(1_023),
    position: fc.nat(),
    publishedAt: fc.nat()
  }),
  { nil: undefined }
)
const values = fc.oneof(fc.jsonValue(), fc.date({ noInvalidDate: true }), fc.constant(new Map([["a", Number.NaN]])), fc.constant(undefined))

test(`a row comes out as it went in (SEED=${seed})`, () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.double(), values, values, origins, (keyText, eventTime, value, stamped, origin) => {
      const row = { keyText, eventTime, value, stamped, origin }
      expect(decodeEnvelope(encodeRow(row))).toEqual({ kind: "row", ...row })
    }),
    { seed, numRuns: 500 }
  )
})

test("what the event time was read from travels once when it is the value itself", () => {
  const value = { filler: "x".repeat(1_000) }
  const row = { keyText: "k", eventTime: 1, value, stamped: value, origin: undefined }
  expect(encodeRow(row).byteLength).toBeLessThan(1_200)
  expect(decodeEnvelope(encodeRow(row))).toMatchObject({ stamped: value, value })
})

test("a watermark comes out as it went in", () => {
  expect(decodeEnvelope(encodeWatermark({ watermarkMs: 1.5e12, upstream: 7 }))).toEqual({
    kind: "watermark",
    watermarkMs: 1.5e12,
    upstream: 7
  })
})

test("what is cut off or changed is refused with decode-failed, or is a row; it never crashes", () => {
  const whole = encodeRow({
    keyText: "key",
    eventTime: 5,
    value: { a: [1, "two"] },
    stamped: 3,
    origin: { topic: "t", partition: 1, position: 2, publishedAt: 3 }
  })
  for (let length = 0; length < whole.byteLength; length++) {
    expect(() => decodeEnvelope(whole.subarray(0, length))).toThrow(KeyfoldError)
  }
  for (let index = 0; index < whole.byteLength; index++) {
    for (const byte of [0, 1, 2, 127, 255]) {
      const changed = Uint8Array.from(whole)
      changed[index] = byte
      try {
        decodeEnvelope(changed)
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "decode-failed" })
      }
    }
  }
})

test(`a batch comes out as its envelopes went in, in order; a single one is no batch (SEED=${seed})`, () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.string(), values), { minLength: 1, maxLength: 20 }), fc.boolean(), (rows, marked) => {
      const envelopes = rows.map(([keyText, value]) => encodeRow({ keyText, eventTime: 1, value, stamped: undefined, origin: undefined }))
      if (marked) envelopes.push(encodeWatermark({ watermarkMs: 5, upstream: 2 }))
      const batch = encodeBatch(envelopes)
      expect(decodeEnvelopes(batch)).toEqual(envelopes.map(decodeEnvelope))
      if (envelopes.length === 1) expect(batch).toBe(envelopes[0])
    }),
    { seed, numRuns: 300 }
  )
})

test("a batch that is cut off, or whose lengths lie, is refused as a whole", () => {
  const batch = encodeBatch(
    ["a", "b", "c"].map((keyText) => encodeRow({ keyText, eventTime: 1, value: keyText, stamped: undefined, origin: undefined }))
  )
  const whole = decodeEnvelopes(batch)
  const ends = new Set([1])
  for (let at = 1; at < batch.byteLength; ) {
    at += 4 + Buffer.from(batch).readUInt32LE(at)
    ends.add(at)
  }
  for (let length = 1; length < batch.byteLength; length++) {
    const cut = batch.subarray(0, length)
    // A batch does not say how many it has: cut between two it is a shorter one. NATS keeps records whole.
    if (ends.has(length)) expect(decodeEnvelopes(cut)).toEqual(whole.slice(0, [...ends].indexOf(length)))
    else expect(() => decodeEnvelopes(cut)).toThrow(KeyfoldError)
  }
  const lying = Uint8Array.from(batch)
  lying.fill(255, 1, 5)
  expect(() => decodeEnvelopes(lying)).toThrow(expect.objectContaining({ code: "decode-failed" }))
})
