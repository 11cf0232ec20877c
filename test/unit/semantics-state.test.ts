// Goal: a state function finds Spark's GroupState: when it is called, what its state is, what becomes of its outputs (G1-G5, G9, G16-G19).
// Method: each rule by the smallest job that would show it broken, in the harness; the state alone where the job adds nothing.
import { explain, job, KeyfoldError, type TimeoutKind, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { groupState, harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly at: number
  readonly n: number
}
const row = (key: string, n = 0, at = 1): Row => ({ key, at, n })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })
const results = topic("results", { codec: json<number>(), key: () => "" })

const codeOf = (run: () => unknown): string => {
  try {
    run()
  } catch (thrown) {
    if (thrown instanceof KeyfoldError) return thrown.code
    throw thrown
  }
  return "nothing was thrown"
}

/** A job that notes its calls as "key(values)" and keeps the sum of all values. */
const summing = (calls: string[]) =>
  job("lab")
    .from(rows)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>() }, (key, events, state) => {
      calls.push(`${key}(${events.map(({ n }) => n).join()})${state.exists ? `=${state.get()}` : ""}`)
      if (events.length > 0) state.update(events.reduce((sum, { n }) => sum + n, state.getOption() ?? 0))
      return []
    })
    .to()

describe("calls", () => {
  test("a key is called once a turn, with all of its values in log order; keys in the order of their first row (G1)", async () => {
    const calls: string[] = []
    await using kit = await harness(summing(calls))
    await kit.turn([row("b", 1), row("a", 2), row("b", 3), row("c", 4), row("a", 5), row("b", 6)])
    expect(calls).toEqual(["b(1,3,6)", "a(2,5)", "c(4)"])
  })

  test("a key without data and without a due timeout is not called (G1)", async () => {
    const calls: string[] = []
    await using kit = await harness(summing(calls))
    await kit.turn([row("a", 1), row("b", 2)])
    calls.length = 0
    await kit.turn([row("b", 3)])
    await kit.turn([])
    await kit.advanceTo(1_000_000)
    expect(calls).toEqual(["b(3)=2"])
  })

  test("a data call has values and hasTimedOut = false, a timeout call has none and true (G9)", async () => {
    const calls: unknown[] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (_key, events, state) => {
        calls.push([events.length, state.hasTimedOut])
        if (!state.hasTimedOut) state.setTimeoutDuration(1)
        return []
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a"), row("a")])
    await kit.advanceTo(2)
    expect(calls).toEqual([
      [2, false],
      [0, true]
    ])
  })

  test("all keys of a turn see one clock and one watermark, both from before the turn's own rows (G2)", async () => {
    const seen: unknown[] = []
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key, _events, state) => {
        seen.push([key, state.getCurrentProcessingTimeMs(), state.getCurrentWatermarkMs()])
        return 0
      })
      .to()
    await using kit = await harness(definition)
    const first = await kit.turn([row("a", 0, 500), row("b", 0, 900), row("c", 0, 700)], { now: 42 })
    expect(seen).toEqual([
      ["a", 42, 0],
      ["b", 42, 0],
      ["c", 42, 0]
    ])
    expect(first.watermark).toBe(900)
    seen.length = 0
    await kit.turn([row("c", 0, 2_000), row("a", 0, 1_000)], { now: 43 })
    expect(seen).toEqual([
      ["c", 43, 900],
      ["a", 43, 900]
    ])
  })
})

describe("states", () => {
  test("the state has Spark's names, spelled like Spark's (G3)", () => {
    const state = groupState<number>({ timeout: "processing-time", watermark: 0 }) as unknown as Record<string, unknown>
    const methods = ["get", "getOption", "update", "remove", "setTimeoutDuration", "setTimeoutTimestamp"]
    for (const name of [...methods, "getCurrentWatermarkMs", "getCurrentProcessingTimeMs"])
      expect(typeof state[name], name).toBe("function")
    for (const name of ["exists", "hasTimedOut"]) expect(typeof state[name], name).toBe("boolean")
  })

  test.each([[0], [""], [false], [[]], [{}]])("%j is a state like any other (G4)", async (value) => {
    const state = groupState<unknown>()
    expect(state.exists).toBe(false)
    state.update(value)
    expect([state.exists, state.get(), state.getOption()]).toEqual([true, value, value])

    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<unknown>() }, (_key, _events, kept) => {
        const found = kept.exists ? [kept.get(), kept.getOption()] : "none"
        kept.update(value)
        return found
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a")])).outputs).toEqual(["none"])
    expect(kit.state("a")).toEqual(value)
    expect(kit.keys()).toEqual(["a"])
    await kit.restart()
    expect((await kit.turn([row("a")])).outputs).toEqual([[value, value]])
  })

  test.each([[null], [undefined]])("update(%s) is refused and changes nothing (G4)", (nothing) => {
    const held = groupState<unknown>({ value: 7 })
    expect(codeOf(() => held.update(nothing))).toBe("illegal-argument")
    expect([held.exists, held.get(), held.updated, held.removed]).toEqual([true, 7, false, false])
    const none = groupState<unknown>()
    expect(codeOf(() => none.update(nothing))).toBe("illegal-argument")
    expect([none.exists, none.getOption(), none.updated]).toEqual([false, undefined, false])
    const updated = groupState<unknown>({ value: 7 })
    updated.update(8)
    expect(codeOf(() => updated.update(nothing))).toBe("illegal-argument")
    expect([updated.get(), updated.updated]).toEqual([8, true])
  })

  test("a refused update that the function catches leaves the state of the key as it was (G4)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (_key, events, state) => {
        if (state.exists) codeOf(() => state.update((events.length > 1 ? null : undefined) as never))
        else state.update(0)
        return state.get()
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a")])
    expect(await kit.turn([row("a")])).toMatchObject({ outputs: [0], updated: [], dead: [] })
    expect(await kit.turn([row("a"), row("a")])).toMatchObject({ outputs: [0], updated: [], dead: [] })
    expect(kit.state("a")).toBe(0)
  })

  test("get() without a state throws no-state, getOption() answers undefined, before any update and after remove (G4)", () => {
    const state = groupState<number>()
    expect([codeOf(() => state.get()), state.getOption()]).toEqual(["no-state", undefined])
    state.update(1)
    state.remove()
    expect([codeOf(() => state.get()), state.getOption(), state.exists]).toEqual(["no-state", undefined, false])
  })

  test("remove() then update() defines the state again (G5)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (_key, events, state) => {
        state.remove()
        state.update(events[0]?.n ?? -1)
        return state.get()
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 1)])
    expect(await kit.turn([row("a", 2)])).toMatchObject({ outputs: [2], updated: ["a"], removed: [] })
    expect(kit.state("a")).toBe(2)
  })

  test("removing a state that never was is legal, and removes nothing (G5)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (_key, _events, state) => {
        state.remove()
        return state.exists
      })
      .to()
    await using kit = await harness(definition)
    expect(await kit.turn([row("a")])).toMatchObject({ outputs: [false], updated: [], removed: [], dead: [] })
    expect(kit.keys()).toEqual([])
  })

  const kinds: readonly TimeoutKind[] = ["none", "processing-time", "event-time"]
  test.each(kinds)("getCurrentWatermarkMs() works whenever the query has a watermark, with timeout %s (G16)", async (timeout) => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, "1 second")
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout }, (_key, _events, state) => state.getCurrentWatermarkMs())
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 0, 5_000)])).outputs).toEqual([0])
    expect((await kit.turn([row("a", 0, 6_000)])).outputs).toEqual([4_000])
    expect(groupState({ timeout, watermark: 9 }).getCurrentWatermarkMs()).toBe(9)
  })

  test("getCurrentWatermarkMs() fails when the query has no watermark (G16)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (_key, _events, state) =>
        codeOf(() => state.getCurrentWatermarkMs())
      )
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a")])).outputs).toEqual(["unsupported-operation"])
    expect(codeOf(() => groupState().getCurrentWatermarkMs())).toBe("unsupported-operation")
  })
})

describe("outputs", () => {
  test("what a generator does to the state while it is drained counts, after its last yield too (G17)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, function* (_key, _events, state) {
        if (state.hasTimedOut) return
        for (let n = 1; n <= 3; n++) {
          state.update(n)
          yield state.get()
        }
        state.update(4)
        state.setTimeoutDuration(10)
      })
      .to(results)
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a")])
    expect(turn.outputs).toEqual([1, 2, 3])
    expect(turn.outputsOf(results)).toEqual([1, 2, 3])
    expect(kit.state("a")).toBe(4)
  })

  test("each output is taken when it is yielded: an object used again afterwards does not change it (G17)", async () => {
    const lists = topic("lists", { codec: json<number[]>(), key: () => "" })
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, function* (_key, events) {
        const list: number[] = []
        for (const { n } of events) {
          list.push(n)
          yield list
        }
      })
      .to(lists)
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 1), row("a", 2)])
    expect(turn.outputsOf(lists)).toEqual([[1], [1, 2]])
    expect(turn.outputs).toEqual([[1], [1, 2]])
  })

  test("mapGroupsWithState gives exactly one output per call, timeout calls too (G18)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (key, events, state) => {
        if (!state.hasTimedOut) state.setTimeoutDuration(5)
        return state.hasTimedOut ? `${key}!` : [key, ...events.map(({ n }) => n)]
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a", 1), row("b", 2), row("a", 3)])).outputs).toEqual([
      ["a", 1, 3],
      ["b", 2]
    ])
    expect((await kit.advanceTo(6)).outputs).toEqual(["a!", "b!"])
  })

  test("flatMapGroupsWithState gives zero or more outputs, in the order yielded (G18)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, (_key, events) =>
        events.flatMap(({ n }) => Array.from({ length: n }, (_, i) => n * 10 + i))
      )
      .to(results)
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 3), row("b", 0), row("c", 1), row("a", 2)])
    expect(turn.outputs).toEqual([30, 31, 32, 20, 21, 10])
    expect(turn.outputsOf(results)).toEqual(turn.outputs)
  })

  test("mapGroupsWithState is in update mode; flatMapGroupsWithState in append mode unless told otherwise (G19)", () => {
    const grouped = job("lab").from(rows).groupByKey()
    const state = json<number>()
    expect(explain(grouped.mapGroupsWithState({ state }, () => 0).to())).toMatch(/\bupdate\b/)
    expect(explain(grouped.flatMapGroupsWithState({ state }, () => []).to())).toMatch(/\bappend\b/)
    expect(explain(grouped.flatMapGroupsWithState({ state, outputMode: "update" }, () => []).to())).toMatch(/\bupdate\b/)
  })
})
