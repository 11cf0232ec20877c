// Goal: results, side outputs, custom sinks, unions, stateless jobs, actors and names do what the design says ("Job").
// Method: small jobs in the harness; what reached each topic and sink is looked at from outside.
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
const state = json<number>()

describe("where results go", () => {
  test("every sink gets every result, outputs has each once", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .to(texts, moreTexts)
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 1), row("b", 1)])
    expect([turn.outputs, turn.outputsOf(texts), turn.outputsOf(moreTexts)]).toEqual([
      ["a", "b"],
      ["a", "b"],
      ["a", "b"]
    ])
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
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .to(sink, texts)
    await using kit = await harness(definition)
    const first = await kit.turn([row("b", 1), row("a", 1)])
    expect([first.outputs, first.outputsOf(texts)]).toEqual([
      ["b", "a"],
      ["b", "a"]
    ])
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
      .from(others, {
        through: (events) =>
          events.flatMap(({ key }) => [
            { key, from: "others" },
            { key: "twice", from: "others" }
          ])
      })
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
    const definition = job("lab")
      .from(foreign)
      .groupByKey(({ key }) => key)
      .mapGroupsWithState({ state }, (key, events) => [key, events.length])
      .to()
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
    expect([turn.outputs, turn.outputsOf(texts)]).toEqual([
      ["A0", "A1", "B0"],
      ["A0", "A1", "B0"]
    ])
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
      .actor(
        defineActor({
          name: "an-actor",
          state,
          run: function* (key: number) {
            yield String(key)
          }
        })
      )
      .to((text) => (text === "" ? warehouse : texts), { routes: [texts, warehouse] })
    const text = explain(definition)
    const names = ["the-job", "rows", "others", "late-rows", "first-stage", "more-texts", "an-actor", "texts", "warehouse", "the-job-dead"]
    for (const name of [...names, "event-time"]) expect(text).toMatch(new RegExp(`(?<![\\w-])${name}(?![\\w-])`))
  })
})
