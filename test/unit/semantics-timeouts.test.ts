// Goal: timeouts are set, cleared, due and fired as in Spark (G6-G15), exactly once, after any wait and in order (T1-T4).
// Method: a job whose state function is the test's own script; each call is noted, "a(1,2)" with its values, "a!" for a timeout.
import { type GroupState, job, KeyfoldError, type TimeoutKind, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { groupState, harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly at: number
  readonly n: number
}
const row = (key: string, at = 1, n = 0): Row => ({ key, at, n })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })

const codeOf = (run: () => unknown): string => {
  try {
    run()
  } catch (thrown) {
    if (thrown instanceof KeyfoldError) return thrown.code
    throw thrown
  }
  return "nothing was thrown"
}

type Script = (state: GroupState<number>, events: readonly Row[], key: string) => void
interface Settings {
  readonly watermark?: boolean
  readonly late?: "drop" | "keep"
}

/** Without rows of its own the watermark moves by rows of the key "tick", which the script does not see. */
const lab = async (timeout: TimeoutKind, script: Script, settings: Settings = {}) => {
  const calls: string[] = []
  const flow = job("lab").from(rows)
  const timed = timeout === "event-time" || settings.watermark === true ? flow.withWatermark(({ at }) => at, 0) : flow
  const late = settings.late === undefined ? {} : { late: settings.late }
  const definition = timed
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), timeout, ...late }, (key, events, state) => {
      if (key === "tick") return []
      calls.push(state.hasTimedOut ? `${key}!` : `${key}(${events.map(({ n }) => n).join()})`)
      script(state, events, key)
      return []
    })
    .to()
  return { calls, kit: await harness(definition) }
}

describe("setting", () => {
  test("every call clears the key's timeout: it has one afterwards only if that call set one (G6)", async () => {
    const { calls, kit } = await lab("processing-time", (state, events) => {
      if (events.at(-1)?.n === 1) state.setTimeoutDuration(100)
    })
    await kit.turn([row("a", 1, 1), row("b", 1, 1), row("c", 1, 1)], { now: 0 })
    await kit.turn([row("a", 1, 0), row("b", 1, 1)], { now: 50 })
    await kit.advanceTo(101)
    expect(calls.slice(3)).toEqual(["a(0)", "b(1)", "c!"])
    await kit.advanceTo(1_000)
    expect(calls.slice(6)).toEqual(["b!"])
    expect(kit.keys()).toEqual([])
  })

  test("the last set of a call counts (G6)", async () => {
    const { calls, kit } = await lab("processing-time", (state) => {
      if (state.hasTimedOut) return
      state.setTimeoutDuration(10)
      state.setTimeoutDuration(30)
    })
    await kit.turn([row("a")])
    await kit.advanceTo(30)
    expect(calls).toEqual(["a(0)"])
    await kit.advanceTo(31)
    expect(calls).toEqual(["a(0)", "a!"])
  })

  test("update and remove leave a timeout set in the same call alone, before and after it (G7)", async () => {
    const { calls, kit } = await lab("processing-time", (state, _events, key) => {
      if (state.hasTimedOut) return
      if (key === "set-update") state.setTimeoutDuration(1)
      state.update(7)
      if (key === "set-remove") state.setTimeoutDuration(1)
      if (key !== "set-update") state.remove()
      if (key === "remove-set") state.setTimeoutDuration(1)
    })
    await kit.turn([row("set-update"), row("set-remove"), row("remove-set")])
    await kit.advanceTo(2)
    expect(calls.slice(3)).toEqual(["remove-set!", "set-remove!", "set-update!"])
  })

  test("a timeout without a state: the key stays known, and its timeout call sees no state (G7)", async () => {
    const seen: unknown[] = []
    const { kit } = await lab("processing-time", (state) => {
      if (state.hasTimedOut) seen.push(state.exists, state.getOption())
      else state.setTimeoutDuration("1 minute")
    })
    await kit.turn([row("a")])
    expect([kit.keys(), kit.state("a")]).toEqual([["a"], undefined])
    await kit.restart()
    expect(kit.keys()).toEqual(["a"])
    await kit.advanceTo(60_001)
    expect(seen).toEqual([false, undefined])
    expect(kit.keys()).toEqual([])
  })

  test("the timeout is now + duration, of the turn's clock; nothing is left of a timeout that was not reset (G14)", () => {
    const state = groupState({ timeout: "processing-time", now: 5_000 })
    expect(state.timeoutAt).toBeUndefined()
    state.setTimeoutDuration("1 second")
    expect(state.timeoutAt).toBe(6_000)
    state.setTimeoutDuration(1)
    expect(state.timeoutAt).toBe(5_001)
  })

  const durations: readonly (readonly [duration: unknown, result: number | "illegal-argument"])[] = [
    [1, 101],
    [2 ** 31, 2 ** 31 + 100],
    ["1 millisecond", 101],
    [0, "illegal-argument"],
    [-1, "illegal-argument"],
    ["0 seconds", "illegal-argument"],
    ["999 microseconds", "illegal-argument"],
    ["1 day -1 day", "illegal-argument"],
    ["-1 second", "illegal-argument"],
    [1.5, "illegal-argument"],
    [Number.NaN, "illegal-argument"],
    [Number.POSITIVE_INFINITY, "illegal-argument"],
    [undefined, "illegal-argument"],
    [null, "illegal-argument"],
    [true, "illegal-argument"]
  ]
  test.each(durations)("setTimeoutDuration(%j) at 100: %s (G14)", (duration, result) => {
    const state = groupState({ timeout: "processing-time", now: 100 })
    const code = codeOf(() => state.setTimeoutDuration(duration as number))
    expect(state.timeoutAt ?? code).toBe(result)
  })

  const timestamps: readonly (readonly [timestamp: number, plus: unknown, result: number | "illegal-argument"])[] = [
    [1_000, undefined, 1_000],
    [1_001, undefined, 1_001],
    [999, undefined, "illegal-argument"],
    [0, undefined, "illegal-argument"],
    [-1, undefined, "illegal-argument"],
    [Number.NaN, undefined, "illegal-argument"],
    [Number.POSITIVE_INFINITY, undefined, "illegal-argument"],
    [999, 1, 1_000],
    [1, 999, 1_000],
    [1, 998, "illegal-argument"],
    [400, "1 second", 1_400],
    [1_000, 0, 1_000],
    [1_000, "0 seconds", 1_000],
    [5_000, -1, "illegal-argument"],
    [5_000, "-1 second", "illegal-argument"],
    [5_000, "1s", "illegal-argument"],
    [5_000, "2 seconds -1 second", 6_000],
    [5_000, Number.NaN, "illegal-argument"]
  ]
  test.each(timestamps)("setTimeoutTimestamp(%d, %j) at watermark 1000: %s (G14)", (timestamp, plus, result) => {
    const state = groupState({ timeout: "event-time", watermark: 1_000 })
    const code = codeOf(() => state.setTimeoutTimestamp(timestamp, plus as number))
    expect(state.timeoutAt ?? code).toBe(result)
  })

  test("a timestamp must be greater than 0 at watermark 0 too (G14)", () => {
    const state = groupState({ timeout: "event-time", watermark: 0 })
    expect(codeOf(() => state.setTimeoutTimestamp(0))).toBe("illegal-argument")
    state.setTimeoutTimestamp(1)
    expect(state.timeoutAt).toBe(1)
  })

  test("a refused set leaves the timeout that was set before it in the call (G14)", () => {
    const state = groupState({ timeout: "processing-time" })
    state.setTimeoutDuration(5)
    for (const bad of [0, -1, "10s"]) expect(codeOf(() => state.setTimeoutDuration(bad))).toBe("illegal-argument")
    expect(state.timeoutAt).toBe(5)
  })

  const kindFirst: readonly (readonly [TimeoutKind, call: string, run: (state: GroupState<unknown>) => void, code: string])[] = [
    ["none", "setTimeoutDuration(10)", (state) => state.setTimeoutDuration(10), "unsupported-operation"],
    ["event-time", "setTimeoutDuration(10)", (state) => state.setTimeoutDuration(10), "unsupported-operation"],
    ["none", "setTimeoutDuration(0)", (state) => state.setTimeoutDuration(0), "unsupported-operation"],
    ["none", "setTimeoutDuration(-1)", (state) => state.setTimeoutDuration(-1), "unsupported-operation"],
    ["event-time", "setTimeoutDuration(NaN)", (state) => state.setTimeoutDuration(Number.NaN), "unsupported-operation"],
    ["none", 'setTimeoutDuration("10 seconds")', (state) => state.setTimeoutDuration("10 seconds"), "unsupported-operation"],
    ["none", 'setTimeoutDuration("0 seconds")', (state) => state.setTimeoutDuration("0 seconds"), "unsupported-operation"],
    ["none", 'setTimeoutDuration("10s")', (state) => state.setTimeoutDuration("10s"), "illegal-argument"],
    ["event-time", 'setTimeoutDuration("soon")', (state) => state.setTimeoutDuration("soon"), "illegal-argument"],
    ["none", 'setTimeoutDuration("-1 second")', (state) => state.setTimeoutDuration("-1 second"), "illegal-argument"],
    ["none", "setTimeoutTimestamp(10)", (state) => state.setTimeoutTimestamp(10), "unsupported-operation"],
    ["processing-time", "setTimeoutTimestamp(10)", (state) => state.setTimeoutTimestamp(10), "unsupported-operation"],
    ["processing-time", "setTimeoutTimestamp(-1)", (state) => state.setTimeoutTimestamp(-1), "unsupported-operation"],
    ["none", 'setTimeoutTimestamp(10, "soon")', (state) => state.setTimeoutTimestamp(10, "soon"), "unsupported-operation"],
    ["processing-time", "setTimeoutTimestamp(10, -1)", (state) => state.setTimeoutTimestamp(10, -1), "unsupported-operation"],
    ["event-time", 'setTimeoutTimestamp(10, "soon")', (state) => state.setTimeoutTimestamp(10, "soon"), "illegal-argument"]
  ]
  test.each(kindFirst)("with timeout %s, %s: text, then kind, then value (G13)", (timeout, _call, run, code) => {
    const state = groupState({ timeout, watermark: 0 })
    expect(codeOf(() => run(state))).toBe(code)
    expect(state.timeoutAt).toBeUndefined()
  })

  test("in a job a set of the wrong kind fails the call, and is told apart from an illegal argument (G13)", async () => {
    const codes: string[] = []
    const { kit } = await lab("none", (state) =>
      codes.push(
        codeOf(() => state.setTimeoutDuration(1)),
        codeOf(() => state.setTimeoutTimestamp(1))
      )
    )
    await kit.turn([row("a")])
    expect(codes).toEqual(["unsupported-operation", "unsupported-operation"])
  })
})

describe("texts", () => {
  const day = 86_400_000
  const legal: readonly (readonly [text: string, ms: number])[] = [
    ["1 millisecond", 1],
    ["2 milliseconds", 2],
    ["1000 microseconds", 1],
    ["1999 microseconds", 1],
    ["1 second", 1_000],
    ["10 seconds", 10_000],
    ["1 minute", 60_000],
    ["2 minutes", 120_000],
    ["1 hour", 3_600_000],
    ["1 day", day],
    ["1 week", 7 * day],
    ["1 month", 31 * day],
    ["2 months", 62 * day],
    ["1 year", 372 * day],
    ["1 hour 30 minutes", 5_400_000],
    ["1 HOUR 30 Minutes", 5_400_000],
    ["interval 1 hour", 3_600_000],
    ["INTERVAL 2 days", 2 * day],
    ["  10   seconds  ", 10_000],
    ["2 hours -30 minutes", 5_400_000],
    ["-30 minutes 2 hours", 5_400_000],
    ["+1 hour", 3_600_000],
    ["1.5 seconds", 1_500],
    ["0.001 seconds", 1],
    ["1.9999 seconds", 1_999],
    ["1.123456789 seconds", 1_123]
  ]
  test.each(legal)("%j is %d ms, for a timeout, for `plus` and for a watermark delay (G15)", async (text, ms) => {
    const duration = groupState({ timeout: "processing-time" })
    duration.setTimeoutDuration(text)
    expect(duration.timeoutAt).toBe(ms)
    const timestamp = groupState({ timeout: "event-time", watermark: 0 })
    timestamp.setTimeoutTimestamp(1, text)
    expect(timestamp.timeoutAt).toBe(1 + ms)
    await using kit = await harness(
      job("lab")
        .from(rows)
        .withWatermark(({ at }) => at, text)
        .groupByKey()
        .mapGroupsWithState({ state: json<number>() }, () => 0)
        .to()
    )
    expect((await kit.turn([row("a", ms + 17)])).watermark).toBe(17)
  })

  const refused = [
    "",
    " ",
    "interval",
    "10",
    "seconds",
    "10s",
    "5 m",
    "1h",
    "1 hr",
    "10 sec",
    "2 mins",
    "1 fortnight",
    "ten seconds",
    "PT10S"
  ]
  const refusedToo = [
    "1.5 hours",
    "0.5 minutes",
    "1.5 milliseconds",
    "1.1234567890 seconds",
    "1 hour -61 minutes",
    "-1 day",
    "interval '1' day"
  ]
  const refusedAgain = [
    "'1 day'",
    "1 hour, 30 minutes",
    "1:30",
    "1 hour 30",
    "1e3 seconds",
    "1,5 seconds",
    "1 second garbage",
    "10\u00a0seconds"
  ]
  test.each([...refused, ...refusedToo, ...refusedAgain])("%j is refused (G15)", (text) => {
    const duration = groupState({ timeout: "processing-time" })
    expect(codeOf(() => duration.setTimeoutDuration(text))).toBe("illegal-argument")
    const timestamp = groupState({ timeout: "event-time", watermark: 0 })
    expect(codeOf(() => timestamp.setTimeoutTimestamp(1, text))).toBe("illegal-argument")
    const flow = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, text)
    expect(codeOf(() => flow.to())).toBe("job-invalid")
  })
})

describe("firing", () => {
  test("a processing-time timeout fires when it is before now, not at it, once, without new data (G8, T1)", async () => {
    const { calls, kit } = await lab("processing-time", (state) => {
      if (!state.hasTimedOut) state.setTimeoutDuration(100)
    })
    await kit.turn([row("a")], { now: 1_000 })
    for (const now of [1_000, 1_099, 1_100]) await kit.advanceTo(now)
    expect(calls).toEqual(["a(0)"])
    for (const now of [1_101, 1_102, 5_000]) await kit.advanceTo(now)
    expect(calls).toEqual(["a(0)", "a!"])
  })

  test("an event-time timeout fires when it is before the watermark, not at it, once (G8, T1)", async () => {
    const { calls, kit } = await lab("event-time", (state) => {
      if (!state.hasTimedOut) state.setTimeoutTimestamp(500)
    })
    await kit.turn([row("a", 100)])
    await kit.turn([row("tick", 500)])
    expect([calls, kit.watermark]).toEqual([["a(0)"], 500])
    await kit.turn([row("tick", 501)])
    await kit.turn([row("tick", 900)])
    expect(calls).toEqual(["a(0)", "a!"])
  })

  test("data beats a due timeout: one data call, and the timeout is gone (G10, G6)", async () => {
    const { calls, kit } = await lab("processing-time", (state, events) => {
      if (events[0]?.n === 1) state.setTimeoutDuration(10)
    })
    await kit.turn([row("a", 1, 1)])
    await kit.turn([row("a", 1, 2), row("a", 1, 3)], { now: 100 })
    await kit.advanceTo(200)
    expect(calls).toEqual(["a(1)", "a(2,3)"])
  })

  test("all data calls of a turn come before all its timeout calls (G10)", async () => {
    const { calls, kit } = await lab("processing-time", (state, events) => {
      if (events[0]?.n === 1) state.setTimeoutDuration(10)
    })
    await kit.turn([row("a", 1, 1), row("b", 1, 1), row("z", 1, 1)])
    await kit.turn([row("y"), row("b"), row("x")], { now: 100 })
    expect(calls.slice(3)).toEqual(["y(0)", "b(0)", "x(0)", "a!", "z!"])
  })

  test("rows dropped as late are not data: the timeout that is due fires (G10)", async () => {
    const script: Script = (state) => {
      if (!state.hasTimedOut) state.setTimeoutDuration(10)
    }
    const { calls, kit } = await lab("processing-time", script, { watermark: true, late: "drop" })
    await kit.turn([row("a", 1_000, 1)])
    const turn = await kit.turn([row("a", 999, 2)], { now: 100 })
    expect(calls).toEqual(["a(1)", "a!"])
    expect(turn.late).toHaveLength(1)
  })

  test("a timeout cannot fire in the turn that set it: at the watermark itself it fires when the watermark has moved (G11)", async () => {
    const seen: number[] = []
    const { calls, kit } = await lab("event-time", (state) => {
      seen.push(state.getCurrentWatermarkMs())
      if (!state.hasTimedOut) state.setTimeoutTimestamp(Math.max(1, state.getCurrentWatermarkMs()))
    })
    await kit.turn([row("tick", 300)])
    await kit.turn([row("a", 301)])
    expect(calls).toEqual(["a(0)", "a!"])
    expect(seen).toEqual([300, 301])
  })

  test("a timeout set again in its timeout call waits for its own time (G11)", async () => {
    const { calls, kit } = await lab("processing-time", (state) => state.setTimeoutDuration(1))
    await kit.turn([row("a")], { now: 0 })
    await kit.advanceTo(50)
    expect(calls).toEqual(["a(0)", "a!"])
    await kit.advanceTo(51)
    expect(calls).toEqual(["a(0)", "a!"])
    await kit.advanceTo(52)
    expect(calls).toEqual(["a(0)", "a!", "a!"])
  })

  test("a timeout call that does nothing keeps the state and is not repeated, not after a restart either (G12)", async () => {
    const { calls, kit } = await lab("processing-time", (state, events) => {
      if (state.hasTimedOut) return
      state.update(events[0]?.n ?? 0)
      state.setTimeoutDuration(10)
    })
    await kit.turn([row("a", 1, 5)])
    expect(await kit.advanceTo(11)).toMatchObject({ updated: [], removed: [] })
    await kit.restart()
    await kit.advanceTo(1_000)
    expect(calls).toEqual(["a(5)", "a!"])
    expect(kit.state("a")).toBe(5)
  })

  test("due while nobody ran is fired late, never lost (T2)", async () => {
    const { calls, kit } = await lab("processing-time", (state) => {
      if (!state.hasTimedOut) state.setTimeoutDuration(10)
    })
    await kit.turn([row("a")])
    await kit.restart()
    await kit.turn([row("b")], { now: 50_000 })
    expect(calls).toEqual(["a(0)", "b(0)", "a!"])
  })
})
