// Goal: a function that throws leaves its key as it was, and the job goes on, stops or drops as it was told (G23).
// Method: rows that say how their call is to fail; what is left in states, outputs, side outputs and dead letters is looked at from outside.
import { type GroupState, type JobOptions, job, KeyfoldError, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly n: number
  readonly fails?: boolean
}
const row = (key: string, n = 0): Row => ({ key, n })
const failing = (key: string, n = 0): Row => ({ key, n, fails: true })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })
const side = topic("side", { codec: json<string>(), key: (text) => text })
const results = topic("results", { codec: json<unknown>(), key: () => "" })

interface Tally {
  readonly values: number[]
}

/** Collects values per key; a failing row throws after the state was changed in place, updated, and results were put out. */
const tally = (options?: JobOptions) =>
  job("lab", options)
    .from(rows)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<Tally>(), emits: [side] }, function* (key, events, state, context) {
      const held = state.getOption() ?? { values: [] }
      for (const { n, fails } of events) {
        held.values.push(n)
        context.emitTo(side, `${key}${n}`)
        yield `${key}${n}`
        if (fails === true) {
          state.update(held)
          throw new Error(`no ${n}`)
        }
      }
      state.update(held)
    })
    .to(results)

describe("the key", () => {
  test("is exactly as before the turn, though the object of get() was changed and update() was called (G23)", async () => {
    await using kit = await harness(tally())
    await kit.turn([row("a", 1)])
    const failed = await kit.turn([row("a", 2), failing("a", 3)])
    expect(kit.state("a")).toEqual({ values: [1] })
    expect(failed).toMatchObject({ updated: [], removed: [] })
    await kit.turn([row("a", 4)])
    expect(kit.state("a")).toEqual({ values: [1, 4] })
  })

  test("has no state when it had none (G23)", async () => {
    await using kit = await harness(tally())
    await kit.turn([failing("a", 1)])
    expect([kit.keys(), kit.state("a")]).toEqual([[], undefined])
    await kit.turn([row("a", 2)])
    expect(kit.state("a")).toEqual({ values: [2] })
  })

  test("keeps its timeout, and a state that the call had removed (G23)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (_key, events, state) => {
        if (state.hasTimedOut) return `timeout ${state.get()}`
        const [first] = events
        state.setTimeoutDuration(first?.fails === true ? 1_000 : 100)
        if (first?.fails !== true) state.update(first?.n ?? 0)
        else {
          state.remove()
          throw new Error("no")
        }
        return "data"
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 7)])
    await kit.turn([failing("a")], { now: 50 })
    expect(kit.state("a")).toBe(7)
    await kit.restart()
    expect((await kit.advanceTo(100)).outputs).toEqual([])
    expect((await kit.advanceTo(101)).outputs).toEqual(["timeout 7"])
    expect((await kit.advanceTo(5_000)).outputs).toEqual([])
  })

  test("fires its timeout, once and with its old state, when data that failed had come before it (G23, G10)", async () => {
    const calls: string[] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (_key, events, state) => {
        calls.push(state.hasTimedOut ? `timeout ${state.get()}` : `data ${events.length}`)
        if (events[0]?.fails === true) throw new Error("no")
        if (!state.hasTimedOut) {
          state.update(7)
          state.setTimeoutDuration(100)
        }
        return []
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a")])
    await kit.turn([failing("a")], { now: 200 })
    await kit.advanceTo(201)
    await kit.advanceTo(202)
    expect(calls).toEqual(["data 1", "data 1", "timeout 7"])
  })

  test("sees the last updated value after a change in place without update(), resident or not (G23)", async () => {
    const kept: number[][] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number[]>() }, (_key, events, state) => {
        const seen = [...(state.getOption() ?? [])]
        const [first] = events
        if (state.exists) state.get().push(99)
        for (const earlier of kept) earlier.push(98)
        if (first !== undefined && first.n > 0) {
          const next = [...seen, first.n]
          kept.push(next)
          state.update(next)
        }
        return seen
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 1)])
    expect((await kit.turn([row("a")])).outputs).toEqual([[1]])
    expect((await kit.turn([row("a", 2)])).outputs).toEqual([[1]])
    await kit.restart()
    expect((await kit.turn([row("a")])).outputs).toEqual([[1, 2]])
    expect(kit.state("a")).toEqual([1, 2])
  })
})

describe("dead letters", () => {
  test("hold the key's rows of the turn, one each, with the error; every other key goes on (G23)", async () => {
    await using kit = await harness(tally())
    const turn = await kit.turn([row("a", 1), row("b", 2), failing("a", 3), row("c", 4), row("a", 5)])
    const letter = { code: "function-failed", message: expect.stringContaining("no 3"), stage: "stage-1", key: "a" }
    expect(turn.dead).toMatchObject([
      { ...letter, value: row("a", 1) },
      { ...letter, value: failing("a", 3) },
      { ...letter, value: row("a", 5) }
    ])
    expect(turn.outputs).toEqual(["b2", "c4"])
    expect(turn.updated).toEqual(["b", "c"])
  })

  test("say where the row came from and keep its bytes", async () => {
    await using kit = await harness(tally())
    await kit.turn([row("x")])
    const { dead } = await kit.turn([failing("a", 1)])
    const text = JSON.stringify(dead)
    expect(dead).toHaveLength(1)
    expect(text).toContain('"rows"')
    expect(text).toContain(Buffer.from(rows.codec.encode(failing("a", 1))).toString("base64"))
    expect(text).toMatch(/"position":2\b/)
  })

  test("name a composite key by its value (G21)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey(({ key, n }) => ({ key, n }))
      .mapGroupsWithState({ state: json<number>() }, ({ key }) => {
        throw new Error(key)
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 1)])).dead).toMatchObject([{ key: { key: "a", n: 1 }, message: expect.stringContaining("a") }])
  })

  test("are those of the turn, and only written once", async () => {
    await using kit = await harness(tally())
    expect((await kit.turn([failing("a")])).dead).toHaveLength(1)
    await kit.restart()
    expect((await kit.turn([row("a")])).dead).toEqual([])
  })

  const thrown: readonly (readonly [what: string, value: unknown])[] = [
    ["a text", "no"],
    ["undefined", undefined],
    ["null", null],
    ["an object without prototype", Object.create(null)]
  ]
  test.each(thrown)("are written whatever was thrown: %s (G23)", async (_what, value) => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key) => {
        if (key === "bad") throw value
        return key
      })
      .to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row("bad"), row("good")])
    expect(turn.dead).toMatchObject([{ code: "function-failed", key: "bad" }])
    expect(turn.outputs).toEqual(["good"])
  })

  test("a record that the codec refuses is one, and what came with it goes on", async () => {
    const validate = (value: unknown): Row => {
      if ((value as Row).fails === true) throw new Error("refused by the schema")
      return value as Row
    }
    const strict = topic("strict", { codec: json<Row>({ validate }), key: ({ key }) => key })
    await using kit = await harness(
      job("lab")
        .from(strict)
        .groupByKey()
        .mapGroupsWithState({ state: json<number>() }, (key) => key)
        .to()
    )
    const turn = await kit.turn([row("a"), failing("b"), row("c")])
    expect(turn.outputs).toEqual(["a", "c"])
    expect(turn.dead).toMatchObject([{ code: "decode-failed", message: expect.stringContaining("refused by the schema") }])
  })

  test("an operator that throws before the stage gives one for its row, behind the stage it fails the call (G23)", async () => {
    const refuse = (when: boolean): void => {
      if (when) throw new Error("not this one")
    }
    const definition = job("lab")
      .from(rows)
      .map((event) => {
        refuse(event.n === 13)
        return event
      })
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key, events, state) => {
        state.update(events.length)
        return key
      })
      .map((key) => {
        refuse(key === "bad")
        return key
      })
      .to(results)
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 1), row("a", 13), row("bad", 1), row("bad", 2)])
    expect(turn.outputsOf(results)).toEqual(["a"])
    expect(turn.dead).toHaveLength(3)
    expect([kit.state("a"), kit.state("bad")]).toEqual([1, undefined])
  })
})

describe("what a failed call put out", () => {
  test("is discarded: yields and emitTo from before the throw; those of other keys stay (G23)", async () => {
    await using kit = await harness(tally())
    const turn = await kit.turn([row("a", 1), row("b", 2), failing("a", 3)])
    expect([turn.outputs, turn.outputsOf(results), turn.outputsOf(side)]).toEqual([["b2"], ["b2"], ["b2"]])
  })

  const refusals: readonly (readonly [what: string, run: (state: GroupState<unknown>) => unknown])[] = [
    ["a state that the codec refuses", (state) => state.update(Number.NaN)],
    ["a state within which it refuses something", (state) => state.update({ deep: [Number.POSITIVE_INFINITY] })],
    ["an output that the codec refuses", () => Number.NaN]
  ]
  test.each(refusals)("%s is a throw (G23)", async (_what, run) => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<unknown>(), emits: [side] }, function* (key, events, state, context) {
        yield `first of ${key}`
        context.emitTo(side, key)
        if (key === "bad" && events[0]?.fails === true) yield run(state) ?? "put out"
        else state.update("fine")
      })
      .to(results)
    await using kit = await harness(definition)
    await kit.turn([row("bad")])
    const turn = await kit.turn([failing("bad"), row("good")])
    expect(turn.dead).toMatchObject([{ code: "encode-failed", key: "bad", value: failing("bad") }])
    expect([turn.outputs, turn.outputsOf(results), turn.outputsOf(side)]).toEqual([["first of good"], ["first of good"], ["good"]])
    expect([turn.updated, kit.state("bad"), kit.state("good")]).toEqual([["good"], "fine", "fine"])
  })

  test("is discarded from every sink when the last of them refuses it (G23)", async () => {
    const numbers = topic("numbers", { codec: { ...json<unknown>(), encode: refuseTexts }, key: () => "" })
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (_key, [first], state) => {
        state.update(1)
        return first?.fails === true ? "text" : 1
      })
      .to(results, numbers)
    await using kit = await harness(definition)
    const turn = await kit.turn([failing("a"), row("b")])
    expect([turn.outputs, turn.outputsOf(results), turn.outputsOf(numbers)]).toEqual([[1], [1], [1]])
    expect([turn.dead.length, kit.keys()]).toEqual([1, ["b"]])
  })

  test("emitTo to a topic that is not among the stage's emits, or of a value that it refuses, is a throw (G23)", async () => {
    const other = topic("other", { codec: json<unknown>(), key: () => "" })
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), emits: [side, results] }, (key, _events, _state, context) => {
        if (key === "undeclared") context.emitTo(other, 1)
        if (key === "refused") context.emitTo(results, Number.NaN)
        context.emitTo(side, key)
        return key
      })
      .to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row("undeclared"), row("refused"), row("good")])
    expect(turn.dead.map(({ key }) => key)).toEqual(["undeclared", "refused"])
    expect([turn.outputs, turn.outputsOf(side), turn.outputsOf(results)]).toEqual([["good"], ["good"], []])
  })

  const answers: readonly (readonly [what: string, answer: unknown])[] = [
    ["a promise", Promise.resolve(1)],
    ["nothing to iterate", undefined],
    ["an async iterable", (async function* () {})()]
  ]
  test.each(answers)("a function that answers %s fails its call: it must be synchronous (G23)", async (what, answer) => {
    const grouped = job("lab").from(rows).groupByKey()
    const run = (key: string, _events: readonly Row[], state: GroupState<number>): never => {
      state.update(1)
      return (key === "bad" ? answer : what === "a promise" ? 1 : []) as never
    }
    const state = json<number>()
    const definition =
      what === "a promise" ? grouped.mapGroupsWithState({ state }, run).to() : grouped.flatMapGroupsWithState({ state }, run).to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row("bad"), row("good")])
    expect([turn.dead.length, kit.keys()]).toEqual([1, ["good"]])
  })
})

const refuseTexts = (value: unknown): Uint8Array => {
  if (typeof value === "string") throw new TypeError("no texts")
  return json<unknown>().encode(value)
}

test("KeyfoldError is what stops a turn, with its code (G23)", async () => {
  await using kit = await harness(tally({ onError: "stop" }))
  const error: unknown = await kit.turn([failing("a", 3)]).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(KeyfoldError)
  expect(error).toMatchObject({ code: "function-failed", message: expect.stringContaining("no 3") })
})
