// Goal: the three error policies, retries, and timeout calls that throw (G23).
// Method: as in semantics-errors.test.ts; what may fail and how often is a counter that the test holds.
import { type JobOptions, job, KeyfoldError, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly n: number
}
const row = (key: string, n = 0): Row => ({ key, n })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })
const side = topic("side", { codec: json<string>(), key: (text) => text })

/** The key "bad" fails as often as `failures` says, after it has changed and put out what it could. */
const fragile = (failures: { left: number }, options?: JobOptions) => {
  const attempts: unknown[] = []
  const definition = job("lab", options)
    .from(rows)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number[]>(), emits: [side] }, function* (key, events, state, context) {
      const values = state.getOption() ?? []
      if (key === "bad") attempts.push([...values], events.length)
      values.push(...events.map(({ n }) => n))
      state.update(values)
      context.emitTo(side, key)
      yield `${key}${values.join()}`
      if (key === "bad" && failures.left-- > 0) throw new Error("fragile")
    })
    .to()
  return { definition, attempts }
}

describe("retries", () => {
  test("run the call again at once, with the state as it was; what failed attempts put out is not seen (G23)", async () => {
    const failures = { left: 0 }
    const { definition, attempts } = fragile(failures, { retries: 2 })
    await using kit = await harness(definition)
    await kit.turn([row("bad", 1)])
    failures.left = 2
    attempts.length = 0
    const turn = await kit.turn([row("bad", 2), row("good", 3)])
    expect(attempts).toEqual([[1], 1, [1], 1, [1], 1])
    expect([turn.outputs, turn.outputsOf(side), turn.dead]).toEqual([["bad1,2", "good3"], ["bad", "good"], []])
    expect(kit.state("bad")).toEqual([1, 2])
  })

  test("come to an end: then the policy applies (G23)", async () => {
    const { definition, attempts } = fragile({ left: 4 }, { retries: 2 })
    await using kit = await harness(definition)
    expect((await kit.turn([row("bad", 1)])).dead).toHaveLength(1)
    expect(attempts).toHaveLength(6)
    expect((await kit.turn([row("bad", 2)])).outputs).toEqual(["bad2"])
  })

  test("are none by default (G23)", async () => {
    const { definition, attempts } = fragile({ left: 1 })
    await using kit = await harness(definition)
    expect((await kit.turn([row("bad", 1)])).dead).toHaveLength(1)
    expect(attempts).toHaveLength(2)
  })
})

describe('onError: "dead-letter"', () => {
  test("is the default: a failing key does not hold the others, nor its own next rows (G23)", async () => {
    for (const options of [{}, { onError: "dead-letter" }] as const) {
      const { definition } = fragile({ left: 1 }, options)
      await using kit = await harness(definition)
      const turn = await kit.turn([row("bad", 1), row("good", 2), row("bad", 3)])
      expect([turn.outputs, turn.dead.length]).toEqual([["good2"], 2])
      expect((await kit.turn([row("bad", 4)])).outputs).toEqual(["bad4"])
    }
  })
})

describe('onError: "drop"', () => {
  test("leaves no dead letter and the key as it was; the others go on (G23)", async () => {
    const failures = { left: 0 }
    const { definition } = fragile(failures, { onError: "drop" })
    await using kit = await harness(definition)
    await kit.turn([row("bad", 1)])
    failures.left = 1
    const turn = await kit.turn([row("bad", 2), row("good", 3)])
    expect(turn).toMatchObject({ outputs: ["good3"], dead: [], updated: ["good"], late: [] })
    expect(kit.state("bad")).toEqual([1])
    expect((await kit.turn([row("bad", 4)])).outputs).toEqual(["bad1,4"])
  })
})

describe('onError: "stop"', () => {
  test("rejects until restart(); nothing of the turn is committed; the failed rows come first in the next turn (G23, G22)", async () => {
    const failures = { left: 0 }
    const { definition } = fragile(failures, { onError: "stop" })
    await using kit = await harness(definition)
    await kit.turn([row("bad", 1), row("good", 1)])
    failures.left = 2
    await expect(kit.turn([row("good", 2), row("bad", 2)])).rejects.toMatchObject({ code: "function-failed" })
    expect([kit.state("good"), kit.state("bad")]).toEqual([[1], [1]])
    await expect(kit.turn([row("other", 9)])).rejects.toBeInstanceOf(KeyfoldError)
    await expect(kit.advanceTo(10)).rejects.toMatchObject({ code: "function-failed" })

    await kit.restart()
    await expect(kit.turn([])).rejects.toMatchObject({ code: "function-failed" })
    await kit.restart()
    const turn = await kit.turn([row("bad", 3), row("good", 3)])
    expect(turn.outputs).toEqual(["good1,2,3", "bad1,2,3"])
    expect([turn.dead, turn.outputsOf(side)]).toEqual([[], ["good", "bad"]])
  })

  test("retries come before it (G23)", async () => {
    const { definition } = fragile({ left: 2 }, { onError: "stop", retries: 1 })
    await using kit = await harness(definition)
    await expect(kit.turn([row("bad", 1)])).rejects.toMatchObject({ code: "function-failed" })
    await kit.restart()
    expect((await kit.turn([])).outputs).toEqual(["bad1"])
  })

  test("in a later stage keeps what the stage before has committed (G23)", async () => {
    const failures = { left: 1 }
    const calls: string[] = []
    const definition = job("lab", { onError: "stop" })
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key, events) => {
        calls.push(`1:${key}`)
        return { key, count: events.length }
      })
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key, events) => {
        calls.push(`2:${key}`)
        if (failures.left-- > 0) throw new Error("later")
        return [key, ...events.map(({ count }) => count)]
      })
      .to()
    await using kit = await harness(definition)
    await expect(kit.turn([row("a"), row("a")])).rejects.toMatchObject({ code: "function-failed" })
    await kit.restart()
    expect((await kit.turn([row("a")])).outputs).toEqual([["a", 2, 1]])
    expect(calls).toEqual(["1:a", "2:a", "1:a", "2:a"])
  })

  test("of a timeout call: it fires again after the restart, with state and timeout as they were (G23)", async () => {
    const failures = { left: 1 }
    const definition = job("lab", { onError: "stop" })
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (_key, events, state) => {
        if (state.hasTimedOut) {
          if (failures.left-- > 0) throw new Error("timeout")
          return `timeout ${state.get()}`
        }
        state.update(events[0]?.n ?? 0)
        state.setTimeoutDuration(10)
        return "data"
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 5)])
    await expect(kit.advanceTo(11)).rejects.toMatchObject({ code: "function-failed" })
    await kit.restart()
    expect((await kit.turn([])).outputs).toEqual(["timeout 5"])
  })
})

describe("a timeout call that throws", () => {
  const timing = (options?: JobOptions) => {
    const calls: string[] = []
    const definition = job("lab", options)
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState(
        { state: json<{ n: number }>(), timeout: "processing-time", emits: [side] },
        function* (key, events, state, context) {
          calls.push(state.hasTimedOut ? `${key}!` : key)
          if (!state.hasTimedOut) {
            state.update({ n: events[0]?.n ?? 0 })
            state.setTimeoutDuration(10)
            return
          }
          state.get().n = 99
          state.remove()
          state.setTimeoutDuration(5)
          context.emitTo(side, key)
          yield key
          if (key === "bad") throw new Error("in the timeout")
        }
      )
      .to()
    return { calls, definition }
  }

  test("keeps the state, loses the timeout, and leaves one dead letter without rows (G23)", async () => {
    const { calls, definition } = timing()
    await using kit = await harness(definition)
    await kit.turn([row("bad", 7), row("good", 8)])
    const turn = await kit.advanceTo(11)
    expect(turn.dead).toMatchObject([
      { code: "function-failed", message: expect.stringContaining("in the timeout"), key: "bad", stage: "stage-1" }
    ])
    expect(turn.dead[0]).not.toHaveProperty("value")
    expect([turn.outputs, turn.outputsOf(side), turn.removed]).toEqual([["good"], ["good"], ["good"]])
    expect(kit.state("bad")).toEqual({ n: 7 })
    await kit.restart()
    await kit.advanceTo(15)
    await kit.advanceTo(1_000_000)
    expect(calls.filter((call) => call === "bad!")).toHaveLength(1)
    expect(kit.keys()).toEqual(["bad"])
  })

  test('under "drop" leaves no dead letter (G23)', async () => {
    const { calls, definition } = timing({ onError: "drop" })
    await using kit = await harness(definition)
    await kit.turn([row("bad", 7)])
    expect(await kit.advanceTo(11)).toMatchObject({ dead: [], outputs: [], removed: [] })
    await kit.advanceTo(1_000)
    expect([calls, kit.state("bad")]).toEqual([["bad", "bad!"], { n: 7 }])
  })

  test("of a key without state forgets the key (G23, G7)", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (_key, _events, state) => {
        if (state.hasTimedOut) throw new Error("no")
        state.setTimeoutDuration(1)
        return []
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a")])
    expect((await kit.advanceTo(2)).dead).toHaveLength(1)
    expect(kit.keys()).toEqual([])
  })

  test("of the initial state keeps it: it is applied once, whatever its first call does (G23, G20)", async () => {
    const calls: unknown[] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), initialState: [["a", 1]] }, (_key, events, state) => {
        calls.push(state.getOption())
        if (events.length === 0) throw new Error("no rows")
        return []
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([])).dead).toHaveLength(1)
    await kit.turn([row("a")])
    await kit.restart()
    await kit.turn([row("a")])
    expect(calls).toEqual([1, 1, 1])
  })
})
