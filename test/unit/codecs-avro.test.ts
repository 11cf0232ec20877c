// Goal: what the avro codec writes is Avro, comes back as it was, and what it could not keep it refuses.
// Method: Apache's own fingerprints, the specification's examples, and rows of refusals. See codecs-avro-evolution and codecs-avro-fuzz for the rest.
import assert from "node:assert/strict"
import type { KeyfoldError } from "keyfold"
import type { AvroSchema } from "keyfold/codecs/avro"
import { describe, expect, test } from "vitest"
import { any, bodyOf, hex, record, roundTrip, thrownBy, withBody } from "../fixtures/avro-codecs.ts"

describe("a fingerprint", () => {
  // apache/avro, share/test/data/schema-tests.txt: signed, as Java prints a long.
  const known: readonly (readonly [schema: AvroSchema, fingerprint: bigint])[] = [
    ["null", 7195948357588979594n],
    ["boolean", -6970731678124411036n],
    [{ type: "int" }, 8247732601305521295n],
    ["long", -3434872931120570953n],
    ["float", 5583340709985441680n],
    ["double", -8181574048448539266n],
    ["bytes", 5746618253357095269n],
    ["string", -8142146995180207161n],
    [["int", { type: "boolean" }], 5392556393470105090n],
    [{ fields: [], type: "record", name: "foo", namespace: "x.y" }, 5916914534497305771n],
    [{ fields: [], type: "record", name: "a.b.foo", namespace: "x.y" }, -4616218487480524110n],
    [{ fields: [], type: "record", name: "foo", doc: "foo", aliases: ["foo", "bar"] }, -4824392279771201922n],
    [
      record(
        "foo",
        { type: "boolean", aliases: [], name: "f1", default: true },
        { order: "descending", name: "f2", doc: "Hello", type: "int" }
      ),
      -4860222112080293046n
    ],
    [{ namespace: "x.y.z", type: "enum", name: "foo", doc: "foo bar", symbols: ["A1", "A2"] }, -4448647247586288245n],
    [{ namespace: "x.y.z", type: "fixed", name: "foo", doc: "foo bar", size: 32 }, -3064184465700546786n],
    [{ items: { type: "null" }, type: "array" }, -589620603366471059n],
    [{ values: "string", type: "map" }, -8732877298790414990n],
    ['{"name":"PigValue","type":"record","fields":[{"name":"value","type":["null","int","long","PigValue"]}]}', -1759257747318642341n]
  ]
  test.each(known)("of %j is Apache's", (schema, fingerprint) => {
    const text = BigInt.asUintN(64, fingerprint).toString(16).padStart(16, "0")
    expect(any(schema).fingerprint).toBe(`avro/${text}`)
  })

  test("stands in the message, little-endian, after the marker", () => {
    expect(hex(any("int").encode(27))).toBe("c3018f5c393f1ad5757236")
    expect(any("int").contentType).toBe("avro/binary")
  })

  test("is followed by those of the older schemas, each once", () => {
    const [int, long, double] = (["int", "long", "double"] as const).map((schema) => any(schema).fingerprint)
    expect(any("double", { older: ["long", "int", "double", "int"] }).fingerprint).toBe(`${double} ${long} ${int}`)
  })
})

describe("the bytes", () => {
  const examples: readonly (readonly [schema: AvroSchema, value: unknown, body: string])[] = [
    ["long", 0, "00"],
    ["long", -1, "01"],
    ["long", 1, "02"],
    ["long", -2, "03"],
    ["long", -64, "7f"],
    ["long", 64, "8001"],
    ["string", "foo", "06666f6f"],
    ["boolean", true, "01"],
    ["float", 1, "0000803f"],
    ["double", -2, "00000000000000c0"],
    ["bytes", Uint8Array.of(0, 255), "0400ff"],
    [record("test", { name: "a", type: "long" }, { name: "b", type: "string" }), { a: 27, b: "foo" }, "3606666f6f"],
    [{ type: "enum", name: "Foo", symbols: ["A", "B", "C", "D"] }, "D", "06"],
    [{ type: "array", items: "long" }, [3, 27], "04063600"],
    [{ type: "map", values: "long" }, { a: 3 }, "0202610600"],
    [["null", "string"], null, "00"],
    [["null", "string"], "a", "020261"]
  ]
  test.each(examples)("of %j %j are the specification's", (schema, value, body) => {
    const codec = any(schema)
    expect(hex(bodyOf(codec.encode(value)))).toBe(body)
    expect(codec.decode(codec.encode(value))).toEqual(value)
  })

  test("of an array in blocks with sizes, as other writers write it, are read", () => {
    expect(any({ type: "array", items: "long" }).decode(withBody({ type: "array", items: "long" }, [1, 2, 6, 3, 4, 8, 10, 0]))).toEqual([
      3, 4, 5
    ])
  })

  test.each([2 ** 53 - 1, -(2 ** 53 - 1), -(2 ** 52) - 1, 2 ** 52 + 1])("of the long %d are exact", (value) => {
    const zigzag = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n))
    const varint: number[] = []
    for (let rest = zigzag; ; rest >>= 7n) {
      if (rest < 128n) {
        varint.push(Number(rest))
        break
      }
      varint.push(Number(rest & 127n) | 128)
    }
    expect([...bodyOf(any("long").encode(value))]).toEqual(varint)
    expect(roundTrip("long", value)).toBe(value)
  })

  test("belong to the caller: a later encode writes elsewhere", () => {
    const codec = any("string")
    const first = codec.encode("first")
    codec.encode("other")
    expect(codec.decode(first)).toBe("first")
  })

  test("may lie anywhere in memory, and decoded bytes are a copy of their own", () => {
    const codec = any("bytes")
    const whole = new Uint8Array(40).fill(0xff)
    const encoded = codec.encode(Uint8Array.of(1, 2, 3))
    whole.set(encoded, 7)
    const decoded = codec.decode(whole.subarray(7, 7 + encoded.length)) as Uint8Array
    whole.fill(0)
    expect(decoded).toEqual(Uint8Array.of(1, 2, 3))
    expect([decoded.constructor, decoded.buffer.byteLength]).toEqual([Uint8Array, 3])
  })
})

describe("a decoded value", () => {
  const schema = record(
    "Card",
    { name: "id", type: "string" },
    { name: "limits", type: { type: "map", values: "long" } },
    {
      name: "last",
      type: ["null", record("Payment", { name: "at", type: "long" })] as unknown as AvroSchema
    }
  )
  const value = { id: "c", limits: { day: 5 }, last: { at: 7 } }

  test("is plain: equal to a literal in every strictness, and structuredClone is content", () => {
    const decoded = roundTrip(schema, value)
    assert.deepStrictEqual(decoded, value)
    assert.deepStrictEqual(structuredClone(decoded), value)
    expect(Object.getPrototypeOf((decoded as typeof value).last)).toBe(Object.prototype)
  })

  test("has a map's key __proto__ as data", () => {
    const map = { type: "map", values: { type: "map", values: "int" } }
    const decoded = roundTrip(map, JSON.parse('{"__proto__":{"admin":1}}')) as { readonly admin?: number }
    expect([decoded.admin, Object.keys(decoded)]).toEqual([undefined, ["__proto__"]])
  })

  test("has the defaults of fields that were missing or undefined", () => {
    const versioned = record(
      "R",
      { name: "a", type: "int", default: 3 },
      { name: "b", type: ["null", "int"], default: null },
      { name: "constructor", type: "int", default: 1 }
    )
    expect(roundTrip(versioned, { a: undefined })).toEqual({ a: 3, b: null, constructor: 1 })
  })

  test("has wrapped branches where JavaScript cannot tell them apart", () => {
    const union = ["null", "int", "double", record("P", { name: "a", type: "int" }), record("Q", { name: "a", type: "int" })] as AvroSchema
    for (const branch of [null, { int: 5 }, { double: 5 }, { P: { a: 1 } }, { Q: { a: 1 } }])
      assert.deepStrictEqual(roundTrip(union, branch), branch)
  })
})

describe("a value that would be changed or lost in silence is refused", () => {
  const payment = record(
    "Payment",
    { name: "card", type: "string" },
    { name: "rows", type: { type: "array", items: record("Row", { name: "at", type: "long" }) } }
  )
  const cycle: Record<string, unknown> = {}
  cycle["next"] = cycle
  const refused: readonly (readonly [what: string, schema: AvroSchema, value: unknown, message: string])[] = [
    ["a long beyond 2^53 - 1", "long", 2 ** 53, "expected a long (a safe integer, up to 2^53 - 1), got an integer"],
    ["a bigint", "long", 5n, "expected a long (a safe integer, up to 2^53 - 1), got a bigint"],
    ["a fraction", "int", 1.5, "expected an int (an integer of 32 bits), got a fraction"],
    ["an int of 33 bits", "int", 2 ** 31, "expected an int"],
    ["NaN as a long", "long", Number.NaN, "got NaN"],
    ["a number too large for a float", "float", 1e300, "too large for a float"],
    ["a short lone surrogate", "string", "\ud800", "a lone surrogate has no UTF-8"],
    ["a long lone surrogate", "string", `${"x".repeat(100)}\udc00`, "a lone surrogate has no UTF-8"],
    ["a Map as a map", { type: "map", values: "int" }, new Map([["a", 1]]), "expected an object of entries, got a Map"],
    ["a Map as a record", record("E"), new Map([["a", 1]]), "expected a record (E), got a Map"],
    ["an array as a map", { type: "map", values: "int" }, [1], "got an array"],
    ["a Date", record("E"), new Date(0), "got a Date"],
    ["an undeclared member", payment, { card: "c", rows: [], amount: 1 }, 'the schema\'s Payment has no field "amount"'],
    ["a missing field", payment, { card: "c" }, "is missing and has no default, at /rows"],
    ["a nested mistake", payment, { card: "c", rows: [{ at: 1 }, { at: "2" }] }, "got a string, at /rows/1/at"],
    ["undefined in an array", { type: "array", items: "int" }, [1, undefined], "got undefined, at /1"],
    ["a string as bytes", "bytes", "ab", "expected bytes (a Uint8Array), got a string"],
    ["bytes of another size", { type: "fixed", name: "F", size: 2 }, Uint8Array.of(1), "expected 2 bytes, got 1"],
    ["another symbol", { type: "enum", name: "E", symbols: ["A", "B"] }, "C", "expected one of A, B, got a string"],
    ["no branch", ["null", "string"], 5, "expected one of null, string, got an integer"],
    ["two branches", ["int", "double"], { int: 1, double: 1 }, "expected an object with one member, one of int, double"],
    ["a cycle", record("N", { name: "next", type: ["null", "N"] }), cycle, "or a cycle"],
    ["too many nulls", { type: "array", items: "null" }, new Array(100_001).fill(null), "more than 100000 items that take no bytes"]
  ]
  test.each(refused)("%s", (_, schema, value, message) => {
    const codec = any(schema)
    const thrown = thrownBy(() => codec.encode(value))
    expect(thrown).toBeInstanceOf(TypeError)
    expect(thrown.message).toMatch(/^Avro: /)
    expect(thrown.message).toContain(message)
  })

  test("its content is not in the message: it may be secret", () => {
    expect(thrownBy(() => any(payment).encode({ card: 4111_1111, rows: [] })).message).not.toContain("4111")
  })

  test("a getter that throws, throws what it throws, and the codec goes on", () => {
    const codec = any(payment)
    const own = new RangeError("mine")
    const value = {
      get card(): string {
        throw own
      }
    }
    expect(thrownBy(() => codec.encode(value))).toBe(own)
    expect(codec.decode(codec.encode({ card: "c", rows: [] }))).toEqual({ card: "c", rows: [] })
  })

  test("a getter that encodes with the same codec disturbs nothing", () => {
    const codec = any(payment)
    const value = {
      get card() {
        return hex(codec.encode({ card: "inner", rows: [] })).slice(0, 4)
      },
      rows: [{ at: 1 }]
    }
    expect(codec.decode(codec.encode(value))).toEqual({ card: "c301", rows: [{ at: 1 }] })
  })
})

test.each<readonly [what: string, schema: unknown, message: string]>([
  ["an unknown type", "number", "undefined type name: number"],
  ["text that is not JSON", "{type", "is no Avro schema"],
  ["a record without a name", { type: "record", fields: [] }, "missing name"],
  ["a default of another type", record("R", { name: "a", type: "int", default: "x" }), "incompatible field default"],
  ["a field __proto__", record("R", { name: "__proto__", type: "int" }), "no field can be called __proto__"],
  ["null", null, "is no Avro schema"]
])("%s is no schema", (_, schema, message) => {
  const thrown = thrownBy(() => any(schema as AvroSchema)) as KeyfoldError
  expect(thrown.code).toBe("option-invalid")
  expect(thrown.message).toContain(message)
  expect((thrownBy(() => any("int", { older: ["int", schema as AvroSchema] })) as KeyfoldError).message).toContain(
    "older[1] of an avro codec"
  )
})
