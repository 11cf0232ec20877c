// Goal: what a codec writes it reads back, and what it cannot keep it refuses instead of changing it in silence.
// Method: rows of values and of bytes, round trips of random ones, and a look at the memory that the bytes hold on to.
// Rerun with SEED=<n>.
import fc from "fast-check"
import { KeyfoldError } from "keyfold"
import { bytes } from "keyfold/codecs/bytes"
import { json } from "keyfold/codecs/json"
import { text } from "keyfold/codecs/text"
import { describe, expect, test } from "vitest"

const seed = Number(process.env.SEED ?? 1)
const runs = { seed, numRuns: 1_000 }

const utf8 = (value: string): Uint8Array => new Uint8Array(Buffer.from(value))

/** Bytes in the middle of something larger, as they come from a network buffer. */
const embedded = (part: Uint8Array): Uint8Array => {
  const whole = new Uint8Array(part.length + 8).fill(0xff)
  whole.set(part, 5)
  return whole.subarray(5, 5 + part.length)
}

const notUtf8: readonly (readonly [what: string, bytes: readonly number[]])[] = [
  ["a lone continuation byte", [0x22, 0x80, 0x22]],
  ["a cut sequence", [0x22, 0xe2, 0x82]],
  ["an overlong slash", [0x22, 0xc0, 0xaf, 0x22]],
  ["an encoded surrogate", [0x22, 0xed, 0xa0, 0x80, 0x22]],
  ["a byte of Latin-1", [0x22, 0xe9, 0x22]]
]

describe("json", () => {
  const codec = json<unknown>()

  test("says what it is", () => {
    expect(codec.contentType).toBe("application/json")
    expect(codec.fingerprint).toBe("json/1")
    expect(json({ version: 2 ** 31 - 1 }).fingerprint).toBe("json/2147483647")
  })

  test(`a value comes back as JSON has it, from bytes anywhere in memory (SEED=${seed})`, () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const encoded = codec.encode(value)
        expect(Buffer.from(encoded).toString()).toBe(JSON.stringify(value))
        expect(codec.decode(embedded(encoded))).toEqual(JSON.parse(JSON.stringify(value)))
      }),
      runs
    )
  })

  test("strings beyond ASCII, lone surrogates among them, come back", () => {
    const value = ["é", "日本", "😀", "\ud800", "\u0000", "\u2028"]
    expect(codec.decode(codec.encode(value))).toEqual(value)
  })

  const cycle: { self?: unknown } = {}
  cycle.self = cycle
  const refused: readonly (readonly [what: string, value: unknown, message: string])[] = [
    ["undefined", undefined, "JSON cannot hold undefined"],
    ["a function", () => 1, "JSON cannot hold a function"],
    ["a symbol", Symbol("s"), "JSON cannot hold a symbol"],
    ["an object whose toJSON gives nothing", { toJSON: () => undefined }, "JSON cannot hold this object"],
    ["a bigint", { n: 1n }, "BigInt"],
    ["a cycle", cycle, "circular"],
    ["NaN", Number.NaN, "JSON cannot hold NaN"],
    ["a nested infinity", { a: [{ b: Number.NEGATIVE_INFINITY }] }, "JSON cannot hold -Infinity at /a/0/b"],
    ["NaN from a toJSON", { a: { toJSON: () => [1, Number.NaN] } }, "JSON cannot hold NaN at /a/1"],
    ["an invalid date", { at: new Date(Number.NaN) }, "JSON cannot hold an invalid Date at /at"],
    ["undefined in an array", { a: [1, undefined] }, "JSON cannot hold undefined in an array at /a/1"],
    ["a function in an array", [() => 1], "JSON cannot hold a function in an array at /0"],
    ["a hole", new Array(2), "JSON cannot hold undefined in an array at /0"],
    ["a Map", { seen: new Map([["a", 1]]) }, "JSON cannot hold a Map, write it as an array at /seen"],
    ["a Set", new Set([1]), "JSON cannot hold a Set, write it as an array"]
  ]
  test.each(refused)("%s is refused, not changed", (_, value, message) => {
    expect(() => codec.encode(value)).toThrow(TypeError)
    expect(() => codec.encode(value)).toThrow(message)
  })

  const kept: readonly (readonly [what: string, value: unknown, decoded: unknown])[] = [
    ["null", null, null],
    ["null in many places", { a: null, b: [null, { c: null }] }, { a: null, b: [null, { c: null }] }],
    ["the text null", ["null", "{}"], ["null", "{}"]],
    ["empty objects", { a: {}, b: [{}] }, { a: {}, b: [{}] }],
    ["undefined members, which are left out", { a: undefined, b: null }, { b: null }],
    ["dates, as texts", { at: new Date(0), n: null }, { at: "1970-01-01T00:00:00.000Z", n: null }],
    ["a Map with a toJSON", Object.assign(new Map(), { toJSON: () => ({}) }), {}],
    [
      "a toJSON that hands its own object on",
      {
        a: {
          n: null,
          toJSON() {
            return { n: this.n }
          }
        }
      },
      { a: { n: null } }
    ]
  ]
  test.each(kept)("%s can be encoded", (_, value, decoded) => expect(codec.decode(codec.encode(value))).toEqual(decoded))

  test.each(notUtf8)("%s is no value", (_, input) => expect(() => codec.decode(Uint8Array.from(input))).toThrow(TypeError))

  test.each(["", "{", "undefined", "NaN", "'a'", "1 2", "\ufeff1", "[1,]"])("the text %j is no value", (input) => {
    expect(() => codec.decode(utf8(input))).toThrow(SyntaxError)
  })

  test("a member __proto__ is data", () => {
    const decoded = codec.decode(utf8('{"__proto__":{"admin":true}}')) as { readonly admin?: boolean }
    expect(decoded.admin).toBeUndefined()
    expect(Object.keys(decoded as object)).toEqual(["__proto__"])
  })

  test("validate sees the decoded value and its answer counts", () => {
    const validate = (value: unknown): number => {
      if (typeof value !== "number") throw new RangeError("not a number")
      return value + 1
    }
    const checked = json({ validate })
    expect(checked.decode(utf8("1"))).toBe(2)
    expect(() => checked.decode(utf8('"1"'))).toThrow(RangeError)
  })

  test.each([0, -1, 1.5, 2 ** 31, Number.NaN, "2", null])("version %j is an invalid option", (version) => {
    expect(() => json({ version: version as number })).toThrow(expect.objectContaining({ code: "option-invalid" }))
    expect(() => json({ version: version as number })).toThrow(KeyfoldError)
  })

  test("validate that is no function is an invalid option", () => {
    expect(() => json({ validate: {} as () => number })).toThrow(expect.objectContaining({ code: "option-invalid" }))
  })
})

describe("text", () => {
  const codec = text()

  test(`any well-formed string comes back (SEED=${seed})`, () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", size: "large" }), (value) => {
        expect(codec.encode(value)).toEqual(utf8(value))
        expect(codec.decode(embedded(codec.encode(value)))).toBe(value)
      }),
      runs
    )
  })

  test("a leading byte order mark is part of the text", () => expect(codec.decode(codec.encode("\ufeffa"))).toBe("\ufeffa"))

  test.each(["\ud800", "a\udc00", "\udc00\ud800"])("the lone surrogate in %j is refused, not replaced", (value) => {
    expect(() => codec.encode(value)).toThrow("lone surrogate")
  })

  test.each([undefined, null, 1, {}])("%j is no text", (value) => expect(() => codec.encode(value as string)).toThrow(TypeError))

  test.each(notUtf8)("%s is no text", (_, input) => expect(() => codec.decode(Uint8Array.from(input))).toThrow(TypeError))

  test("bytes are refused and the next ones are read right", () => {
    expect(() => codec.decode(Uint8Array.of(0xe2))).toThrow(TypeError)
    expect(codec.decode(utf8("ok"))).toBe("ok")
  })
})

describe("bytes", () => {
  const codec = bytes()

  test(`any bytes come back (SEED=${seed})`, () => {
    const comesBack = (value: Uint8Array): void => {
      expect(codec.decode(embedded(codec.encode(value)))).toEqual(value)
    }
    fc.assert(fc.property(fc.uint8Array(), comesBack), runs)
  })

  test("neither direction shares memory with what it was given, not even for a Buffer", () => {
    for (const copy of [codec.encode, codec.decode]) {
      const given = Buffer.from([1, 2, 3])
      const copied = copy(given)
      given[0] = 9
      expect(copied).toEqual(Uint8Array.of(1, 2, 3))
      expect(copied.buffer.byteLength).toBe(3)
    }
  })

  const others: readonly unknown[] = [5, "abc", null, undefined, [1], new ArrayBuffer(1), new DataView(new ArrayBuffer(1))]
  test.each(others)("%s is no bytes", (value) => {
    expect(() => codec.encode(value as Uint8Array)).toThrow(TypeError)
  })
})

describe("encoded bytes", () => {
  const encoders: readonly (readonly [name: string, encode: (length: number) => Uint8Array])[] = [
    ["json", (length) => json<string>().encode("x".repeat(Math.max(0, length - 2)))],
    ["text", (length) => text().encode("x".repeat(length))],
    ["bytes", (length) => bytes().encode(new Uint8Array(length))]
  ]

  test.each(encoders)("%s: plain bytes of the right length", (_, encode) => {
    for (let length = 2; length < 3_000; length += 7) {
      const encoded = encode(length)
      expect(Object.getPrototypeOf(encoded)).toBe(Uint8Array.prototype)
      expect(encoded.length).toBe(length)
    }
  })

  test(`what was encoded stays as it is while others are encoded (SEED=${seed})`, () => {
    const codec = text()
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "binary", maxLength: 400 }), { maxLength: 50 }), (values) => {
        const encoded = values.map((value) => codec.encode(value))
        expect(encoded.map((part) => codec.decode(part))).toEqual(values)
      }),
      { seed, numRuns: 300 }
    )
  })

  test("posting a small value to a worker does not take its neighbours away", () => {
    const codec = text()
    const [first, second] = [codec.encode("first"), codec.encode("second")]
    expect(first.buffer).toBe(second.buffer)
    expect(() => structuredClone(first, { transfer: [first.buffer as ArrayBuffer] })).toThrow()
    expect(codec.decode(second)).toBe("second")
  })
})
