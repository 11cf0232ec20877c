// Goal: what the journal writes into Redis reads back as it was, is byte by byte what docs/journal-format.md says, and whatever else the bytes
// are, reading them ends at once with an error that says what is wrong.
// Method: random turns, there and back; the page's own examples; entries cut and changed byte by byte; test/fuzz does the same at random, also
// behind a checksum that is right. Rerun with SEED=<n>.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { crc32 } from "node:zlib"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { decodeOutbox, decodeTurn, encodeOutbox, encodeTurn, outboxSchema, turnSchema } from "../../src/journal/entry.ts"
import { decodeValue, encodeValue, valueHasState } from "../../src/journal/key-value.ts"
import { type NewRecord, noHeaders } from "../../src/model/record.ts"
import { emptyOutbox, type KeyImage, type Outbox } from "../../src/model/turn.ts"

const seed = Number(process.env.SEED ?? 1)
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

const example = {
  turn: {
    revision: 300,
    progress: "{}",
    outbox: emptyOutbox,
    changes: [
      { keyText: "ann", bytes: bytes("7"), timeoutAt: 1_000 },
      { keyText: "bob", bytes: undefined, timeoutAt: undefined }
    ]
  },
  outbox: {
    records: [1, 2].map((number) => ({
      topic: "out",
      partition: 3,
      publishedAt: 1_000,
      headers: new Map([["h", "v"]]),
      payload: bytes(`x${number}`),
      identity: { writer: "w", number }
    })),
    deliveries: [{ sink: "mail", values: [bytes("hi")] }]
  }
}

const page = readFileSync(join(import.meta.dirname, "../../docs/journal-format.md"), "utf8")

test("the schemas of docs/journal-format.md are those that are written with", () => {
  const shown = [...page.matchAll(/^```json\n([^`]+)```$/gm)].map((match) => JSON.parse(match[1] as string))
  // How avsc is to treat a text or bytes is no part of the format.
  const plain = [turnSchema, outboxSchema].map((schema) =>
    JSON.parse(JSON.stringify(schema), (_, value) => (value?.logicalType === undefined ? value : value.type))
  )
  expect(shown).toEqual(plain)
})

test("the examples of docs/journal-format.md are what is written", () => {
  const shown = [...page.matchAll(/^```text\n((?:[0-9a-f]{2}[ \n].*\n?)+?)```$/gm)].map((match) =>
    // The words to the right stand behind six spaces at least, in quotes or not.
    (match[1] as string).replace(/ {6,}.*$/gm, "").replace(/\s/g, "")
  )
  expect(shown).toEqual([
    encodeTurn(example.turn, 299).bytes.toString("hex"),
    encodeOutbox({ revision: 300, previous: 298, outbox: example.outbox }).toString("hex"),
    encodeValue(example.turn.changes[0] as KeyImage).toString("hex")
  ])
})

// ---- there and back

const text = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.string({ minLength: 30, maxLength: 400, unit: "grapheme" }))
const blob = fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ minLength: 120, maxLength: 20_000 }))
const time = fc.double({ noNaN: true })
// avsc takes one less than JavaScript's largest.
const whole = fc.oneof(
  fc.maxSafeNat().map((number) => Math.max(0, number - 1)),
  fc.nat(300),
  fc.constantFrom(127, 128, 16_383, 16_384, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER - 1)
)

const randomImage: fc.Arbitrary<KeyImage> = fc.record({
  keyText: text,
  bytes: fc.option(blob, { nil: undefined }),
  timeoutAt: fc.option(time, { nil: undefined })
})

const randomRecord: fc.Arbitrary<NewRecord> = fc.record({
  topic: fc.constantFrom("clicks", "sessions", "x".repeat(150)),
  partition: fc.nat(65_536),
  publishedAt: time,
  headers: fc
    .array(fc.tuple(fc.constantFrom("traceparent", "a", "b"), text), { maxLength: 3 })
    .map((pairs) => (pairs.length === 0 ? noHeaders : new Map(pairs))),
  payload: blob,
  identity: fc.option(fc.record({ writer: fc.constantFrom("w1", "w2"), number: whole }), { nil: undefined })
})

const randomOutbox: fc.Arbitrary<Outbox> = fc.record({
  records: fc.array(randomRecord, { maxLength: 6 }),
  deliveries: fc.array(fc.record({ sink: text, values: fc.array(blob, { maxLength: 4 }) }), { maxLength: 3 })
})

test(`J7 a turn's entry reads back as it was written (SEED=${seed})`, () => {
  const turn = fc.record({
    revision: whole,
    progress: text,
    changes: fc.array(randomImage, { maxLength: 12 }),
    outbox: fc.constant(emptyOutbox)
  })
  fc.assert(
    fc.property(turn, whole, (one, confirmed) => {
      const { bytes, changes } = encodeTurn(one, confirmed)
      const { revision, progress } = one
      expect(plain(changes)).toEqual(plain(one.changes))
      const read = decodeTurn(bytes, "it")
      expect({ ...read, changes: plain(read.changes) }).toEqual({ revision, confirmed, progress, changes: plain(one.changes) })
    }),
    { seed, numRuns: 300 }
  )
})

test(`J7 an outbox reads back as it was written, in plain arrays (SEED=${seed})`, () => {
  fc.assert(
    fc.property(randomOutbox, whole, whole, (outbox, revision, previous) => {
      expect(decodeOutbox(encodeOutbox({ revision, previous, outbox }), "it")).toEqual({ revision, previous, outbox })
    }),
    { seed, numRuns: 300 }
  )
})

test(`J4 a state reads back as it was written, in a plain array of its own (SEED=${seed})`, () => {
  fc.assert(
    fc.property(randomImage, (image) => {
      fc.pre(image.bytes !== undefined || image.timeoutAt !== undefined) // J6
      const value = encodeValue(image)
      expect(valueHasState(value)).toBe(image.bytes !== undefined)
      const read = decodeValue(image.keyText, value, "it")
      value.fill(0)
      expect(read).toEqual(image)
    }),
    { seed, numRuns: 500 }
  )
})

test("J4 the changes of an entry are views of one copy, not of the arrays that were committed, nor of the entry", () => {
  const state = bytes("state")
  const images = ["k", "l"].map((keyText) => ({ keyText, bytes: state, timeoutAt: undefined }))
  const { bytes: entry, changes } = encodeTurn({ ...example.turn, changes: images }, 0)
  state.fill(0)
  entry.fill(0)
  expect(changes.map((change) => Buffer.from(change.bytes ?? []).toString())).toEqual(["state", "state"])
  expect(changes[0]?.bytes?.buffer).toBe(changes[1]?.bytes?.buffer)
  expect(changes[0]?.bytes?.buffer.byteLength).toBe(10)
})

test("an entry that is larger than expected is written whole: texts of three bytes a character", () => {
  const wide = "\u20ac".repeat(5_000)
  const { bytes: entry } = encodeTurn({ ...example.turn, changes: [{ keyText: wide, bytes: bytes("s"), timeoutAt: undefined }] }, 0)
  expect(decodeTurn(entry, "it").changes.map(({ keyText }) => keyText)).toEqual([wide])
  const record = { ...(example.outbox.records[0] as NewRecord), headers: new Map([["h", wide]]) }
  const outbox = { records: [record], deliveries: [] }
  expect(decodeOutbox(encodeOutbox({ revision: 1, previous: 0, outbox }), "it").outbox).toEqual(outbox)
})

const plain = (images: readonly KeyImage[]): readonly KeyImage[] =>
  images.map(({ keyText, bytes, timeoutAt }) => ({ keyText, bytes: bytes && new Uint8Array(bytes), timeoutAt }))

// ---- whatever the bytes are

const entries: Readonly<Record<string, readonly [entry: Buffer, read: (bytes: Buffer) => unknown]>> = {
  turn: [encodeTurn(example.turn, 299).bytes, (entry) => decodeTurn(entry, "the entry 300-0 of kf:{q/s/0}:log")],
  outbox: [
    encodeOutbox({ revision: 300, previous: 298, outbox: example.outbox }),
    (entry) => decodeOutbox(entry, "the entry 300-0 of kf:{q/s/0}:outbox")
  ]
}

/** As a keyfold would have written it: what is wrong is not seen by the checksum. */
const sealed = (bytes: Buffer): Buffer => {
  bytes.writeUInt32LE(crc32(bytes.subarray(8), crc32(bytes.subarray(0, 4))), 4)
  return bytes
}

/** The code of what reading throws; "read" when it does not. */
const outcome = (read: () => unknown): string => {
  try {
    read()
    return "read"
  } catch (thrown) {
    if (!(thrown instanceof KeyfoldError)) throw thrown
    expect(thrown.message).toMatch(/^the entry 300-0 of kf:\{q\/s\/0\}:(log|outbox) /)
    return thrown.code
  }
}

describe.each(Object.keys(entries))("an entry of the kind %s", (kind) => {
  const [entry, read] = entries[kind] as (typeof entries)[string]

  test("that is cut off anywhere is damaged", () => {
    for (let size = 0; size < entry.length; size++) expect(outcome(() => read(entry.subarray(0, size)))).toBe("directory-damaged")
  })

  test("with any byte changed is damaged, or newer", () => {
    for (let at = 0; at < entry.length; at++) {
      for (const flip of [1, 0x80, 0xff]) {
        const changed = Buffer.from(entry)
        changed[at] = (changed[at] as number) ^ flip
        expect(outcome(() => read(changed))).toBe(at === 2 && (changed[2] as number) > 1 ? "format-newer" : "directory-damaged")
      }
    }
  })

  test("that goes on after its end is damaged", () => {
    expect(outcome(() => read(sealed(Buffer.concat([entry, Buffer.from([0])]))))).toBe("directory-damaged")
  })

  test("of the other kind is damaged", () => {
    const [other] = entries[kind === "turn" ? "outbox" : "turn"] as (typeof entries)[string]
    expect(outcome(() => read(other))).toBe("directory-damaged")
  })

  test("of a newer version is newer, whatever else it is", () => {
    expect(outcome(() => read(Buffer.from([0x6b, 0x66, 2, 9, 1, 2, 3, 4, 5])))).toBe("format-newer")
  })

  test("that claims more items than it has bytes for takes no memory for them", () => {
    // Symptom: entries of some twenty bytes took 256 MB each. Cause: avsc makes an array as long as the bytes say before it reads an item.
    const claimed = Buffer.from([0x80, 0x80, 0x80, 0x20]) // 2^25
    for (let at = 8; at < entry.length; at++) {
      const before = process.memoryUsage.rss()
      outcome(() => read(sealed(Buffer.concat([entry.subarray(0, at), claimed, entry.subarray(at)]))))
      expect(process.memoryUsage.rss() - before, `claimed at ${at}`).toBeLessThan(64 * 1_048_576)
    }
  })
})

test("a change with a branch of the union that is not known is newer: one entry of a map, say", () => {
  const [entry, read] = entries["turn"] as (typeof entries)[string]
  const changed = Buffer.from(entry)
  const at = changed.indexOf("ann") + 3 + 9
  expect(changed[at]).toBe(2) // a state, after a timeout
  changed[at] = 4
  expect(outcome(() => read(sealed(changed)))).toBe("format-newer")
})

test("changes that say more or less than there are states are damaged", () => {
  const [entry, read] = entries["turn"] as (typeof entries)[string]
  for (const size of [4, 1, 126]) {
    const changed = Buffer.from(entry)
    changed[changed.indexOf("ann") + 3 + 10] = size
    expect(outcome(() => read(sealed(changed)))).toBe("directory-damaged")
  }
})

test("a state that is no value of keyfold's is damaged or newer", () => {
  for (const [value, code] of [
    ["", "directory-damaged"],
    ["02", "directory-damaged"],
    ["0200000000", "directory-damaged"],
    ["00", "directory-damaged"],
    ["020000000000408f4037", "directory-damaged"],
    ["03000000000000f87f37", "directory-damaged"],
    ["04", "format-newer"],
    ["ff00", "format-newer"]
  ] as const) {
    expect(() => decodeValue("k", Buffer.from(value, "hex"), "it")).toThrow(expect.objectContaining({ code }))
  }
})
