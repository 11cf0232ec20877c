// Goal: what is shown of a run and of a publish is right, fits the terminal, and is plain where nobody sees colours.
// Method: rows of figures with their lines.
import { describe, expect, test } from "vitest"
import { Meter } from "../../src/cli/meter.ts"
import { counted, lasting, plural, sized } from "../../src/cli/numerals.ts"
import { dotted, fitted, painted, plain, type Span } from "../../src/cli/painting.ts"
import { barSpans, type PublishFigures, progressSpans, publishSummary } from "../../src/cli/progress-bar.ts"
import { RateWindow, runSummary, type StatusFigures, statusSpans, watermarkText } from "../../src/cli/status.ts"
import type { Query } from "../../src/index.ts"

const text = (spans: readonly Span[]): string => painted(spans, false)

describe("numbers", () => {
  const counts: readonly (readonly [count: number, shown: string])[] = [
    [0, "0"],
    [999, "999"],
    [1_000, "1,000"],
    [1_234_567, "1,234,567"],
    [12.6, "13"]
  ]
  for (const [count, shown] of counts) test(`${count} events`, () => expect(counted(count)).toBe(shown))

  test("one is not many", () => expect([plural(0, "line"), plural(1, "line"), plural(2, "line")]).toEqual(["0 lines", "1 line", "2 lines"]))

  const sizes: readonly (readonly [bytes: number, shown: string])[] = [
    [0, "0 B"],
    [999, "999 B"],
    [1_000, "1.0 kB"],
    [9_949, "9.9 kB"],
    [9_950, "10 kB"],
    [999_499, "999 kB"],
    [999_500, "1.0 MB"],
    [5e15, "5000 TB"]
  ]
  for (const [bytes, shown] of sizes) test(`${bytes} bytes`, () => expect(sized(bytes)).toBe(shown))

  const times: readonly (readonly [ms: number, shown: string])[] = [
    [0, "0.0 s"],
    [9_949, "9.9 s"],
    [9_950, "10 s"],
    [59_400, "59 s"],
    [59_600, "1 min 00 s"],
    [185_000, "3 min 05 s"],
    [3_599_600, "1 h 00 min"],
    [7_620_000, "2 h 07 min"]
  ]
  for (const [ms, shown] of times) test(`${ms} ms`, () => expect(lasting(ms)).toBe(shown))
})

describe("painting", () => {
  const spans: readonly Span[] = dotted([plain("abc"), { text: "def", tone: "bad" }])

  test("colours only where they are wanted", () => {
    expect(painted(spans, false)).toBe("abc · def")
    expect(painted(spans, true)).toBe("abc\u001b[2m · \u001b[0m\u001b[31mdef\u001b[0m")
  })

  const widths: readonly (readonly [width: number, shown: string])[] = [
    [9, "abc · def"],
    [8, "abc · d…"],
    [4, "abc…"],
    [1, "…"],
    [0, ""],
    [-1, ""]
  ]
  for (const [width, shown] of widths) test(`cut to ${width} columns`, () => expect(text(fitted(spans, width))).toBe(shown))
})

const figures: StatusFigures = {
  events: 120_000,
  eventsPerSecond: 12_000.4,
  watermarkMs: 1_767_225_600_000,
  keys: 1,
  lag: 56,
  late: 3,
  dead: 0
}

describe("status of a run", () => {
  test("a line", () => {
    expect(text(statusSpans("sessionize", figures))).toBe(
      "sessionize  12,000 events/s · lag 56 · 1 key · 3 late · 0 dead · watermark 2026-01-01T00:00:00.000Z"
    )
  })

  test("what is not known yet", () => {
    expect(text(statusSpans("s", { ...figures, watermarkMs: undefined, lag: undefined }))).toContain(
      "lag ? · 1 key · 3 late · 0 dead · watermark -"
    )
  })

  test("dead letters and late events stand out", () => {
    const tones = statusSpans("s", { ...figures, dead: 1 }).map(({ tone }) => tone)
    expect(tones).toContain("bad")
    expect(tones).toContain("warn")
  })

  test("a summary", () => {
    expect(runSummary("sessionize", "drained", figures, 12_000)).toBe(
      "sessionize drained after 12 s: 120,000 events (10,000/s), watermark 2026-01-01T00:00:00.000Z, 1 key, 3 late, 0 dead"
    )
    expect(runSummary("s", "failed", { ...figures, watermarkMs: undefined }, 0)).toContain(": 120,000 events, watermark -,")
  })

  test("a watermark past the calendar is a number, not a crash", () => expect(watermarkText(1e16)).toBe("10000000000000000 ms"))
})

describe("rate", () => {
  test("is over the last moments, not over the whole run", () => {
    const rate = new RateWindow(1_000)
    expect(rate.perSecond).toBe(0)
    rate.add(0, 0)
    expect(rate.perSecond).toBe(0)
    rate.add(500, 500)
    expect(rate.perSecond).toBe(1_000)
    for (let atMs = 1_000; atMs <= 5_000; atMs += 500) rate.add(atMs, 500)
    expect(rate.perSecond).toBe(0)
  })
})

describe("meter", () => {
  const query = (over: object): Query => ({ isActive: true, ...over }) as unknown as Query
  const totals = { inputRows: 10, turns: 1, late: 1, bad: 2, outputs: 3, residentKeys: 4, watermarkMs: 50 }

  test("adds up the jobs and takes the smallest watermark", async () => {
    const meter = new Meter([
      query({ totals, lag: async () => 5 }),
      query({ totals: { ...totals, watermarkMs: undefined }, lag: async () => 6 })
    ])
    expect(meter.read(0)).toEqual({ events: 20, eventsPerSecond: 0, watermarkMs: 50, keys: 8, lag: undefined, late: 2, dead: 4 })
    await meter.askLag()
    expect(meter.read(0).lag).toBe(11)
  })

  test("a handle that counts nothing, and one whose sources do not answer, do no harm", async () => {
    const meter = new Meter([query({}), query({ lag: () => Promise.reject(new Error("ending")) })])
    await meter.askLag()
    expect(meter.read(0)).toMatchObject({ events: 0, lag: undefined, watermarkMs: undefined })
  })
})

const published: PublishFigures = { lines: 12_000, verbatim: 0, leftOut: 0, bytesRead: 500, bytesTotal: 1_000, elapsedMs: 3_000 }

describe("progress of a publish", () => {
  const rows: readonly (readonly [what: string, figures: PublishFigures, shown: string])[] = [
    ["half a file", published, "[############            ]  50 % · 3.0 s left · 4,000 lines/s · 12,000 lines"],
    ["nothing yet", { ...published, lines: 0, bytesRead: 0, elapsedMs: 0 }, `[${" ".repeat(24)}]   0 % · 0 lines/s · 0 lines`],
    ["a file that grew", { ...published, bytesRead: 2_000 }, `[${"#".repeat(24)}] 100 % · 0.0 s left · 4,000 lines/s · 12,000 lines`],
    ["an empty file", { ...published, lines: 0, bytesRead: 0, bytesTotal: 0 }, "0 lines/s · 0 lines · 0 B"],
    [
      "a pipe",
      { ...published, bytesTotal: undefined, verbatim: 2, leftOut: 1 },
      "4,000 lines/s · 12,000 lines · 500 B · 2 verbatim · 1 left out"
    ]
  ]
  for (const [what, at, shown] of rows) test(what, () => expect(text([...barSpans(at), ...progressSpans(at)])).toBe(shown))

  test("a summary says what was odd", () => {
    expect(publishSummary(published, "clicks")).toBe("published 12,000 lines to clicks in 3.0 s (4,000 lines/s)")
    expect(publishSummary({ ...published, verbatim: 1, leftOut: 2 }, "clicks")).toBe(
      "published 12,000 lines to clicks in 3.0 s (4,000 lines/s); 1 of them went to partition 0 byte for byte, being no value of clicks; 2 lines left out, too large for a record"
    )
  })
})
