// Goal: a row arrives behind a hop as it left, and bytes that no keyfold wrote are refused, never misread.
// Method: round trips by property, then every cut and random changes of real envelopes.
import fc from "fast-check"
import { expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { decodeEnvelope, encodeRow, encodeWatermark } from "../../src/model/envelope.ts"

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
