// Goal: several inputs share the slowest one's watermark (W5), idle ones do not hold it (W6), and it may follow the clock (W7).
// Method: a union of two topics on the virtual clock; a key of each input arms an event-time timeout, so that every move shows.
import { job, topic, type WatermarkOptions } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Row {
  readonly key: string
  readonly at: number
}
const row = (at: number, key = "a"): Row => ({ key, at })
const left = topic("left", { codec: json<Row>(), key: ({ key }) => key })
const right = topic("right", { codec: json<Row>(), key: ({ key }) => key })

interface Settings extends WatermarkOptions<Row> {
  readonly shuffled?: boolean
}

/** Answers "key" for data and "key!" for the timeout that data sets at its newest event time. */
const union = ({ shuffled = false, ...options }: Settings = {}) => {
  const flow = job("union")
    .from(left)
    .from(right)
    .withWatermark(({ at }) => at, 0, options)
  const grouped = shuffled ? flow.groupByKey(({ key }) => key) : flow.groupByKey()
  return grouped
    .mapGroupsWithState({ state: json<number>(), timeout: "event-time" }, (key, events, state) => {
      if (!state.hasTimedOut) state.setTimeoutTimestamp(Math.max(...events.map(({ at }) => at)))
      return `${key}${state.hasTimedOut ? "!" : ""}`
    })
    .to()
}

describe("several inputs", () => {
  test.each([[false], [true]])(
    "the watermark is their minimum; one that has shown no row holds it at 0 (W5; shuffled: %s)",
    async (shuffled) => {
      await using kit = await harness(union({ shuffled }))
      expect(await kit.turn([row(1_000)], { from: left })).toMatchObject({ watermark: 0, outputs: ["a"] })
      expect(await kit.turn([row(400, "b")], { from: right })).toMatchObject({ watermark: 400, outputs: ["b"] })
      expect(await kit.turn([row(401, "c")], { from: right })).toMatchObject({ watermark: 401, outputs: ["c", "b!"] })
      expect(await kit.turn([row(5_000, "d")], { from: left })).toMatchObject({ watermark: 401, outputs: ["d"] })
      expect(await kit.turn([row(1_001, "e")], { from: right })).toMatchObject({ watermark: 1_001, outputs: ["e", "c!", "a!"] })
    }
  )

  test("each input may have a watermark of its own, with its own delay (W5)", async () => {
    const definition = job("union")
      .from(left, { through: (events) => events.withWatermark(({ at }) => at, 100) })
      .from(right, { through: (events) => events.withWatermark(({ at }) => at, 10) })
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key) => key)
      .to()
    await using kit = await harness(definition)
    await kit.turn([row(1_000)], { from: left })
    expect((await kit.turn([row(800)], { from: right })).watermark).toBe(790)
    expect((await kit.turn([row(2_000)], { from: right })).watermark).toBe(900)
  })
})

describe("idleness", () => {
  test.each([[false], [true]])(
    "an input idle for longer than 1 minute no longer holds the minimum (W6; shuffled: %s)",
    async (shuffled) => {
      await using kit = await harness(union({ shuffled }))
      await kit.turn([row(1_000)], { from: left, now: 0 })
      expect((await kit.turn([row(2_000, "b")], { from: left, now: 60_000 })).watermark).toBe(0)
      expect(await kit.turn([row(3_000, "c")], { from: left, now: 60_001 })).toMatchObject({ watermark: 3_000, outputs: ["c", "a!", "b!"] })
    }
  )

  test("what becomes due by idleness fires without any row (W6, W2)", async () => {
    await using kit = await harness(union({ idleAfter: "1 minute" }))
    await kit.turn([row(1_000)], { from: left, now: 0 })
    await kit.turn([row(2_000, "b")], { from: left, now: 50_000 })
    expect(await kit.advanceTo(60_000)).toMatchObject({ watermark: 0, outputs: [] })
    expect(await kit.advanceTo(60_001)).toMatchObject({ watermark: 2_000, outputs: ["a!"] })
  })

  test("idleAfter is the stage's to say (W6)", async () => {
    await using kit = await harness(union({ idleAfter: "5 seconds" }))
    await kit.turn([row(1_000)], { from: left, now: 4_999 })
    expect((await kit.turn([], { now: 5_000 })).watermark).toBe(0)
    expect((await kit.turn([], { now: 5_001 })).watermark).toBe(1_000)
  })

  test("an input that shows a row is not idle for the next idleAfter (W6)", async () => {
    await using kit = await harness(union())
    await kit.turn([row(100)], { from: right, now: 40_000 })
    expect((await kit.turn([row(1_000)], { from: left, now: 90_000 })).watermark).toBe(100)
    expect((await kit.turn([row(1_001)], { from: left, now: 100_001 })).watermark).toBe(1_001)
  })

  test("when it returns, its rows at or below the watermark are late, and it holds the minimum again (W6, W3)", async () => {
    await using kit = await harness(union())
    await kit.turn([row(50, "r")], { from: right, now: 0 })
    expect((await kit.turn([row(2_000)], { from: left, now: 60_001 })).watermark).toBe(2_000)
    const returned = await kit.turn([row(1_999, "late"), row(2_000, "late"), row(2_500, "b")], { from: right, now: 60_002 })
    expect(returned).toMatchObject({ late: [row(1_999, "late"), row(2_000, "late")], outputs: ["b"], watermark: 2_000 })
    expect((await kit.turn([row(9_000)], { from: left })).watermark).toBe(2_500)
    expect((await kit.turn([row(4_000)], { from: right })).watermark).toBe(4_000)
  })

  test("the watermark stays when an input returns behind it (W6, W1)", async () => {
    await using kit = await harness(union())
    await kit.turn([row(2_000)], { from: left, now: 60_001 })
    expect(await kit.turn([row(10, "b")], { from: right })).toMatchObject({ watermark: 2_000, late: [row(10, "b")] })
    expect((await kit.turn([row(3_000)], { from: left })).watermark).toBe(2_000)
  })

  test("the only input being idle moves nothing (W6, W7)", async () => {
    await using kit = await harness(union())
    await kit.turn([row(1_000)], { from: left })
    await kit.turn([row(900, "b")], { from: right })
    expect(await kit.advanceTo(315_360_000_000)).toMatchObject({ watermark: 900, outputs: [] })
  })
})

describe("advanceWhenIdle", () => {
  const single = (options: WatermarkOptions<Row>) =>
    job("single")
      .from(left)
      .withWatermark(({ at }) => at, 100, options)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>(), timeout: "event-time" }, (key, events, state) => {
        if (!state.hasTimedOut) state.setTimeoutTimestamp(Math.max(...events.map(({ at }) => at)), "30 seconds")
        return `${key}${state.hasTimedOut ? "!" : ""}`
      })
      .to()

  test("when everything is idle, watermark = newest event time + wall time since the last row - delay (W7)", async () => {
    await using kit = await harness(single({ advanceWhenIdle: true }))
    expect((await kit.turn([row(5_000), row(4_950)], { now: 1_000 })).watermark).toBe(4_900)
    expect(await kit.advanceTo(61_000)).toMatchObject({ watermark: 4_900, outputs: [] })
    expect(await kit.advanceTo(61_001)).toMatchObject({ watermark: 5_000 + 60_001 - 100, outputs: ["a!"] })
    expect((await kit.advanceTo(100_000)).watermark).toBe(5_000 + 99_000 - 100)
  })

  test("it goes by idleAfter, and by the last row, across a restart (W7)", async () => {
    await using kit = await harness(single({ advanceWhenIdle: true, idleAfter: "10 seconds" }))
    await kit.turn([row(5_000)], { now: 0 })
    await kit.turn([row(4_999)], { now: 8_000 })
    expect((await kit.advanceTo(18_000)).watermark).toBe(4_900)
    expect((await kit.advanceTo(18_001)).watermark).toBe(5_000 + 10_001 - 100)
    await kit.restart()
    expect(kit.watermark).toBe(14_901)
    expect((await kit.advanceTo(40_000)).watermark).toBe(5_000 + 32_000 - 100)
  })

  test("a row that comes back below it is late, and it does not go back (W7, W3)", async () => {
    await using kit = await harness(single({ advanceWhenIdle: true }))
    await kit.turn([row(5_000)], { now: 0 })
    await kit.advanceTo(100_000)
    const watermark = 5_000 + 100_000 - 100
    expect(await kit.turn([row(50_000, "b")])).toMatchObject({ watermark, late: [row(50_000, "b")] })
    expect((await kit.turn([row(watermark + 101, "b")])).watermark).toBe(watermark + 1)
  })

  test("it is off by default (W7)", async () => {
    await using kit = await harness(single({}))
    await kit.turn([row(5_000)])
    expect(await kit.advanceTo(10_000_000)).toMatchObject({ watermark: 4_900, outputs: [] })
  })

  test("before the first row there is nothing to go on from (W7)", async () => {
    await using kit = await harness(single({ advanceWhenIdle: true }))
    expect((await kit.advanceTo(10_000_000)).watermark).toBe(0)
  })
})
