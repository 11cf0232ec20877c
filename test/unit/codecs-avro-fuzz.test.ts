// Goal: in any schema and for any bytes, the avro codec agrees with avsc or refuses, without allocating or looping for what is not there.
// Method: rows of hostile bytes; schemas, values and next versions from a seed, with avsc as the second opinion; and spoiled bytes.
// Rerun with SEED=<n>.
import assert from "node:assert/strict"
import avsc from "avsc"
import { KeyfoldError } from "keyfold"
import type { AvroSchema } from "keyfold/codecs/avro"
import { describe, expect, test } from "vitest"
import { any, bodyOf, headerBytes, hex, record, roundTrip, thrownBy, withBody } from "../fixtures/avro-codecs.ts"
import { nextVersion, oneOf, randomBytes, randomSchema, randomValue, type SchemaText, upTo } from "../fixtures/avro-schemas.ts"
import { randomFrom } from "../fixtures/random.ts"

const seed = Number(process.env.SEED ?? 1)

describe("bytes that are no value", () => {
  const list = record("N", { name: "next", type: ["null", "N"] })
  const hugeCount = [0x80, 0x80, 0x80, 0x80, 0x80, 0x40] // 2^40
  const refused: readonly (readonly [what: string, schema: AvroSchema, body: readonly number[], message: string])[] = [
    ["no body", "long", [], "cut off at byte 10"],
    ["a number that goes on", "long", [0x80], "cut off at byte 11"],
    ["a number of 11 bytes", "long", [...new Array(10).fill(0x80), 0], "a number of more than 10 bytes"],
    ["a long beyond a number", "long", [...new Array(9).fill(0xff), 1], "cannot hold exactly"],
    ["an int of 33 bits", "int", [0x80, 0x80, 0x80, 0x80, 0x20], "an int has 32 bits"],
    ["a boolean 2", "boolean", [2], "0 or 1, got 2"],
    ["a byte too many", "long", [0, 0], "1 bytes too many"],
    ["half a double", "double", [0, 0, 0], "cut off: 8 bytes from byte 10 on, of which 3 are there"],
    ["a text longer than the bytes", "string", [20, 97], "cut off: 10 bytes"],
    ["a text of a negative length", "string", [1], "a length below 0"],
    ["a text of 2^40 bytes", "string", hugeCount, "cut off"],
    ["a text that is not UTF-8", "string", [4, 0xc3, 0x28], "not UTF-8"],
    ["bytes of 2^40 bytes", "bytes", hugeCount, "cut off"],
    ["an array of 2^40 longs", { type: "array", items: "long" }, hugeCount, "cut off, or not Avro"],
    ["an array of 2^40 nulls", { type: "array", items: "null" }, hugeCount, "items that take no bytes"],
    ["an array of 2^40 empty records", { type: "array", items: record("E") }, hugeCount, "items that take no bytes"],
    ["a negative block of 2^40", { type: "array", items: "long" }, [0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 2], "cut off, or not Avro"],
    ["a block of a negative size", { type: "array", items: "long" }, [1, 1, 0, 0], "a length below 0"],
    ["a map of 2^40 entries", { type: "map", values: "null" }, hugeCount, "cut off, or not Avro"],
    ["a branch that is not there", ["null", "int"], [4, 0], "no branch 2"],
    ["a negative branch", ["null", "int"], [1, 0], "no branch -1"],
    ["a symbol that is not there", { type: "enum", name: "E", symbols: ["A"] }, [2], "no symbol 1"],
    ["a list deeper than the stack", list, new Array(100_000).fill(2), "records within each other"]
  ]
  test.each(refused)("%s", (_, schema, body, message) => {
    const before = process.memoryUsage().rss
    const thrown = thrownBy(() => any(schema).decode(withBody(schema, body)))
    expect(thrown).toBeInstanceOf(TypeError)
    expect(thrown.message).toContain(message)
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * 1_048_576)
  })

  test.each([[""], ["c3"], ["c301"], ["c3018f5c393f1ad575"], ["7b226964223a317d"], ["c3028f5c393f1ad5757236"]])(
    "%s is no single object",
    (text) => {
      const thrown = thrownBy(() => any("int").decode(Buffer.from(text, "hex")))
      expect(thrown.message).toContain("not Avro's single-object encoding")
    }
  )

  test("what a list may hold can be read back from far down the stack", () => {
    const deep = Array.from({ length: 999 }).reduce<unknown>((next) => ({ next }), { next: null })
    const from = (depth: number): unknown => (depth === 0 ? roundTrip(list, deep) : from(depth - 1))
    expect(hex(any(list).encode(from(2_000)))).toBe(hex(any(list).encode(deep)))
    expect(thrownBy(() => any(list).encode({ next: deep })).message).toContain("more than 1000 records within each other")
  })
})

/** What avsc answers, as plain values: for comparison only. */
const plain = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return new Uint8Array(value)
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, plain(member)]))
}

/** avsc takes Buffers where we take any Uint8Array. */
const buffered = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return Buffer.from(value)
  if (Array.isArray(value)) return value.map(buffered)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, buffered(member)]))
}

const typeOf = (schema: SchemaText) => avsc.Type.forSchema(schema as Parameters<typeof avsc.Type.forSchema>[0], { omitRecordMethods: true })

describe("in any schema", () => {
  const cases = process.env["KEYFOLD_TEST"] === "full" ? 2_000 : 500

  test(`values come back, and are the same bytes as avsc's (SEED=${seed})`, () => {
    const random = randomFrom(seed)
    for (let count = 0; count < cases; count++) {
      const schema = randomSchema(random)
      const value = randomValue(random, schema)
      const encoded = any(schema as AvroSchema).encode(value)
      assert.deepStrictEqual(any(schema as AvroSchema).decode(encoded), value)
      expect(hex(bodyOf(encoded))).toBe(typeOf(schema).toBuffer(buffered(value)).toString("hex"))
    }
  })

  test(`an older version is read as avsc reads it (SEED=${seed})`, () => {
    const random = randomFrom(seed)
    let differing = 0
    for (let count = 0; count < cases; count++) {
      const older = randomSchema(random)
      const newer = nextVersion(random, older)
      const encoded = any(older as AvroSchema).encode(randomValue(random, older))
      const type = typeOf(newer)
      const expected = plain(type.fromBuffer(Buffer.from(bodyOf(encoded)), type.createResolver(typeOf(older))))
      const codec = any(newer as AvroSchema, { older: [older as AvroSchema] })
      assert.deepStrictEqual(codec.decode(encoded), expected)
      if (codec.fingerprint.includes(" ")) differing += 1
    }
    expect(differing).toBeGreaterThan(cases / 2)
  })

  test(`cut, changed and random bytes are read or refused, quickly (SEED=${seed})`, () => {
    const random = randomFrom(seed)
    let refused = 0
    let read = 0
    for (let count = 0; count < cases; count++) {
      const schema = randomSchema(random) as AvroSchema
      const older = nextVersion(random, schema as SchemaText) as AvroSchema
      const codecs = [any(schema), resolvable(schema, older)]
      const encoded = any(schema).encode(randomValue(random, schema as SchemaText))
      for (const bytes of spoiled(random, encoded)) {
        for (const codec of codecs) {
          try {
            const value = codec.decode(bytes)
            assert.deepStrictEqual(codec.decode(codec.encode(value)), value)
            read += 1
          } catch (thrown) {
            if (!(thrown instanceof TypeError || thrown instanceof KeyfoldError)) throw thrown
            refused += 1
          }
        }
      }
    }
    expect(refused).toBeGreaterThan(cases)
    expect(read).toBeGreaterThan(cases / 10)
  }, 60_000)

  /** A codec of the second schema that reads the first, or the first's where that cannot be. */
  const resolvable = (older: AvroSchema, newer: AvroSchema) => {
    try {
      return any(newer, { older: [older] })
    } catch {
      return any(older)
    }
  }

  const spoiled = (random: () => number, bytes: Uint8Array): readonly Uint8Array[] => {
    const changed = Uint8Array.from(bytes)
    for (let change = 0; change < 3 && bytes.length > headerBytes; change++)
      changed[headerBytes + upTo(random, bytes.length - headerBytes)] = upTo(random, 256)
    return [
      bytes.subarray(0, upTo(random, bytes.length)),
      changed,
      Uint8Array.from([...bytes.subarray(0, headerBytes), ...randomBytes(random, upTo(random, 40))]),
      Uint8Array.from([
        ...bytes.subarray(0, headerBytes + upTo(random, bytes.length - headerBytes + 1)),
        ...oneOf(random, [[0], [0xff, 0xff, 0xff, 0xff, 0x7f], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]])
      ]),
      randomBytes(random, upTo(random, 40))
    ]
  }
})
