// Goal: event time goes on as in Spark, per partition and input, and says which rows are late (W1-W8).
// Method: rows with hand-picked event times; what is looked at is the watermark after each turn, the rows dropped and the timeouts fired.
import { job, KeyfoldError, type TimeoutKind, topic, type WatermarkOptions } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly at: number
}
const row = (at: number, key = "a"): Row => ({ key, at })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })
const lateRows = topic("late-rows", { codec: json<Row>(), key: ({ key }) => key })

interface Settings extends WatermarkOptions<Row> {
  readonly timeout?: TimeoutKind
  readonly rowsThatAreLate?: "drop" | "keep"
  readonly shuffled?: boolean
}

/** Answers "a:5,7@3": the key, its event times, and the watermark it saw; "a!@9" for a timeout, set at the newest event time. */
const lab = (delay: number | string, settings: Settings = {}) => {
  const { timeout = "none", rowsThatAreLate: late, shuffled = false, ...watermark } = settings
  const flow = job("lab")
    .from(rows)
    .withWatermark(({ at }) => at, delay, watermark)
  const grouped = shuffled ? flow.groupByKey(({ key }) => key) : flow.groupByKey()
  return grouped
    .mapGroupsWithState({ state: json<number>(), timeout, ...(late === undefined ? {} : { late }) }, (key, events, state) => {
      const watermarkMs = state.getCurrentWatermarkMs()
      const newest = Math.max(...events.map(({ at }) => at))
      if (timeout === "event-time" && newest >= watermarkMs && newest > 0) state.setTimeoutTimestamp(newest)
      return state.hasTimedOut ? `${key}!@${watermarkMs}` : `${key}:${events.map(({ at }) => at).join()}@${watermarkMs}`
    })
    .to()
}

describe("W1, W2: one input", () => {
  test("watermark = newest event time seen - delay, from 0, never below 0, never back (W1)", async () => {
    await using kit = await harness(lab(100))
    expect(kit.watermark).toBe(0)
    const watermarks: unknown[] = []
    for (const at of [[50], [100], [101], [500, 300], [499], [450], [], [501]]) {
      watermarks.push((await kit.turn(at.map((time) => row(time)))).watermark)
    }
    expect(watermarks).toEqual([0, 0, 1, 400, 400, 400, 400, 401])
    expect(kit.watermark).toBe(401)
  })

  test("a delay of 0, as number or text, is legal; a text is in Spark's grammar (W1, G15)", async () => {
    for (const delay of [0, "0 seconds", "999 microseconds"]) {
      await using kit = await harness(lab(delay))
      expect((await kit.turn([row(5)])).watermark).toBe(5)
    }
    await using kit = await harness(lab("1 second 500 milliseconds"))
    expect((await kit.turn([row(2_000)])).watermark).toBe(500)
  })

  test("it moves only between turns, and event-time timeouts that it makes due fire at once, without new rows (W2, T1)", async () => {
    for (const shuffled of [false, true]) {
      await using kit = await harness(lab(10, { timeout: "event-time", shuffled }))
      const turn = await kit.turn([row(100, "a"), row(200, "b"), row(300, "c")])
      expect(turn.outputs).toEqual(["a:100@0", "b:200@0", "c:300@0", "a!@290", "b!@290"])
      expect((await kit.turn([row(310, "d")])).outputs).toEqual(["d:310@290"])
      expect((await kit.turn([row(311, "d")])).outputs).toEqual(["d:311@300", "c!@301"])
    }
  })

  test("a follow-up may move nothing further, and timeouts set in it wait for the watermark (W2, G11)", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "event-time" }, (key, _events, state) => {
        state.setTimeoutTimestamp(Math.max(1, state.getCurrentWatermarkMs()))
        return `${key}${state.hasTimedOut ? "!" : ""}@${state.getCurrentWatermarkMs()}`
      })
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row(100)])).outputs).toEqual(["a@0", "a!@100"])
    expect((await kit.turn([])).outputs).toEqual([])
    expect((await kit.turn([row(150, "b")])).outputs).toEqual(["b@100", "a!@150", "b!@150"])
  })

  test("a row that a later filter takes out has been seen: its event time counts (W1)", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .filter(({ key }) => key !== "heartbeat")
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "event-time" }, (key, [first], state) => {
        if (first !== undefined) state.setTimeoutTimestamp(first.at)
        return `${key}${state.hasTimedOut ? "!" : ""}`
      })
      .to()
    await using kit = await harness(definition)
    await kit.turn([row(100), row(50, "heartbeat")])
    const turn = await kit.turn([row(900, "heartbeat")])
    expect(turn).toMatchObject({ watermark: 900, outputs: ["a!"] })
  })

  test("a restart goes on from the same watermark and newest event time (W4)", async () => {
    await using kit = await harness(lab(100, { timeout: "event-time" }))
    await kit.turn([row(1_000)])
    await kit.restart()
    expect(kit.watermark).toBe(900)
    const turn = await kit.turn([row(900, "late"), row(950, "b")])
    expect(turn).toMatchObject({ late: [row(900, "late")], outputs: ["b:950@900"], watermark: 900 })
  })
})

describe("W3: late rows", () => {
  test.each([[false], [true]])("at or below the watermark is late, above it is not (W3; shuffled: %s)", async (shuffled) => {
    await using kit = await harness(lab(0, { timeout: "event-time", shuffled }))
    await kit.turn([row(1_000, "tick")])
    const turn = await kit.turn([row(999), row(1_000), row(1_001)])
    expect(turn).toMatchObject({ late: [row(999), row(1_000)], outputs: ["a:1001@1000", "tick!@1001"] })
  })

  test("a key whose rows are all late is not called (W3, G1)", async () => {
    await using kit = await harness(lab(0, { timeout: "event-time" }))
    await kit.turn([row(1_000, "tick")])
    expect(await kit.turn([row(500), row(0), row(-5)])).toMatchObject({ outputs: [], updated: [] })
    expect(kit.keys()).toEqual(["tick"])
  })

  const kinds: readonly (readonly [TimeoutKind, "drop" | "keep" | undefined, dropped: boolean])[] = [
    ["event-time", undefined, true],
    ["none", undefined, false],
    ["processing-time", undefined, false],
    ["event-time", "keep", false],
    ["none", "drop", true],
    ["processing-time", "drop", true]
  ]
  test.each(kinds)(
    "with timeout %s and late: %s, late rows are dropped: %s; a late topic gets what is dropped (W3)",
    async (timeout, late, dropped) => {
      const settings = { timeout, ...(late === undefined ? {} : { rowsThatAreLate: late }) }
      for (const withTopic of [false, true]) {
        await using kit = await harness(lab(0, { ...settings, ...(withTopic ? { late: lateRows } : {}) }))
        await kit.turn([row(1_000, "tick")])
        const turn = await kit.turn([row(400), row(1_001), row(1_000)])
        expect(turn.late).toEqual(dropped ? [row(400), row(1_000)] : [])
        expect(turn.outputs[0]).toEqual(dropped ? "a:1001@1000" : "a:400,1001,1000@1000")
        if (withTopic) expect(turn.outputsOf(lateRows)).toEqual(turn.late)
        expect(turn.dead).toEqual([])
      }
    }
  )

  test.each([[false], [true]])("the late topic gets the event as it was at withWatermark (W3; shuffled: %s)", async (shuffled) => {
    const flow = job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0, { late: lateRows })
      .map(({ key, at }) => ({ who: key, when: at }))
    const grouped = shuffled ? flow.groupByKey(({ who }) => who) : flow.groupByKey()
    await using kit = await harness(grouped.mapGroupsWithState({ state: json<number>(), timeout: "event-time" }, (key) => key).to())
    await kit.turn([row(1_000)])
    const turn = await kit.turn([row(3)])
    expect(turn.outputsOf(lateRows)).toEqual([row(3)])
    expect([turn.outputs, turn.late.length]).toEqual([[], 1])
  })
})

describe("W8: event times", () => {
  const usable: readonly (readonly [time: number, watermark: number])[] = [
    [1, 1],
    [1.9, 1],
    [0.5, 0],
    [8.64e15, 8.64e15]
  ]
  test.each(usable)("%d is usable: the watermark is %d (W8)", async (at, watermark) => {
    await using kit = await harness(lab(0))
    expect(await kit.turn([row(at)])).toMatchObject({ watermark, dead: [] })
  })

  test.each([[0], [-1], [-0.5], [-1e12]])("%d is usable, and late (W8, W3)", async (at) => {
    await using kit = await harness(lab(0, { timeout: "event-time" }))
    expect(await kit.turn([row(at)])).toMatchObject({ late: [row(at)], dead: [], watermark: 0, outputs: [] })
    await using keeping = await harness(lab(0))
    expect(await keeping.turn([row(at)])).toMatchObject({ late: [], dead: [], watermark: 0, outputs: [`a:${at}@0`] })
  })

  test("fractions are floored: 1000.9 is late at watermark 1000 (W8, W3)", async () => {
    await using kit = await harness(lab(0, { timeout: "event-time" }))
    await kit.turn([row(1_000.2, "tick")])
    expect((await kit.turn([row(1_000.9), row(1_001)])).late).toEqual([row(1_000.9)])
  })

  const unusable: readonly (readonly [what: string, time: unknown])[] = [
    ["missing", undefined],
    ["null", null],
    ["NaN", Number.NaN],
    ["infinite", Number.POSITIVE_INFINITY],
    ["minus infinite", Number.NEGATIVE_INFINITY],
    ["a text", "1000"],
    ["a date's text", "2026-01-01T00:00:00Z"],
    ["a boolean", true],
    ["an array", [1_000]]
  ]
  test.each(unusable)("%s is no event time: the row is a dead letter, never a guess (W8)", async (what, time) => {
    const times = new Map<string, unknown>([["bad", time]])
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ key, at }) => (times.has(key) ? times.get(key) : at) as number, 0)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key) => key)
      .to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row(10), row(999, "bad"), row(11, "b")])
    expect(turn, what).toMatchObject({
      outputs: ["a", "b"],
      watermark: 11,
      late: [],
      dead: [{ code: "event-time-invalid", value: row(999, "bad") }]
    })
    expect(turn.dead).toHaveLength(1)
  })

  test("a Date object, and an event time function that throws, give dead letters too (W8)", async () => {
    const definition = job("lab")
      .from(rows)
      .withWatermark(({ key, at }) => {
        if (key === "throws") throw new Error("no time")
        return (key === "date" ? new Date(at) : at) as number
      }, 0)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key) => key)
      .to()
    await using kit = await harness(definition)
    const turn = await kit.turn([row(5, "date"), row(6, "throws"), row(7)])
    expect([turn.outputs, turn.dead.map(({ value }) => value)]).toEqual([["a"], [row(5, "date"), row(6, "throws")]])
  })

  test("NaN sent through JSON arrives as JSON has it, and is a bad row (W8)", async () => {
    await using kit = await harness(lab(0))
    expect((await kit.turn([row(Number.NaN)])).dead).toMatchObject([{ code: "event-time-invalid" }])
  })

  test("the event time may come from the record: its topic and when it was published", async () => {
    const seen: unknown[] = []
    const definition = job("lab")
      .from(rows)
      .withWatermark((_event, info) => {
        seen.push(info.topic)
        return info.publishedAt
      }, 0)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key) => key)
      .to()
    await using kit = await harness(definition)
    expect((await kit.turn([row(1)], { now: 777 })).watermark).toBe(777)
    expect(seen).toEqual(["rows"])
  })
})

test("a second withWatermark on one input is refused, a first one behind a stage is not (W2)", () => {
  const once = job("lab")
    .from(rows)
    .withWatermark(({ at }) => at, 0)
  const refused = (): unknown => once.withWatermark(({ at }) => at, "1 second").to()
  expect(refused).toThrow(KeyfoldError)
  const behind = once.groupByKey().mapGroupsWithState({ state: json<number>() }, (key, [first]) => ({ key, at: first?.at ?? 0 }))
  expect(() => behind.withWatermark(({ at }) => at, 0).to()).not.toThrow()
  expect(() =>
    behind
      .withWatermark(({ at }) => at, 0)
      .withWatermark(({ at }) => at, 0)
      .to()
  ).toThrow(KeyfoldError)
})
