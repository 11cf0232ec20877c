// Goal: what an older schema wrote is read as the new one, in messages and in the journal, or refused before anything is read.
// Method: rows of resolutions and refusals, and two versions of one job over the same journal.
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { job, KeyfoldError, publisher, type Runtime, read, start, topic } from "keyfold"
import { type AvroSchema, avro } from "keyfold/codecs/avro"
import { embedded } from "keyfold/embedded"
import { harness, memory } from "keyfold/testing"
import { afterAll, describe, expect, test } from "vitest"
import { any, record, thrownBy } from "../fixtures/avro-codecs.ts"

describe("an older schema", () => {
  const v1 = record("Payment", { name: "card", type: "string" }, { name: "amount", type: "int" }, { name: "shop", type: "string" })
  const v2 = record(
    "Payment",
    { name: "at", type: "long", default: -1 },
    { name: "amount", type: "double" },
    { name: "account", aliases: ["card"], type: "string" },
    { name: "tags", type: { type: "array", items: "string" }, default: ["none"] }
  )

  test("is read as the new one: default, promotion, alias, a field dropped, our order", () => {
    const decoded = any(v2, { older: [v1] }).decode(any(v1).encode({ card: "c", amount: 5, shop: "s" }))
    assert.deepStrictEqual(decoded, { at: -1, amount: 5, account: "c", tags: ["none"] })
    expect(Object.keys(decoded as object)).toEqual(["at", "amount", "account", "tags"])
  })

  test("gives every value a default of its own", () => {
    const codec = any(v2, { older: [v1] })
    const bytes = any(v1).encode({ card: "c", amount: 5, shop: "s" })
    const [one, two] = [codec.decode(bytes), codec.decode(bytes)] as { readonly tags: string[] }[]
    one?.tags.push("mine")
    expect(two?.tags).toEqual(["none"])
  })

  const resolved: readonly (readonly [what: string, older: AvroSchema, value: unknown, newer: AvroSchema, read: unknown])[] = [
    ["int to long", "int", 5, "long", 5],
    ["int to float", "int", 2 ** 24 + 1, "float", 2 ** 24],
    ["long to double", "long", 2 ** 40, "double", 2 ** 40],
    ["float to double", "float", 0.5, "double", 0.5],
    ["bytes to string", "bytes", new Uint8Array(Buffer.from("é")), "string", "é"],
    ["string to bytes", "string", "a", "bytes", Uint8Array.of(97)],
    ["a value to a union", "int", 5, ["null", "int"], 5],
    ["a union to a value", ["int", "long"], { long: 5 }, "double", 5],
    ["a union to a larger one, each branch its own", ["int", "double"], { int: 5 }, ["double", "int", "string"], { int: 5 }],
    [
      "a symbol that is gone",
      { type: "enum", name: "E", symbols: ["A", "B"] },
      "B",
      { type: "enum", name: "E", symbols: ["A"], default: "A" },
      "A"
    ],
    [
      "another namespace",
      { type: "fixed", name: "a.F", size: 1 },
      Uint8Array.of(1),
      { type: "fixed", name: "b.F", size: 1 },
      Uint8Array.of(1)
    ],
    [
      "another name, by alias",
      record("Old", { name: "a", type: "int" }),
      { a: 1 },
      { type: "record", name: "New", aliases: ["Old"], fields: [{ name: "a", type: "int" }] },
      { a: 1 }
    ],
    [
      "a schema within itself",
      record("N", { name: "v", type: "int" }, { name: "next", type: ["null", "N"] }),
      { v: 1, next: { v: 2, next: null } },
      record("N", { name: "next", type: ["null", "N"] }, { name: "v", type: "long" }, { name: "w", type: "int", default: 0 }),
      { next: { next: null, v: 2, w: 0 }, v: 1, w: 0 }
    ]
  ]
  test.each(resolved)("%s", (_, older, value, newer, read) => {
    assert.deepStrictEqual(any(newer, { older: [older] }).decode(any(older).encode(value)), read)
  })

  const refused: readonly (readonly [what: string, older: AvroSchema, newer: AvroSchema, message: string])[] = [
    [
      "a new field without a default",
      v1,
      record("Payment", { name: "at", type: "long" }),
      "the older schema does not have it, and it has no default, at /at"
    ],
    ["a narrower type", "long", "int", '"long" cannot be read as "int"'],
    [
      "another type within",
      record("R", { name: "a", type: { type: "array", items: "string" } }),
      record("R", { name: "a", type: { type: "array", items: "int" } }),
      '"string" cannot be read as "int", at /a/items'
    ],
    ["another name", record("Old"), record("New"), 'give New the alias "Old"'],
    [
      "a symbol without a default",
      { type: "enum", name: "E", symbols: ["A", "B"] },
      { type: "enum", name: "E", symbols: ["A"] },
      "E has no symbol B and no default"
    ],
    ["another size", { type: "fixed", name: "F", size: 1 }, { type: "fixed", name: "F", size: 2 }, "F has 1 bytes and is wanted with 2"],
    ["a branch that does not fit", ["null", "string"], "string", '"null" cannot be read as "string"'],
    ["no branch that fits", "string", ["null", "int"], '"string" fits no branch of the union'],
    [
      "two fields from one",
      v1,
      record("Payment", { name: "a", aliases: ["card"], type: "string" }, { name: "b", aliases: ["card"], type: "string" }),
      "two fields of Payment are read from Payment's field card"
    ]
  ]
  test.each(refused)("%s is refused when the codec is made", (_, older, newer, message) => {
    const thrown = thrownBy(() => any(newer, { older: [older] })) as KeyfoldError
    expect([thrown instanceof KeyfoldError, thrown.code]).toEqual([true, "schema-incompatible"])
    expect(thrown.message).toContain(message)
    expect(thrown.message).toContain(any(older).fingerprint)
    expect(thrown.message).toContain("Give a new field a default")
  })

  test("that is not listed is named, with those that are and the cure", () => {
    const thrown = thrownBy(() => any(v2).decode(any(v1).encode({ card: "c", amount: 5, shop: "s" }))) as KeyfoldError
    expect(thrown.code).toBe("schema-incompatible")
    expect(thrown.message).toContain(`written with the Avro schema ${any(v1).fingerprint}, and the codec knows ${any(v2).fingerprint}.`)
    expect(thrown.message).toContain("avro(schema, { older: [...] })")
  })
})

describe("state in Avro", () => {
  interface Event {
    readonly card: string
    readonly amount: number
  }
  const eventSchema = record("Event", { name: "card", type: "string" }, { name: "amount", type: "double" })
  const events = topic("events", { codec: avro<Event>(eventSchema), key: (event) => event.card, partitions: 1 })
  const sumV1 = record("Sum", { name: "total", type: "int" })
  const sumV2 = record("Sum", { name: "sum", aliases: ["total"], type: "double" }, { name: "count", type: "int", default: 0 })
  const sums = topic("sums", {
    codec: avro<{ card: string; sum: number }>(record("Out", { name: "card", type: "string" }, { name: "sum", type: "double" })),
    key: ({ card }) => card,
    partitions: 1
  })

  const first = job("sums")
    .from(events)
    .groupByKey()
    .mapGroupsWithState({ state: avro<{ total: number }>(sumV1) }, (card, rows, state) => {
      const total = rows.reduce((sum, { amount }) => sum + amount, state.getOption()?.total ?? 0)
      state.update({ total })
      return { card, sum: total }
    })
    .to(sums)

  const second = (older: readonly AvroSchema[]) =>
    job("sums")
      .from(events)
      .groupByKey()
      .mapGroupsWithState({ state: avro<{ sum: number; count: number }>(sumV2, { older }) }, (card, rows, state) => {
        const before = state.getOption() ?? { sum: 0, count: 0 }
        const after = { sum: rows.reduce((sum, { amount }) => sum + amount, before.sum), count: before.count + rows.length }
        state.update(after)
        return { card, sum: after.sum }
      })
      .to(sums)

  const publish = async (runtime: Runtime, ...sent: readonly Event[]): Promise<void> => {
    await using out = await publisher(runtime, events)
    for (const event of sent) void out.send(event)
    await out.flush()
  }
  const run = async (runtime: Runtime, which: typeof first | ReturnType<typeof second>) => {
    const query = await start(which, { runtime, trigger: "available-now" })
    await query.awaitTermination()
  }

  const directory = mkdtempSync(join(tmpdir(), "keyfold-avro-"))
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  test.each([
    ["memory", () => memory()],
    ["embedded", () => embedded(directory)]
  ] as const)("J8 %s: a journal of the older schema is opened by the codec that lists it, and by no other", async (_, make) => {
    const runtime = make()
    await publish(runtime, { card: "a", amount: 2 }, { card: "b", amount: 3 })
    await run(runtime, first)
    await expect(run(runtime, second([]))).rejects.toMatchObject({
      code: "schema-incompatible",
      message: expect.stringContaining(any(sumV1).fingerprint)
    })
    await publish(runtime, { card: "a", amount: 0.5 })
    await run(runtime, second([sumV1]))
    // b is stored in the older schema still: a codec that has forgotten it would fail on it, and is refused.
    await expect(run(runtime, second([]))).rejects.toMatchObject({ code: "schema-incompatible" })
    await expect(run(runtime, first)).rejects.toMatchObject({ code: "schema-incompatible" })
    await publish(runtime, { card: "b", amount: 0.25 })
    await run(runtime, second([sumV1]))
    const outputs = []
    for await (const { value } of read(runtime, sums)) outputs.push(value)
    expect(outputs).toEqual([
      { card: "a", sum: 2 },
      { card: "b", sum: 3 },
      { card: "a", sum: 2.5 },
      { card: "b", sum: 3.25 }
    ])
  })

  test("a state that the schema cannot hold fails the call (encode-failed) and leaves the key as it was", async () => {
    await using bench = await harness(first)
    await bench.turn([{ card: "a", amount: 2 }])
    const { dead, outputs } = await bench.turn([
      { card: "a", amount: 0.5 },
      { card: "b", amount: 1 }
    ])
    expect(dead).toMatchObject([
      { code: "encode-failed", message: expect.stringContaining("expected an int (an integer of 32 bits), got a fraction, at /total") }
    ])
    expect([outputs, bench.state("a")]).toEqual([[{ card: "b", sum: 1 }], { total: 2 }])
  })

  test("an event of an unknown schema is a dead letter that names it", async () => {
    const runtime = memory()
    const foreign = topic("events", {
      codec: avro<{ card: string }>(record("Other", { name: "card", type: "string" })),
      key: ({ card }) => card,
      partitions: 1
    })
    await using out = await publisher(runtime, foreign)
    await out.send({ card: "a" })
    const query = await start(
      job("stopping", { onError: "stop" })
        .from(events)
        .groupByKey()
        .mapGroupsWithState({ state: avro<{ total: number }>(sumV1) }, () => 1)
        .to(),
      { runtime, trigger: "available-now" }
    )
    await expect(query.awaitTermination()).rejects.toThrow("List the schema that wrote it")
  })
})
