// Goal: stages chain with event time, watermarks and keys as the design says ("Event time after a stage").
// Method: small jobs in the harness; what a stage sees of the one before is put out, or shows in what it drops as late.
import * as Effect from "effect/Effect"
import { job, publisher, read, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness, memory } from "keyfold/testing"
import { describe, expect, test } from "vitest"
import { connectorOf } from "../../src/ports.ts"

interface Row {
  readonly key: string
  readonly at: number
}
const row = (key: string, at: number): Row => ({ key, at })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })
const lateTexts = topic("late-texts", { codec: json<{ who: string; when: number }>(), key: ({ who }) => who })
const state = json<number>()

describe("event time after a stage", () => {
  test("is the largest event time of the call's rows: the next stage drops the others as late", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state }, (key, events) => [`${key}:${events.map(({ at }) => at).join()}`])
      .groupByKey()
      .mapGroupsWithState({ state, late: "drop" }, (_key, [text], group) => `${text}@${group.getCurrentWatermarkMs()}`)
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 100)])).outputs).toEqual(["a:100@0"])
    const turn = await kit.turn([row("a", 50), row("b", 90), row("a", 120), row("c", 100), row("d", 101), row("a", 110)])
    expect(turn.outputs).toEqual(["a:50,120,110@100", "d:101@100"])
    expect(turn.late).toEqual(["b:90", "c:100"])
  })

  test("of an event-time timeout is its timeoutAt", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state, timeout: "event-time" }, (key, _events, group) => {
        if (group.hasTimedOut) return [`${key}!`]
        if (key !== "tick") group.setTimeoutTimestamp(key === "at" ? 100 : 101)
        return []
      })
      .groupByKey()
      .mapGroupsWithState({ state, late: "drop" }, (_key, events) => events.join())
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("tick", 100)])
    // Both fire in the follow-up, under the watermark 100 of the second stage: at it is late, above it is not.
    const turn = await kit.turn([row("at", 150), row("above", 150)])
    expect([turn.late, turn.outputs]).toEqual([["at!"], ["above!"]])
  })

  test("of a processing-time timeout is the watermark", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state, timeout: "processing-time" }, (key, _events, group) => {
        if (!group.hasTimedOut) group.setTimeoutDuration(10)
        return [group.hasTimedOut ? `${key}!` : key]
      })
      .groupByKey()
      .mapGroupsWithState({ state, late: "drop" }, (_key, [text]) => text)
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 100)])).outputs).toEqual(["a"])
    // At the watermark is late (W3), and that of both stages is 100.
    expect(await kit.advanceTo(11)).toMatchObject({ late: ["a!"], outputs: [] })
  })

  test("map, filter and flatMap between stages keep it", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state }, (key, events) => events.map(() => key))
      .map((key) => `${key}${key}`)
      .filter((text) => text !== "xx")
      .flatMap((text) => [text, text])
      .groupByKey((text) => text)
      .mapGroupsWithState({ state, late: "drop" }, (text, events) => `${text}${events.length}`)
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 100)])
    expect(await kit.turn([row("b", 100), row("c", 101), row("x", 300)])).toMatchObject({ outputs: ["cc2"], late: ["bb", "bb"] })
  })
})

describe("watermarks after a stage", () => {
  test("follow the outputs of the turn that moved them (W5)", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .mapGroupsWithState({ state, timeout: "event-time" }, (key, [first], group) => {
        if (first !== undefined && first.at > group.getCurrentWatermarkMs()) group.setTimeoutTimestamp(first.at)
        return { key, first: `${key}${group.hasTimedOut ? "!" : ""}@${group.getCurrentWatermarkMs()}` }
      })
      .groupByKey(({ key }) => key)
      .mapGroupsWithState({ state }, (_key, events, group) => `${events.map(({ first }) => first).join()}|${group.getCurrentWatermarkMs()}`)
      .to()
    await using kit = await harness(definition)
    const first = await kit.turn([row("a", 100), row("b", 200)])
    // Both the data call of "a" and its timeout, in the follow-up, come before the watermark 200 does.
    expect([first.outputs, first.watermark]).toEqual([["a@0,a!@200|0", "b@0|0"], 200])
    expect((await kit.turn([row("c", 300)])).outputs).toEqual(["c@200|200", "b!@300|200"])
  })

  test("are told again by who takes a partition over: nobody knows what the one before has told (P24)", async () => {
    const runtime = memory()
    const single = topic("single", { codec: json<Row>(), key: ({ key }) => key, partitions: 1 })
    const definition = job("told")
      .from(single)
      .withWatermark(({ at }) => at, 0)
      .groupByKey(({ key }) => key)
      .flatMapGroupsWithState({ state, name: "second" }, () => [])
      .to()
    const runOnce = async (): Promise<number> => {
      const query = await start(definition, { runtime, trigger: "available-now" })
      await query.awaitTermination()
      const { source } = await Effect.runPromise(Effect.scoped(connectorOf(runtime).client))
      return Effect.runPromise(source.lastPosition({ topic: "told~second", partition: 0 }))
    }
    await using out = await publisher(runtime, single)
    await out.send(row("a", 100))
    const told = await runOnce()
    expect(told).toBeGreaterThan(0)
    expect(await runOnce()).toBe(told + 1)
  })

  test("come after what the follow-ups of that turn put out, however the next stage cuts the log (W5, W2)", async () => {
    const single = topic("single", { codec: json<Row>(), key: ({ key }) => key, partitions: 1 })
    const seen = topic("seen", { codec: json<string>(), key: () => "", partitions: 1 })
    const definition = job("lab")
      .from(single)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state, timeout: "event-time" }, (key, [first], group) => {
        if (first !== undefined && key !== "tick") group.setTimeoutTimestamp(150)
        return [`${key}${group.hasTimedOut ? "!" : ""}`]
      })
      .groupByKey((text) => text)
      .mapGroupsWithState({ state, late: "drop" }, (text) => text)
      .to(seen)
    const runtime = memory()
    await using events = await publisher(runtime, single)
    for (const event of [row("a", 100), row("b", 101), row("tick", 200)]) await events.send(event)
    await events.flush()
    await using query = await start(definition, { runtime, trigger: "available-now", limits: { turnEventsMax: 1 } })
    await query.awaitTermination()
    const values: string[] = []
    for await (const { value } of read(runtime, seen)) values.push(value)
    expect(values).toEqual(["a", "b", "tick", "a!", "b!"])
  })

  test("a later event-time stage declares its own, with its own delay, over the results", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .mapGroupsWithState({ state }, (key, [first]) => ({ who: key.slice(0, 1), when: first?.at ?? 0 }))
      .withWatermark(({ when }) => when, 50)
      .groupByKey(({ who }) => who)
      .mapGroupsWithState({ state, timeout: "event-time" }, (who, events, group) => {
        if (!group.hasTimedOut) group.setTimeoutTimestamp(Math.max(...events.map(({ when }) => when)))
        return `${who}${group.hasTimedOut ? "!" : ""}@${group.getCurrentWatermarkMs()}`
      })
      .to()
    await using kit = await harness(definition)
    expect(await kit.turn([row("a", 100)])).toMatchObject({ outputs: ["a@0"], watermark: 50 })
    expect(await kit.turn([row("b", 150)])).toMatchObject({ outputs: ["b@50"], watermark: 100 })
    expect(await kit.turn([row("c", 151), row("b2", 100)])).toMatchObject({
      outputs: ["c@100", "a!@101"],
      late: [{ who: "b", when: 100 }],
      watermark: 101
    })
    await kit.restart()
    expect(kit.watermark).toBe(101)
  })

  test("a result that a filter behind its withWatermark takes out has been seen (W1)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state }, (_key, events) => events)
      .withWatermark(({ at }) => at, 0)
      .filter(({ key }) => key !== "heartbeat")
      .groupByKey()
      .mapGroupsWithState({ state, timeout: "event-time" }, (key, [first], group) => {
        if (first !== undefined) group.setTimeoutTimestamp(first.at)
        return `${key}${group.hasTimedOut ? "!" : ""}`
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 100)])).outputs).toEqual(["a"])
    expect(await kit.turn([row("heartbeat", 900)])).toMatchObject({ outputs: ["a!"], watermark: 900 })
  })

  test("a result without a usable event time fails the call that put it out (W8, G23)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key, [first], group) => {
        group.update(1)
        return { key, at: key === "bad" ? Number.NaN : (first?.at ?? 0) }
      })
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .to()
    await using kit = await harness(definition)
    expect(await kit.turn([row("bad", 900), row("a", 100)])).toMatchObject({
      outputs: ["a"],
      watermark: 100,
      dead: [{ key: "bad", stage: "stage-1" }]
    })
    expect(kit.keys("stage-1")).toEqual(["a"])
  })

  test("a later stage's late rows reach its own late topic (W3)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key, [first]) => ({ who: key, when: first?.at ?? 0 }))
      .withWatermark(({ when }) => when, 0, { late: lateTexts })
      .groupByKey(({ who }) => who)
      .mapGroupsWithState({ state, timeout: "event-time" }, (who) => who)
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 1_000)])
    const turn = await kit.turn([row("b", 7)])
    expect(turn.late).toEqual([{ who: "b", when: 7 }])
    expect(turn.outputsOf(lateTexts)).toEqual([{ who: "b", when: 7 }])
  })
})

describe("grouping after a stage", () => {
  test("groupByKey() keeps the key, a composite one too (G21)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey(({ key, at }) => [key, at])
      .flatMapGroupsWithState({ state }, (_key, events) => events.map(() => "x"))
      .groupByKey()
      .mapGroupsWithState({ state }, ([key, at], events, group) => {
        group.update((group.getOption() ?? 0) + events.length)
        return [key, at, group.get()]
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 1), row("a", 2), row("a", 1)])
    expect((await kit.turn([row("a", 1), row("a", 2)])).outputs).toEqual([
      ["a", 1, 3],
      ["a", 2, 2]
    ])
    expect(kit.state(["a", 1])).toBe(3)
  })

  test("values between two stages arrive as they left: dates, maps, undefined", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, () => ({ date: new Date(5), map: new Map([["a", 1]]), none: undefined, nan: Number.NaN }))
      .groupByKey()
      .mapGroupsWithState({ state }, (_key, [value]) => [
        value?.date instanceof Date,
        value?.map.get("a"),
        value !== undefined && "none" in value,
        value?.nan
      ])
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 1)])).outputs).toEqual([[true, 1, true, Number.NaN]])
  })

  test("a value that cannot travel fails the call that put it out (G23)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => (key === "bad" ? () => 1 : key))
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .to()
    await using kit = await harness(definition)
    expect(await kit.turn([row("bad", 1), row("good", 1)])).toMatchObject({ outputs: ["good"], dead: [{ key: "bad", stage: "stage-1" }] })
  })
})
