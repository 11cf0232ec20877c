// Goal: stages chain with event time, keys and watermarks as the design says; routes, side outputs, custom sinks and unions do what they say.
// Method: small jobs in the harness; what a stage sees of the one before is put out, or shows in what it drops as late.
import { defineActor, explain, foreachTurn, job, stream, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly at: number
}
const row = (key: string, at: number): Row => ({ key, at })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })
const others = topic("others", { codec: json<Row>(), key: ({ key }) => key })
const texts = topic("texts", { codec: json<string>(), key: (text) => text })
const moreTexts = topic("more-texts", { codec: json<string>(), key: (text) => text })
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
    await kit.turn([row("at", 101), row("above", 101)])
    const turn = await kit.turn([row("tick", 500)])
    const first = await harness(definition).then((again) => again.turn([row("tick", 100)]).then(() => again.turn([row("at", 150), row("above", 150)])))
    // "at" fires at 100 under the watermark 100 of the second stage: late. "above" fires at 101: not late.
    expect([first.late, first.outputs]).toEqual([["at!"], ["above!"]])
    expect(turn.late.length + turn.outputs.length).toBe(1)
  })

  test("of a processing-time timeout is the watermark", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state, timeout: "processing-time" }, (key, events, group) => {
        if (!group.hasTimedOut) group.setTimeoutDuration(10)
        return [{ text: group.hasTimedOut ? `${key}!` : key, at: events.length }]
      })
      .withWatermark((_value, _info) => 1, 0)
      .groupByKey()
      .mapGroupsWithState({ state }, (_key, [first]) => first?.text)
      .to()
    await using own = await harness(definition)
    await own.turn([row("a", 100)])
    expect((await own.advanceTo(11)).outputs).toEqual(["a!"])

    const dropping = job("lab")
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
    await using kit = await harness(dropping)
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
    expect(await kit.turn([row("c", 151), row("b2", 100)])).toMatchObject({ outputs: ["c@100", "a!@101"], late: [{ who: "b", when: 100 }], watermark: 101 })
    await kit.restart()
    expect(kit.watermark).toBe(101)
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
      .mapGroupsWithState({ state }, (_key, [value]) => [value?.date instanceof Date, value?.map.get("a"), value !== undefined && "none" in value, value?.nan])
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

describe("where results go", () => {
  test("every sink gets every result, outputs has each once", async () => {
    const definition = job("lab").from(rows).groupByKey().mapGroupsWithState({ state }, (key) => key).to(texts, moreTexts)
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 1), row("b", 1)])
    expect([turn.outputs, turn.outputsOf(texts), turn.outputsOf(moreTexts)]).toEqual([["a", "b"], ["a", "b"], ["a", "b"]])
  })

  test("a route picks the sink of each result; one that is not declared fails the call", async () => {
    const secret = topic("secret", { codec: json<string>(), key: (text) => text })
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .to((key) => (key === "bad" ? secret : key < "m" ? texts : moreTexts), { routes: [texts, moreTexts] })
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 1), row("z", 1), row("bad", 1), row("b", 1)])
    expect([turn.outputs, turn.outputsOf(texts), turn.outputsOf(moreTexts)]).toEqual([["a", "z", "b"], ["a", "b"], ["z"]])
    expect(turn.dead).toMatchObject([{ key: "bad" }])
  })

  test("emitTo writes side outputs in order, with or without results", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state, emits: [texts, moreTexts] }, function* (key, events, _group, context) {
        for (const { at } of events) context.emitTo(at > 1 ? texts : moreTexts, `${key}${at}`)
        yield* []
      })
      .to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 3), row("a", 1), row("a", 2)])
    expect([turn.outputs, turn.outputsOf(texts), turn.outputsOf(moreTexts)]).toEqual([[], ["a3", "a2"], ["a1"]])
  })

  test("foreachTurn gets a turn's values after its commit, in order, and the same id when it is tried again", async () => {
    const writes: unknown[] = []
    let failures = 1
    const sink = foreachTurn<string>("warehouse", async (values, turn) => {
      writes.push([...values], turn)
      if (failures-- > 0) throw new Error("down")
    })
    const definition = job("lab").from(rows).groupByKey().mapGroupsWithState({ state }, (key) => key).to(sink, texts)
    await using kit = await harness(definition)
    const first = await kit.turn([row("b", 1), row("a", 1)])
    expect([first.outputs, first.outputsOf(texts)]).toEqual([["b", "a"], ["b", "a"]])
    await kit.turn([row("c", 1)])
    const [values, turn, again, turnAgain, next, turnNext] = writes
    expect([values, again, next, writes.length]).toEqual([["b", "a"], ["b", "a"], ["c"], 6])
    expect(turnAgain).toEqual(turn)
    expect(turn).toMatchObject({ partition: 0, id: expect.any(String) })
    expect((turnNext as { id: string }).id).not.toBe((turn as { id: string }).id)
  })
})

describe("sources", () => {
  test("a union has `through` on its own source only, and `from` says where events come from", async () => {
    const definition = job("lab")
      .from(rows, { through: (events) => events.filter(({ at }) => at > 1).map(({ key }) => ({ key, from: "rows" })) })
      .from(others, { through: (events) => events.flatMap(({ key }) => [{ key, from: "others" }, { key: "twice", from: "others" }]) })
      .groupByKey()
      .mapGroupsWithState({ state }, (key, events) => [key, ...events.map(({ from }) => from)])
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 1), row("b", 2)])).outputs).toEqual([["b", "rows"]])
    expect((await kit.turn([row("a", 1)], { from: others })).outputs).toEqual([["a", "others", "others"]])
    expect((await kit.turn([row("c", 2)], { from: rows })).outputs).toEqual([["c", "rows"]])
  })

  test("a foreign stream is grouped by a function", async () => {
    const foreign = stream({ stream: "LOGINS", subjects: ["logins.>"], codec: json<Row>() })
    const definition = job("lab").from(foreign).groupByKey(({ key }) => key).mapGroupsWithState({ state }, (key, events) => [key, events.length]).to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 1), row("a", 2)], { from: foreign })).outputs).toEqual([["a", 2]])
  })

  test("a job without state transforms and hands on, in order; a row that throws is a dead letter", async () => {
    const definition = job("lab")
      .from(rows)
      .filter(({ at }) => at > 0)
      .flatMap(({ key, at }) => Array.from({ length: at }, (_, index) => `${key}${index}`))
      .map((text) => {
        if (text === "bad0") throw new Error("no")
        return text.toUpperCase()
      })
      .to(texts)
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 2), row("none", 0), row("bad", 1), row("b", 1)])
    expect([turn.outputs, turn.outputsOf(texts)]).toEqual([["A0", "A1", "B0"], ["A0", "A1", "B0"]])
    expect(turn.dead).toMatchObject([{ code: "function-failed", value: row("bad", 1) }])
    expect([turn.updated, turn.removed, turn.watermark]).toEqual([[], [], undefined])
  })
})

describe("names", () => {
  const counted = defineActor({
    name: "counted",
    state: json<number>(),
    run: function* (key: string, events: readonly unknown[], group) {
      group.update((group.getOption() ?? 0) + events.length)
      yield key
    }
  })

  test("a stage is called by its `name`, else the actor's, else stage-1, stage-2", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .actor(counted)
      .groupByKey()
      .actor(counted, { name: "again" })
      .groupByKey()
      .mapGroupsWithState({ state, name: "mine" }, (key, _events, group) => {
        group.update(7)
        return key
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 1), row("a", 2)])).outputs).toEqual(["a"])
    expect([kit.state("a", "counted"), kit.state("a", "again"), kit.state("a", "mine"), kit.state("a")]).toEqual([2, 1, 7, 7])
    expect([kit.keys("counted"), kit.keys()]).toEqual([["a"], ["a"]])
  })

  test("stages without a name are stage-1, stage-2, also in dead letters", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key, _events, group) => {
        group.update(1)
        return key
      })
      .groupByKey()
      .mapGroupsWithState({ state }, (key, _events, group) => {
        if (key === "bad") throw new Error("no")
        group.update(2)
        return key
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 1), row("bad", 1)])).dead).toMatchObject([{ stage: "stage-2", key: "bad" }])
    expect([kit.state("a", "stage-1"), kit.state("a", "stage-2")]).toEqual([1, 2])
  })

  test("explain() names the job, every stage, every topic and sink", () => {
    const warehouse = foreachTurn<string>("warehouse", async () => undefined)
    const definition = job("the-job")
      .from(rows)
      .from(others)
      .withWatermark(({ at }) => at, "10 seconds", { late: topic("late-rows", { codec: json<Row>(), key: ({ key }) => key }) })
      .groupByKey(({ key }) => key)
      .flatMapGroupsWithState({ state, name: "first-stage", timeout: "event-time", emits: [moreTexts] }, (key) => [key])
      .groupByKey((key) => key.length)
      .actor(defineActor({ ...counted, name: "an-actor", run: function* (key: number) { yield String(key) } }))
      .to((text) => (text === "" ? warehouse : texts), { routes: [texts, warehouse] })
    const text = explain(definition)
    const names = ["the-job", "rows", "others", "late-rows", "first-stage", "more-texts", "an-actor", "texts", "warehouse", "the-job-dead"]
    for (const name of [...names, "event-time"]) expect(text).toMatch(new RegExp(`(?<![\\w-])${name}(?![\\w-])`))
  })
})
