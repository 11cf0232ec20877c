// Goal: a job's initial state is called in the first turn, kept, and never applied again (G20).
// Method: each sentence of the rule by the smallest job that would show it broken, in the harness.
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly n: number
}
const row = (key: string, n = 0): Row => ({ key, n })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })

/** A job that notes its calls as "key(values)" and keeps the sum of all values. */
const summing = (calls: string[], initialState: readonly (readonly [string, number])[] = []) =>
  job("lab")
    .from(rows)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), initialState }, (key, events, state) => {
      calls.push(`${key}(${events.map(({ n }) => n).join()})${state.exists ? `=${state.get()}` : ""}`)
      if (events.length > 0) state.update(events.reduce((sum, { n }) => sum + n, state.getOption() ?? 0))
      return []
    })
    .to()

describe("initial state", () => {
  test("in the first turn every key of it gets a call, keys with rows first, the others in its order (G20)", async () => {
    const calls: string[] = []
    const initial = [
      ["z", 1],
      ["m", 2],
      ["a", 3],
      ["k", 4]
    ] as const
    await using kit = await harness(summing(calls, initial))
    expect(calls).toEqual([])
    await kit.turn([row("new", 10), row("a", 20), row("m", 30), row("a", 40)])
    expect(calls).toEqual(["new(10)", "a(20,40)=3", "m(30)=2", "z()=1", "k()=4"])
  })

  test("the first turn may have no rows; a call without rows is no timeout call (G20)", async () => {
    const calls: unknown[] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState(
        { state: json<number>(), timeout: "processing-time", initialState: new Map([["a", 0]]) },
        (key, events, state) => {
          calls.push([key, events.length, state.hasTimedOut, state.get()])
          return key
        }
      )
      .to()
    await using kit = await harness(definition, { now: 5 })
    expect(await kit.turn([])).toMatchObject({ outputs: ["a"] })
    expect(calls).toEqual([["a", 0, false, 0]])
    await kit.advanceTo(6)
    expect(calls).toHaveLength(1)
  })

  test("it is kept though the function does not update it, and then does not count as updated (G20)", async () => {
    const calls: string[] = []
    await using kit = await harness(
      summing(calls, [
        ["a", 3],
        ["b", 4]
      ])
    )
    expect(await kit.turn([row("b", 1)])).toMatchObject({ updated: ["b"], removed: [] })
    expect([kit.state("a"), kit.state("b"), kit.keys()]).toEqual([3, 5, ["a", "b"]])
    await kit.turn([row("a", 1)])
    expect(calls.at(-1)).toBe("a(1)=3")
  })

  test("it is not applied again after a restart, whatever became of it (G20)", async () => {
    const calls: string[] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState(
        {
          state: json<number>(),
          initialState: [
            ["gone", 1],
            ["kept", 2]
          ]
        },
        (key, events, state) => {
          calls.push(`${key}(${events.length})${state.getOption() ?? ""}`)
          if (key === "gone") state.remove()
          return []
        }
      )
      .to()
    await using kit = await harness(definition)
    await kit.turn([])
    expect(calls).toEqual(["gone(0)1", "kept(0)2"])
    await kit.restart()
    await kit.turn([row("gone"), row("other")])
    expect(calls.slice(2)).toEqual(["gone(1)", "other(1)"])
    expect(kit.keys()).toEqual(["kept"])
  })

  test("a key of it that the first call removes counts as removed (G20)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), initialState: [["gone", 1]] }, (_key, _events, state) => {
        state.remove()
        return []
      })
      .to()
    await using kit = await harness(definition)
    expect(await kit.turn([])).toMatchObject({ updated: [], removed: ["gone"] })
    expect([kit.state("gone"), kit.keys()]).toEqual([undefined, []])
  })

  test("before the first turn a restart changes nothing: the first turn still calls it, once (G20)", async () => {
    const calls: string[] = []
    await using kit = await harness(summing(calls, [["a", 1]]))
    await kit.restart()
    await kit.turn([])
    await kit.turn([])
    expect(calls).toEqual(["a()=1"])
  })

  test("a timeout that the first call sets on it fires (G20, G7)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "processing-time", initialState: [["a", 9]] }, (_key, _events, state) => {
        if (!state.hasTimedOut) state.setTimeoutDuration("1 second")
        return [state.hasTimedOut, state.get()]
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([])).outputs).toEqual([[false, 9]])
    expect((await kit.advanceTo(1_001)).outputs).toEqual([[true, 9]])
  })

  test("a later stage's initial state is called in the first turn too (G20)", async () => {
    const calls: string[] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key, events) => ({ key, n: events.length }))
      .groupByKey(({ key }) => key)
      .flatMapGroupsWithState({ state: json<number>(), initialState: [["x", 1]] }, (key, events, state) => {
        calls.push(`${key}(${events.length})${state.getOption() ?? ""}`)
        return []
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([])
    await kit.turn([row("x")])
    expect(calls).toEqual(["x(0)1", "x(1)1"])
  })
})
