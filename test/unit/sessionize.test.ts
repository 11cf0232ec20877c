// Goal: sessions are those that sorting the whole log gives (S2), each yielded once and as early as it may be (S3, W3, G8), and a key
// without an open session leaves nothing behind.
// Method: rows at the edges of the rules, then random logs against test/reference/sessions.ts, out of order within the watermark's delay,
// cut into random turns, with restarts. A row with gap 0 is in no session and so moves the watermark only: the "clock" below.
// Rerun with SEED=<n>.
import fc from "fast-check"
import { type Actor, type Duration, job, KeyfoldError, topic } from "keyfold"
import { type OpenSession, type Session, sessionize } from "keyfold/actors/sessionize"
import { json } from "keyfold/codecs/json"
import { groupState, harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"
import { inOrder, type TimedEvent, trueSessions } from "../reference/sessions.ts"

const seed = Number(process.env.SEED ?? 1)
const gapMs = 1_000
const delayMs = 500

interface Row {
  readonly key: string
  readonly at: number
  readonly gap: Duration
}

type RowActor = Actor<string, Row, readonly OpenSession[], Session<string>>

const rows = topic("rows", { codec: json<Row>(), key: (row) => row.key })
const lateRows = topic("late-rows", { codec: json<Row>(), key: (row) => row.key })
const eventTime = (row: Row): number => row.at

const ownGaps = (): RowActor => sessionize({ gap: (row: Row) => row.gap, eventTime })

const started = (actor: RowActor = ownGaps(), delay: Duration = delayMs) =>
  harness(
    job("sessions").from(rows).withWatermark(eventTime, delay, { late: lateRows }).groupByKey().actor(actor).to(topic("sessions", out))
  )

const out = { codec: json<Session<string>>(), key: (session: Session<string>) => session.key }

const row = (key: string, at: number, gap: Duration = gapMs): Row => ({ key, at, gap })
/** Moves the watermark to `watermark` and does nothing else. */
const clock = (watermark: number): Row => row("clock", watermark + delayMs, 0)
const session = (key: string, start: number, end: number, count: number): Session<string> => ({ key, start, end, count })

describe("which rows belong together (S2)", () => {
  const a = (start: number, end: number, count: number) => session("a", start, end, count)
  const cases: readonly (readonly [name: string, times: readonly number[], sessions: readonly Session<string>[]])[] = [
    ["a row that uses the gap up exactly joins", [2_000, 3_000], [a(2_000, 3_000, 2)]],
    ["one millisecond more begins the next", [2_000, 3_001], [a(2_000, 2_000, 1), a(3_001, 3_001, 1)]],
    ["the gap counts from the last row, not the first", [2_000, 2_900, 3_800, 4_700], [a(2_000, 4_700, 4)]],
    ["a row before the session extends it backwards", [3_000, 2_600], [a(2_600, 3_000, 2)]],
    ["a row between two sessions bridges them, touching both", [2_000, 4_000, 3_000], [a(2_000, 4_000, 3)]],
    [
      "a row between two sessions that it does not reach is a third",
      [2_000, 4_004, 3_002],
      [a(2_000, 2_000, 1), a(3_002, 3_002, 1), a(4_004, 4_004, 1)]
    ],
    ["rows of one time are all counted", [2_000, 2_000, 2_000], [a(2_000, 2_000, 3)]],
    ["fractions of a millisecond are floored (W8)", [2_000.9, 3_000.9], [a(2_000, 3_000, 2)]]
  ]

  test.each(cases)("in one turn: %s", async (_name, times, expected) => {
    await using sessions = await started()
    const { outputs } = await sessions.turn(times.map((at) => row("a", at)))
    const closed = await sessions.turn([clock(9_000)])
    expect([...outputs, ...closed.outputs]).toEqual(expected)
    expect(sessions.keys()).toEqual([])
  })

  test.each(cases)("a row a turn: %s", async (_name, times, expected) => {
    await using sessions = await started(ownGaps(), "5 seconds")
    for (const at of times) expect((await sessions.turn([row("a", at)])).late).toEqual([])
    const closed = await sessions.turn([row("clock", 20_000, 0)])
    expect(closed.outputs).toEqual(expected)
    expect(sessions.keys()).toEqual([])
  })

  test("keys are apart, and the sessions of a key come in order of start", async () => {
    await using sessions = await started()
    const rowsOfAll = [row("b", 5_000), row("a", 3_000), row("b", 2_000), row("a", 2_999), row("c", 3_500), row("b", 4_600)]
    const outputs = [...(await sessions.turn(rowsOfAll)).outputs, ...(await sessions.turn([clock(9_000)])).outputs]
    expect(outputs.filter(({ key }) => key === "b")).toEqual([session("b", 2_000, 2_000, 1), session("b", 4_600, 5_000, 2)])
    expect(inOrder(outputs).map(({ key }) => key)).toEqual(["a", "b", "b", "c"])
  })
})

describe("when a session is final", () => {
  test("at the first watermark that leaves no row time to join, and not a millisecond before (W3, G8)", async () => {
    await using sessions = await started()
    await sessions.turn([row("a", 2_000)])
    expect((await sessions.turn([clock(2_999)])).outputs).toEqual([])
    const joined = await sessions.turn([row("a", 3_000)]) // above the watermark of 2,999, so it was right to wait
    expect(joined).toMatchObject({ outputs: [], late: [] })
    expect((await sessions.turn([clock(3_999)])).outputs).toEqual([])
    expect((await sessions.turn([clock(4_000)])).outputs).toEqual([session("a", 2_000, 3_000, 2)])
  })

  test("a timeout call yields the final sessions and is armed again for the next", async () => {
    await using sessions = await started()
    const { outputs } = await sessions.turn([row("a", 2_000), row("a", 4_000), row("a", 6_000)]) // the watermark goes to 5,500
    expect(outputs).toEqual([session("a", 2_000, 2_000, 1), session("a", 4_000, 4_000, 1)])
    expect(sessions.state("a")).toEqual([{ start: 6_000, end: 6_000, closesAt: 7_000, count: 1 }])
    expect((await sessions.turn([clock(7_000)])).outputs).toEqual([session("a", 6_000, 6_000, 1)])
  })

  test("a data call yields what has become final too, before the key's timeout could (G10)", () => {
    const state = groupState<readonly OpenSession[]>({ timeout: "event-time", watermark: 3_000, value: [open(2_000, 3_000)] })
    expect([...ownGaps().run("a", [row("a", 5_000)], state, noContext)]).toEqual([session("a", 2_000, 2_000, 1)])
    expect(state.get()).toEqual([open(5_000, 6_000)])
    expect(state.timeoutAt).toBe(5_999)
  })

  test("a restart between two rows changes nothing (S3)", async () => {
    await using sessions = await started()
    await sessions.turn([row("a", 2_000), row("b", 2_500)])
    await sessions.restart()
    await sessions.turn([row("a", 2_800)])
    await sessions.restart()
    const { outputs } = await sessions.turn([clock(9_000)])
    expect(inOrder(outputs)).toEqual([session("a", 2_000, 2_800, 2), session("b", 2_500, 2_500, 1)])
    expect((await sessions.turn([clock(9_001)])).outputs).toEqual([])
  })

  test("a key whose sessions are closed leaves neither state nor timeout", async () => {
    await using sessions = await started()
    const keys = Array.from({ length: 200 }, (_, index) => `key-${index}`)
    await sessions.turn(keys.map((key, index) => row(key, 2_000 + index)))
    expect(sessions.keys()).toHaveLength(200)
    const { outputs, removed } = await sessions.turn([clock(9_000)])
    expect([outputs.length, removed.length, sessions.keys().length, sessions.state("key-0")]).toEqual([200, 200, 0, undefined])
  })
})

describe("the gap", () => {
  test.each([0, -1, "0 seconds"])("a row with a gap of %j is in no session and leaves nothing (S2)", async (gap) => {
    await using sessions = await started()
    const { outputs, dead, late } = await sessions.turn([row("a", 2_000, gap)])
    expect({ outputs, dead, late, keys: sessions.keys() }).toEqual({ outputs: [], dead: [], late: [], keys: [] })
  })

  test("a row with gap 0 does not keep an open session from closing (G6)", async () => {
    await using sessions = await started()
    await sessions.turn([row("a", 2_000)])
    await sessions.turn([row("a", 2_900, 0)])
    expect((await sessions.turn([clock(3_000)])).outputs).toEqual([session("a", 2_000, 2_000, 1)])
  })

  test("rows dropped for their gap are counted", () => {
    const counts = new Map<string, number>()
    const counter = (name: string) => ({ add: (n: number) => void counts.set(name, (counts.get(name) ?? 0) + n) })
    const context = { ...noContext, metrics: { ...noContext.metrics, counter } }
    const state = groupState<readonly OpenSession[]>({ timeout: "event-time", watermark: 0 })
    expect([...ownGaps().run("a", [row("a", 5, 0), row("a", 6), row("a", 7, -3)], state, context)]).toEqual([])
    expect(counts).toEqual(new Map([["sessionize.events.without.gap", 2]]))
  })

  test("a session stays open until the latest of its rows' times + gaps, not of its last row", async () => {
    await using sessions = await started()
    await sessions.turn([row("a", 2_000, "4 seconds"), row("a", 2_100, 10)])
    await sessions.turn([row("a", 6_000, 10)])
    expect((await sessions.turn([clock(6_009)])).outputs).toEqual([])
    expect((await sessions.turn([clock(6_010)])).outputs).toEqual([session("a", 2_000, 6_000, 3)])
  })

  test("a row inside a session that was not the last to be touched only counts", async () => {
    await using sessions = await started()
    await sessions.turn([row("a", 2_000, 3_000), row("a", 4_950, 1), row("a", 5_001, 1), row("a", 4_900, 1)])
    expect(sessions.state("a")).toEqual([
      { start: 2_000, end: 4_950, closesAt: 5_000, count: 3 },
      { start: 5_001, end: 5_001, closesAt: 5_002, count: 1 }
    ])
  })

  test("one gap for all rows may be a text or a number", async () => {
    for (const gap of [gapMs, "1 second", "interval 1000 milliseconds"]) {
      await using sessions = await started(sessionize({ gap, eventTime }))
      await sessions.turn([row("a", 2_000), row("a", 3_000), row("a", 4_001)])
      const { outputs } = await sessions.turn([row("b", 9_000)])
      expect(outputs).toEqual([session("a", 2_000, 3_000, 2), session("a", 4_001, 4_001, 1)])
    }
  })

  test("one gap of 0 for all rows drops all rows (S2)", async () => {
    await using sessions = await started(sessionize({ gap: 0, eventTime }))
    await sessions.turn([row("a", 2_000), row("a", 9_000)])
    expect(sessions.keys()).toEqual([])
  })

  test("a gap that is no duration fails the key's rows, and no other key's", async () => {
    await using sessions = await started()
    const { dead } = await sessions.turn([row("a", 2_000, "soon"), row("b", 2_000)])
    expect(dead).toMatchObject([{ code: "illegal-argument", key: "a", message: expect.stringContaining("the gap of sessionize") }])
    expect(sessions.keys()).toEqual(["b"])
  })
})

describe("late rows (W3)", () => {
  test("are dropped by default", async () => {
    await using sessions = await started()
    await sessions.turn([row("a", 2_000), clock(2_500)])
    const result = await sessions.turn([row("a", 2_500)])
    expect(result.outputsOf(lateRows)).toEqual([row("a", 2_500)])
    expect((await sessions.turn([clock(3_000)])).outputs).toEqual([session("a", 2_000, 2_000, 1)])
  })

  test("kept, they join what is open and never what was yielded", async () => {
    await using sessions = await started(sessionize({ gap: (event: Row) => event.gap, eventTime, late: "keep" }))
    await sessions.turn([row("a", 2_000), clock(2_500)])
    expect((await sessions.turn([row("a", 2_400)])).outputs).toEqual([]) // joins
    expect((await sessions.turn([clock(3_400)])).outputs).toEqual([session("a", 2_000, 2_400, 2)])
    expect((await sessions.turn([row("a", 2_300)])).outputs).toEqual([session("a", 2_300, 2_300, 1)]) // final at once
    expect((await sessions.turn([row("a", 3_300)])).outputs).toEqual([]) // still open: a row in time could touch it
    expect((await sessions.turn([clock(4_300)])).outputs).toEqual([session("a", 3_300, 3_300, 1)])
    expect(sessions.keys()).toEqual([])
  })

  test("kept at 0 or below, where no timeout can be set, they close all the same (G14)", async () => {
    await using sessions = await started(sessionize({ gap: (event: Row) => event.gap, eventTime, late: "keep" }))
    const { outputs, dead } = await sessions.turn([row("a", 0, 1), row("b", -50, 10)])
    expect({ outputs, dead }).toEqual({ outputs: [session("b", -50, -50, 1)], dead: [] })
    expect((await sessions.turn([clock(2)])).outputs).toEqual([session("a", 0, 0, 1)])
  })
})

describe("what it refuses", () => {
  const codeOf = (run: () => unknown): string | undefined => {
    try {
      run()
    } catch (thrown) {
      return thrown instanceof KeyfoldError ? thrown.code : undefined
    }
    return "nothing was refused"
  }

  test.each(["30 min", "-1 hour", Number.NaN, 1.5, undefined])("a gap of %s, at once (G15)", (gap) => {
    expect(codeOf(() => sessionize({ gap: gap as Duration, eventTime }))).toBe("illegal-argument")
  })

  test("an eventTime that is no function, at once", () => {
    expect(codeOf(() => sessionize({ gap: 1, eventTime: "at" as unknown as (row: Row) => number }))).toBe("option-invalid")
  })

  test("a stage without a watermark, when the job is built (G19)", () => {
    expect(codeOf(() => job("none").from(rows).groupByKey().actor(ownGaps()).to())).toBe("job-invalid")
  })

  test("an event time that is no number, when it comes (W8)", () => {
    const state = groupState<readonly OpenSession[]>({ timeout: "event-time", watermark: 0 })
    const run = ownGaps().run("a", [row("a", Number.NaN)], state, noContext)
    expect(codeOf(() => [...run])).toBe("event-time-invalid")
  })
})

describe("against the oracle", () => {
  test(`random logs, out of order, in random turns, with restarts, have the sessions that sorting gives (S2, S3, SEED=${seed})`, async () => {
    await fc.assert(
      fc.asyncProperty(anyLog, fc.array(anyCut, { minLength: 1, maxLength: 12 }), async (log, cuts) => {
        expect(await resultsOf(log, cuts)).toEqual(trueSessions(log))
      }),
      { seed, numRuns: 150 }
    )
  })

  test("a hot key's 50,000 rows in no order at all are one sort's work", () => {
    // Comparing each row with each open session would be 2,500,000,000 steps, which no time limit here would bear.
    const events = Array.from({ length: 50_000 }, (_, index) => row("a", 10 + ((index * 7_919) % 50_000) * 2, index % 2 === 0 ? 1 : 2))
    const state = groupState<readonly OpenSession[]>({ timeout: "event-time", watermark: 0 })
    expect([...ownGaps().run("a", events, state, noContext)]).toEqual([])
    const sessions = state.get().map(({ start, end, count }) => session("a", start, end, count))
    expect(sessions).toEqual(trueSessions(events.map(timed)))
  }, 5_000)
})

interface Cut {
  readonly count: number
  readonly restart: boolean
}

const anyCut: fc.Arbitrary<Cut> = fc.record({ count: fc.integer({ min: 1, max: 20 }), restart: fc.boolean() })

/** How far the random rows are out of order at most: enough to bridge sessions. It is the delay too, so that none is late. */
const disorderMs = 2_500

/** Time goes on in steps that are often just the gap or next to it. */
const anyLog: fc.Arbitrary<readonly TimedEvent[]> = fc
  .array(
    fc.record({
      key: fc.constantFrom("a", "b", "c"),
      stepMs: fc.constantFrom(0, 0, 1, gapMs / 2, gapMs - 1, gapMs, gapMs + 1, 2 * gapMs),
      behindMs: fc.oneof(fc.constant(0), fc.nat({ max: disorderMs - 1 })),
      gapMs: fc.constantFrom(gapMs, gapMs, gapMs, 1, 3 * gapMs, 0, -1)
    }),
    { maxLength: 80 }
  )
  .map((steps) => {
    let newestMs = disorderMs
    return steps.map(({ key, stepMs, behindMs, gapMs }) => {
      newestMs += stepMs
      return { key, at: newestMs - behindMs, gapMs }
    })
  })

/** What the job yields for a log in turns, `cuts` taken again and again; every session closed, nothing left behind, nothing late. */
const resultsOf = async (log: readonly TimedEvent[], cuts: readonly Cut[]): Promise<readonly Session<string>[]> => {
  await using sessions = await started(ownGaps(), disorderMs)
  const outputs: Session<string>[] = []
  let from = 0
  for (let turn = 0; from < log.length; turn++) {
    const { count, restart } = cuts[turn % cuts.length] as Cut
    const result = await sessions.turn(log.slice(from, from + count).map(({ key, at, gapMs }) => row(key, at, gapMs)))
    expect([...result.late, ...result.dead]).toEqual([])
    outputs.push(...result.outputs)
    if (restart) await sessions.restart()
    from += count
  }
  outputs.push(...(await sessions.turn([clock(1_000_000)])).outputs)
  expect(sessions.keys()).toEqual([])
  return inOrder(outputs)
}

const timed = ({ key, at, gap }: Row): TimedEvent => ({ key, at, gapMs: gap as number })

const open = (at: number, closesAt: number): OpenSession => ({ start: at, end: at, closesAt, count: 1 })

const nothing = (): void => undefined
const noContext = {
  partition: 0,
  logger: { debug: nothing, info: nothing, warn: nothing, error: nothing },
  metrics: { counter: () => ({ add: nothing }), histogram: () => ({ record: nothing }) },
  emitTo: nothing
}
