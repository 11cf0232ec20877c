// Goal: the testing kit keeps every sentence of its contract (DESIGN.md, "Testing kit").
// Method: one sentence, one test.
import { job, KeyfoldError, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { groupState, harness, memory } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly n: number
}
const row = (key: string, n = 0): Row => ({ key, n })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })
const others = topic("others", { codec: json<Row>(), key: ({ key }) => key })
const side = topic("side", { codec: json<string>(), key: (text) => text })
const state = json<number>()

const codeOf = async (run: () => unknown): Promise<string> => {
  try {
    await run()
  } catch (thrown) {
    if (thrown instanceof KeyfoldError) return thrown.code
    throw thrown
  }
  return "nothing was thrown"
}

/** n > 0: update to n; 0: only look; -1: remove; -2: set a timeout only; -3: update with the value it has. */
const byNumber = () =>
  job("lab")
    .from(rows)
    .groupByKey()
    .mapGroupsWithState({ state, timeout: "processing-time" }, (key, events, group) => {
      for (const { n } of events) {
        if (n > 0) group.update(n)
        if (n === -1) group.remove()
        if (n === -2) group.setTimeoutDuration(10)
        if (n === -3) group.update(group.get())
      }
      return `${key}@${group.getCurrentProcessingTimeMs()}${group.hasTimedOut ? "!" : ""}`
    })
    .to()

describe("the clock", () => {
  test("starts at 0, stays without `now`, and advanceTo(n) is one turn at n", async () => {
    await using kit = await harness(byNumber())
    expect((await kit.turn([row("a")])).outputs).toEqual(["a@0"])
    expect((await kit.turn([row("a")], { now: 7 })).outputs).toEqual(["a@7"])
    expect((await kit.turn([row("a", -2)])).outputs).toEqual(["a@7"])
    expect((await kit.advanceTo(18)).outputs).toEqual(["a@18!"])
    expect((await kit.turn([row("a")])).outputs).toEqual(["a@18"])
    await kit.restart()
    expect((await kit.turn([row("a")])).outputs).toEqual(["a@18"])
  })

  test("may start elsewhere", async () => {
    await using kit = await harness(byNumber(), { now: 1_760_000_000_000 })
    expect((await kit.turn([row("a")])).outputs).toEqual(["a@1760000000000"])
  })

  test("never goes back: a smaller `now` is an illegal argument, and its events are not taken", async () => {
    await using kit = await harness(byNumber(), { now: 100 })
    expect(await codeOf(() => kit.turn([row("a", 1)], { now: 99 }))).toBe("illegal-argument")
    await kit.turn([], { now: 200 })
    expect(await codeOf(() => kit.turn([row("a", 1)], { now: 199 }))).toBe("illegal-argument")
    expect(await codeOf(() => kit.advanceTo(0))).toBe("illegal-argument")
    expect((await kit.turn([row("b")])).outputs).toEqual(["b@200"])
    expect(kit.keys()).toEqual([])
  })

  test.each([[-1], [0.5], [Number.NaN], [Number.POSITIVE_INFINITY]])("%d is no time", async (now) => {
    expect(await codeOf(() => harness(byNumber(), { now }))).toBe("illegal-argument")
    await using kit = await harness(byNumber())
    expect(await codeOf(() => kit.turn([], { now }))).toBe("illegal-argument")
  })
})

describe("a turn", () => {
  test("passes its events through the codec", async () => {
    const seen: unknown[] = []
    const dates = topic("dates", { codec: json<{ at: Date | string; none?: undefined }>(), key: () => "" })
    const definition = job("lab")
      .from(dates)
      .groupByKey()
      .mapGroupsWithState({ state }, (_key, events) => seen.push(...events))
      .to()
    await using kit = await harness(definition)
    const sent = { at: new Date(0), none: undefined }
    await kit.turn([sent])
    expect(seen).toStrictEqual([{ at: "1970-01-01T00:00:00.000Z" }])
    expect(sent.at).toEqual(new Date(0))
  })

  test("refuses events from a source that the job does not read, and takes none of them", async () => {
    await using kit = await harness(byNumber())
    expect(await codeOf(() => kit.turn([row("a", 1)], { from: others }))).toBe("illegal-argument")
    expect((await kit.turn([])).outputs).toEqual([])
  })

  test("refuses an event that no codec could write, takes none of the turn, and stays where it was", async () => {
    const counts = topic("counts", { codec: json<unknown>(), key: () => "" })
    const definition = job("lab")
      .from(counts)
      .groupByKey()
      .mapGroupsWithState({ state }, (_key, events, group) => [group.getCurrentProcessingTimeMs(), ...events])
      .to()
    await using kit = await harness(definition)
    expect(await codeOf(() => kit.turn([1, 2n], { now: 9 }))).toBe("encode-failed")
    expect((await kit.turn([3], { now: 5 })).outputs).toEqual([[5, 3]])
  })

  test("takes any iterable", async () => {
    await using kit = await harness(byNumber())
    const events = function* () {
      yield row("a")
      yield row("b")
    }
    expect((await kit.turn(events())).outputs).toEqual(["a@0", "b@0"])
    expect((await kit.turn(new Set([row("c")]))).outputs).toEqual(["c@0"])
  })

  test("of nothing, with nothing due, is empty", async () => {
    await using kit = await harness(byNumber())
    const { outputsOf, ...turn } = await kit.turn([])
    expect(turn).toEqual({ outputs: [], late: [], dead: [], updated: [], removed: [], watermark: undefined })
    expect(outputsOf(side)).toEqual([])
  })

  test("runs all stages to rest, and says what this turn put out, not the ones before", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .groupByKey((key) => key.length)
      .mapGroupsWithState({ state, emits: [side] }, (length, keys, _group, context) => {
        context.emitTo(side, keys.join())
        return length
      })
      .groupByKey((length) => length % 2)
      .mapGroupsWithState({ state }, (odd, lengths) => [odd, ...lengths])
      .to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a"), row("bb"), row("ccc"), row("d")])
    expect([turn.outputs, turn.outputsOf(side)]).toEqual([
      [
        [1, 1, 3],
        [0, 2]
      ],
      ["a,d", "bb", "ccc"]
    ])
    const next = await kit.turn([row("e")])
    expect([next.outputs, next.outputsOf(side)]).toEqual([[[1, 1]], ["e"]])
  })

  test("does not change an earlier turn's result", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .to(side)
    await using kit = await harness(definition)
    const first = await kit.turn([row("a")])
    await kit.turn([row("b")])
    expect([first.outputs, first.outputsOf(side)]).toEqual([["a"], ["a"]])
  })
})

describe("updated and removed", () => {
  test("an update() counts, with an equal value too; a timeout alone, a look, and a removed nothing do not", async () => {
    await using kit = await harness(byNumber())
    const first = await kit.turn([row("updated", 1), row("looked"), row("armed", -2), row("removed-nothing", -1)])
    expect([first.updated, first.removed]).toEqual([["updated"], []])
    const second = await kit.turn([row("updated", -3)])
    expect([second.updated, second.removed]).toEqual([["updated"], []])
    const third = await kit.turn([row("updated", -1)])
    expect([third.updated, third.removed]).toEqual([[], ["updated"]])
  })

  test("are net: the last word of a call, and of a turn with its follow-ups, counts", async () => {
    await using kit = await harness(byNumber())
    await kit.turn([row("a", 1), row("b", 1)])
    const turn = await kit.turn([row("a", 2), row("a", -1), row("b", -1), row("b", 3)])
    expect([turn.updated, turn.removed]).toEqual([["b"], ["a"]])

    const times = topic("times", { codec: json<number>(), key: (at) => (at < 500 ? "a" : "tick") })
    const definition = job("lab")
      .from(times)
      .withWatermark((at) => at, 0)
      .groupByKey()
      .mapGroupsWithState({ state, timeout: "event-time" }, (key, events, group) => {
        if (group.hasTimedOut) group.remove()
        else if (key === "a") {
          group.update(events.length)
          group.setTimeoutTimestamp(400)
        }
        return key
      })
      .to()
    await using closing = await harness(definition)
    expect(await closing.turn([100])).toMatchObject({ updated: ["a"], removed: [] })
    expect(await closing.turn([150, 600])).toMatchObject({ updated: [], removed: ["a"], watermark: 600 })
    expect(closing.keys()).toEqual([])
  })

  test("are of the last stage", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key, _events, group) => {
        group.update(1)
        return key
      })
      .groupByKey((key) => `${key}${key}`)
      .mapGroupsWithState({ state }, (key, _events, group) => group.update(key.length))
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row("a")])).updated).toEqual(["aa"])
    expect([kit.keys(), kit.keys("stage-1"), kit.keys("stage-2")]).toEqual([["aa"], ["a"], ["aa"]])
  })
})

describe("keys() and state()", () => {
  test("are the keys with a state or an armed timeout, in key-byte order", async () => {
    await using kit = await harness(byNumber())
    expect(kit.keys()).toEqual([])
    const keys = ["\u{1f600}", "b", "\uff5e", "a", "\u00e9"]
    await kit.turn([...keys.map((key) => row(key, 1)), row("armed", -2), row("looked"), row("gone", 1), row("gone", -1)])
    expect(kit.keys()).toEqual(["a", "armed", "b", "\u00e9", "\uff5e", "\u{1f600}"])
    expect([kit.state("a"), kit.state("armed"), kit.state("looked"), kit.state("never")]).toEqual([1, undefined, undefined, undefined])
  })

  test("state() answers a copy: changing it changes nothing", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state: json<number[]>() }, (_key, _events, group) => {
        group.update([...(group.getOption() ?? []), 1])
        return group.get().length
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a")])
    kit.state("a")?.push(99)
    expect((await kit.turn([row("a")])).outputs).toEqual([2])
  })
})

describe("initialState of the harness", () => {
  test("is silent prior state of the last stage: nothing is called for it, then or later", async () => {
    const calls: string[] = []
    const definition = job("lab")
      .from(rows)
      .groupByKey()
      .mapGroupsWithState({ state }, (key) => key)
      .groupByKey()
      .mapGroupsWithState({ state: json<{ n: number }>() }, (key, _events, group) => {
        calls.push(`${key}${group.getOption()?.n ?? ""}`)
        return key
      })
      .to()
    await using kit = await harness(definition, {
      initialState: new Map([
        ["b", { n: 2 }],
        ["a", { n: 1 }]
      ])
    })
    expect([calls, kit.keys(), kit.keys("stage-1"), kit.state("b")]).toEqual([[], ["a", "b"], [], { n: 2 }])
    expect(await kit.turn([])).toMatchObject({ outputs: [], updated: [], removed: [] })
    await kit.turn([row("b"), row("c")])
    await kit.restart()
    await kit.turn([row("a")])
    expect(calls).toEqual(["b2", "c", "a1"])
    expect(kit.keys()).toEqual(["a", "b"])
  })

  test("works behind a shuffle and with composite keys", async () => {
    const definition = job("lab")
      .from(rows)
      .groupByKey(({ key, n }) => [key, n])
      .mapGroupsWithState({ state }, (_key, events, group) => {
        group.update((group.getOption() ?? 0) + events.length)
        return group.get()
      })
      .to()
    await using kit = await harness(definition, { initialState: [[["a", 1], 10]] })
    expect((await kit.turn([row("a", 1), row("a", 2)])).outputs).toEqual([11, 1])
  })
})

describe("restart()", () => {
  test("keeps states, timeouts, the watermark and what is not yet processed", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ n }) => n, 10)
      .groupByKey()
      .mapGroupsWithState({ state, timeout: "event-time" }, (key, events, group) => {
        if (!group.hasTimedOut) {
          group.update((group.getOption() ?? 0) + events.length)
          if (key !== "tick") group.setTimeoutTimestamp(500)
        }
        return `${key}${group.hasTimedOut ? "!" : ""}${group.get()}`
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row("a", 100), row("b", 200)])
    for (let time = 0; time < 3; time++) await kit.restart()
    expect([kit.watermark, kit.keys(), kit.state("a")]).toEqual([190, ["a", "b"], 1])
    expect(await kit.turn([])).toMatchObject({ outputs: [], late: [], dead: [], updated: [], watermark: 190 })
    expect((await kit.turn([row("a", 191), row("b", 190)])).outputs).toEqual(["a2"])
    await kit.restart()
    expect((await kit.turn([row("tick", 600)])).outputs).toEqual(["tick1", "a!2", "b!1"])
    await kit.restart()
    expect((await kit.turn([row("tick", 700)])).outputs).toEqual(["tick2"])
  })

  test("repeats nothing: outputs, side outputs, dead letters and late rows come once", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ n }) => n, 0)
      .groupByKey()
      .mapGroupsWithState({ state, late: "drop", emits: [side] }, (key, _events, _group, context) => {
        if (key === "bad") throw new Error("no")
        context.emitTo(side, key)
        return key
      })
      .to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row("a", 5), row("bad", 6), row("late", 0)])
    expect([turn.outputs, turn.outputsOf(side), turn.dead.length, turn.late.length]).toEqual([["a"], ["a"], 1, 1])
    await kit.restart()
    const after = await kit.turn([])
    expect([after.outputs, after.outputsOf(side), after.dead, after.late]).toEqual([[], [], [], []])
  })
})

describe("groupState", () => {
  test("has now 0, no watermark, no state and no timeout kind by default", async () => {
    const group = groupState<number>()
    expect([group.exists, group.getOption(), group.hasTimedOut, group.getCurrentProcessingTimeMs()]).toEqual([false, undefined, false, 0])
    expect([group.updated, group.removed, group.timeoutAt]).toEqual([false, false, undefined])
    expect(await codeOf(() => group.getCurrentWatermarkMs())).toBe("unsupported-operation")
    expect(await codeOf(() => group.setTimeoutDuration(1))).toBe("unsupported-operation")
  })

  test("takes 0, the empty text, false and an empty array as values (G4)", () => {
    for (const value of [0, "", false, []])
      expect([groupState<unknown>({ value }).exists, groupState<unknown>({ value }).get()]).toEqual([true, value])
  })

  test("says what the function did: updated, removed, timeoutAt", () => {
    const group = groupState({ value: 1, timeout: "event-time", watermark: 10 })
    group.update(1)
    group.setTimeoutTimestamp(20, 5)
    expect([group.updated, group.removed, group.timeoutAt, group.get()]).toEqual([true, false, 25, 1])
    group.remove()
    expect([group.updated, group.removed, group.timeoutAt, group.exists]).toEqual([false, true, 25, false])
    group.update(2)
    expect([group.updated, group.removed, group.get()]).toEqual([true, false, 2])
    const none = groupState<number>()
    none.remove()
    expect([none.updated, none.removed]).toEqual([false, false])
  })

  test("a negative now or watermark is an illegal argument, hasTimedOut with timeout none an unsupported operation", async () => {
    expect(await codeOf(() => groupState({ now: -1 }))).toBe("illegal-argument")
    expect(await codeOf(() => groupState({ watermark: -1 }))).toBe("illegal-argument")
    expect(await codeOf(() => groupState({ hasTimedOut: true }))).toBe("unsupported-operation")
    expect(await codeOf(() => groupState({ hasTimedOut: true, timeout: "none" }))).toBe("unsupported-operation")
    expect(groupState({ hasTimedOut: true, timeout: "event-time" }).hasTimedOut).toBe(true)
    expect(groupState({ now: 0, watermark: 0 }).getCurrentWatermarkMs()).toBe(0)
  })
})

test("memory() is a runtime of its own each time", () => {
  expect(memory()).not.toBe(memory())
  expect(typeof memory().name).toBe("string")
})
