// Goal: timeouts reach from 1 ms to 10 years ahead (T3) and fire in order of timeoutAt, then key bytes, however many are due (T4).
// Method: the virtual clock; then a seeded script of turns, restarts and clocks against a plain Map that knows who is due. Rerun with SEED=<n>.
import fc from "fast-check"
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

const seed = Number(process.env["SEED"] ?? 1)

interface Row {
  readonly key: string
  /** Event time, in jobs that have one. */
  readonly at: number
  /** When the timeout is to fire; 0: none. */
  readonly timeoutAt: number
}
const row = (key: string, timeoutAt: number, at = 1): Row => ({ key, timeoutAt, at })
const rows = topic("rows", { codec: json<Row>(), key: ({ key }) => key })

interface Call {
  readonly key: string
  readonly timedOut: boolean
  readonly clock: number
}

const processing = async (calls: Call[]) =>
  harness(
    job("lab")
      .from(rows)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (key, events, state) => {
        const clock = state.getCurrentProcessingTimeMs()
        calls.push({ key, timedOut: state.hasTimedOut, clock })
        const timeoutAt = events.at(-1)?.timeoutAt ?? 0
        if (timeoutAt > clock) state.setTimeoutDuration(timeoutAt - clock)
        return []
      })
      .to()
  )

const event = async (calls: Call[]) =>
  harness(
    job("lab")
      .from(rows)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, (key, events, state) => {
        calls.push({ key, timedOut: state.hasTimedOut, clock: state.getCurrentWatermarkMs() })
        const timeoutAt = events.at(-1)?.timeoutAt ?? 0
        if (timeoutAt > 0) state.setTimeoutTimestamp(timeoutAt)
        return []
      })
      .to()
  )

const tenYears = 10 * 366 * 86_400_000

describe("distance", () => {
  test.each([1, 2 ** 31 - 1, 2 ** 31, 2 ** 32, tenYears])("%d ms ahead fires one ms later, not before and once (T3)", async (ahead) => {
    const now = 1_760_000_000_000
    const calls: Call[] = []
    await using kit = await processing(calls)
    await kit.turn([row("a", now + ahead)], { now })
    await kit.advanceTo(now + ahead)
    expect(calls).toHaveLength(1)
    await kit.advanceTo(now + ahead + 1)
    await kit.advanceTo(now + ahead + 2)
    expect(calls.slice(1)).toEqual([{ key: "a", timedOut: true, clock: now + ahead + 1 }])
  })

  test("ten years ahead in event time too (T3)", async () => {
    const calls: Call[] = []
    await using kit = await event(calls)
    await kit.turn([row("a", tenYears)])
    await kit.turn([row("b", 0, tenYears)])
    expect(calls).toHaveLength(2)
    await kit.turn([row("b", 0, tenYears + 1)])
    expect(calls.at(-1)).toEqual({ key: "a", timedOut: true, clock: tenYears + 1 })
  })
})

// In UTF-8 U+FF5E comes before U+1F600; in UTF-16 code units it comes after.
const tilde = "\uff5e"
const face = "\u{1f600}"
const byBytes = (left: string, right: string): number => Buffer.compare(Buffer.from(left), Buffer.from(right))

describe("order", () => {
  test("keys that are due at the same time fire in the order of their bytes, not of their UTF-16 (T4)", async () => {
    const calls: Call[] = []
    await using kit = await processing(calls)
    const keys = [face, "b", tilde, "\u00e9", "B", "a", "aa", "\ue000", `a${face}`, `a${tilde}`, "10", "9"]
    await kit.turn(keys.map((key) => row(key, 100)))
    await kit.advanceTo(101)
    const fired = calls.filter(({ timedOut }) => timedOut).map(({ key }) => key)
    expect(fired).toEqual(keys.toSorted(byBytes))
    expect(fired.indexOf(tilde)).toBeLessThan(fired.indexOf(face))
  })

  test("timeoutAt comes before key bytes, in event time too (T4)", async () => {
    for (const make of [processing, event]) {
      const calls: Call[] = []
      await using kit = await make(calls)
      await kit.turn([row("a", 30), row("b", 10), row(face, 20), row(tilde, 20), row("c", 10)])
      await kit.turn([row("z", 0, 31)], { now: 31 })
      expect(calls.filter(({ timedOut }) => timedOut).map(({ key }) => key)).toEqual(["b", "c", tilde, face, "a"])
    }
  })

  const count = 10_500
  const many = Array.from({ length: count }, (_, index) => row(`k${(index * 7_919) % count}`, 1 + ((index * 31) % 1_000)))
  const inOrder = many.toSorted((left, right) => left.timeoutAt - right.timeoutAt || byBytes(left.key, right.key)).map(({ key }) => key)

  test(`${count} due processing-time timeouts fire in order, at one clock, after the turn's data and before the next turn's (T4, G2)`, async () => {
    const calls: Call[] = []
    await using kit = await processing(calls)
    await kit.turn(many)
    calls.length = 0
    await kit.turn([row("data", 0)], { now: 5_000 })
    expect(calls[0]).toEqual({ key: "data", timedOut: false, clock: 5_000 })
    expect(calls.slice(1).map(({ key }) => key)).toEqual(inOrder)
    expect(new Set(calls.map(({ clock }) => clock))).toEqual(new Set([5_000]))
    calls.length = 0
    await kit.advanceTo(6_000)
    expect(calls).toEqual([])
  })

  test(`${count} due event-time timeouts fire in order, at one watermark (T4, G2)`, async () => {
    const calls: Call[] = []
    await using kit = await event(calls)
    await kit.turn(many)
    calls.length = 0
    await kit.turn([row("data", 0, 5_000)])
    expect(calls.slice(1).map(({ key }) => key)).toEqual(inOrder)
    expect(new Set(calls.slice(1).map(({ clock }) => clock))).toEqual(new Set([5_000]))
  })
})

interface Step {
  readonly after: number
  readonly restart: boolean
  readonly rows: readonly { readonly key: string; readonly ahead: number }[]
}
const steps = fc.array(
  fc.record({
    after: fc.nat({ max: 12 }),
    restart: fc.boolean(),
    rows: fc.array(fc.record({ key: fc.constantFrom("a", "b", face, tilde), ahead: fc.nat({ max: 10 }) }), { maxLength: 4 })
  }),
  { maxLength: 12 }
)

/** What must be called, by the rules: data first, then what is due and has no data, by timeoutAt and key bytes. */
const expectedCalls = (script: readonly Step[]): Call[] => {
  const armed = new Map<string, number>()
  const calls: Call[] = []
  let clock = 0
  for (const step of script) {
    clock += step.after
    const data = new Map(step.rows.map(({ key, ahead }) => [key, ahead]))
    const due = [...armed].filter(([key, timeoutAt]) => timeoutAt < clock && !data.has(key))
    for (const [key, ahead] of data) {
      calls.push({ key, timedOut: false, clock })
      if (ahead === 0) armed.delete(key)
      else armed.set(key, clock + ahead)
    }
    due.sort(([left, leftAt], [right, rightAt]) => leftAt - rightAt || byBytes(left, right))
    for (const [key] of due) {
      calls.push({ key, timedOut: true, clock })
      armed.delete(key)
    }
  }
  return calls
}

test(`any script of rows, clocks and restarts calls whom the rules say, in their order (G1, G6, G8, G10, T1, T2, T4; SEED=${seed})`, async () => {
  const property = fc.asyncProperty(steps, async (script) => {
    const calls: Call[] = []
    await using kit = await processing(calls)
    let now = 0
    for (const step of script) {
      now += step.after
      if (step.restart) await kit.restart()
      await kit.turn(
        step.rows.map(({ key, ahead }) => row(key, ahead === 0 ? 0 : now + ahead)),
        { now }
      )
    }
    expect(calls).toEqual(expectedCalls(script))
  })
  await fc.assert(property, { seed, numRuns: 200 })
})

const timedSteps = fc.array(
  fc.record({
    restart: fc.boolean(),
    rows: fc.array(
      fc.record({ key: fc.constantFrom("a", "b", face, tilde), at: fc.integer({ min: -3, max: 12 }), ahead: fc.nat({ max: 8 }) }),
      {
        maxLength: 4
      }
    )
  }),
  { maxLength: 12 }
)

/** Event time by the rules, for one input without delay: what is called, what is late, where the watermark is. */
class EventTimeModel {
  readonly calls: Call[] = []
  readonly armed = new Map<string, number>()
  watermark = 0

  turn(events: readonly Row[]): Row[] {
    const late = events.filter(({ at }) => at <= this.watermark)
    const data = new Map(events.filter(({ at }) => at > this.watermark).map((event) => [event.key, event.timeoutAt]))
    for (const [key, timeoutAt] of data) {
      this.calls.push({ key, timedOut: false, clock: this.watermark })
      this.armed.delete(key)
      if (timeoutAt > 0) this.armed.set(key, timeoutAt)
    }
    this.watermark = Math.max(this.watermark, ...events.map(({ at }) => at))
    const due = [...this.armed].filter(([, timeoutAt]) => timeoutAt < this.watermark)
    due.sort(([left, leftAt], [right, rightAt]) => leftAt - rightAt || byBytes(left, right))
    for (const [key] of due) {
      this.calls.push({ key, timedOut: true, clock: this.watermark })
      this.armed.delete(key)
    }
    return late
  }
}

test(`any script of event times and restarts calls whom the rules say, in their order (W1-W4, G2, G6, G8, G10, G11, T4; SEED=${seed})`, async () => {
  const property = fc.asyncProperty(timedSteps, async (script) => {
    const calls: Call[] = []
    const model = new EventTimeModel()
    await using kit = await event(calls)
    for (const step of script) {
      if (step.restart) await kit.restart()
      const from = model.watermark
      // A timeout at the watermark itself is legal (G14).
      const events = step.rows.map(({ key, at, ahead }) => row(key, ahead === 0 ? 0 : Math.max(1, from + ahead - 1), from + at))
      const late = model.turn(events)
      expect(await kit.turn(events)).toMatchObject({ late, dead: [], watermark: model.watermark })
      expect(kit.keys()).toEqual([...model.armed.keys()].sort(byBytes))
    }
    expect(calls).toEqual(model.calls)
  })
  await fc.assert(property, { seed, numRuns: 300 })
})
