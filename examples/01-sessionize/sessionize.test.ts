// Goal: the service of this folder does what its README says, and its log is as weblog.ts describes it.
// Method: what a user would write with keyfold/testing: turns of requests at times that the test sets, no server, no waiting.
// Rerun with SEED=<n>.
import type { Job } from "keyfold"
import { groupState, harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"
import byHand, { type OpenVisit, visitsOf } from "./by-hand.ts"
import { addsUp, describeOutcome, type Outcome } from "./outcome.ts"
import { checkRequest, type Request } from "./request.ts"
import sessionize, { lateRequests, type UserSession } from "./sessionize.ts"
import { weblog } from "./weblog.ts"

const seed = Number(process.env.SEED ?? 1)
const noon = Date.UTC(2026, 0, 5, 12)
const minutes = (count: number): number => noon + count * 60_000
const request = (userId: string, at: number, page = "/"): Request => ({ userId, at, page })

describe("the service", () => {
  test("writes a session once, when its user has been away for 30 minutes", async () => {
    await using service = await harness(sessionize)
    await service.turn([request("ada", minutes(0)), request("bob", minutes(1)), request("ada", minutes(20))])
    expect((await service.turn([request("bob", minutes(49))])).outputs).toEqual([
      { userId: "bob", start: minutes(1), end: minutes(1), requests: 1 }
    ])
    expect((await service.turn([request("bob", minutes(51))])).outputs).toEqual([
      { userId: "ada", start: minutes(0), end: minutes(20), requests: 2 }
    ])
  })

  test("takes requests that are less than 30 seconds out of order", async () => {
    await using service = await harness(sessionize)
    await service.turn([request("ada", minutes(30) + 20_000)])
    const { late } = await service.turn([request("ada", minutes(30)), request("ada", minutes(0) + 25_000)])
    expect(late).toEqual([request("ada", minutes(0) + 25_000)])
    expect(service.state("ada")).toMatchObject([{ start: minutes(30), end: minutes(30) + 20_000, count: 2 }])
  })

  test("sends what is too late to its topic, and what is no request to the dead letters", async () => {
    await using service = await harness(sessionize)
    await service.turn([request("ada", minutes(0))])
    const nonsense = [{ at: noon }, { userId: "ada", at: "yesterday" }] as unknown as readonly Request[]
    const result = await service.turn([request("bob", minutes(-1)), ...nonsense])
    expect(result.outputsOf(lateRequests)).toEqual([request("bob", minutes(-1))])
    expect(result.dead.map(({ code, message }) => `${code}: ${message}`)).toEqual([
      expect.stringContaining("userId (or readerId) must be a text, got nothing"),
      expect.stringContaining('at must be a time in milliseconds since 1970, as a number, got "yesterday"')
    ])
  })

  test("goes on after a restart as if nothing had been", async () => {
    await using service = await harness(sessionize)
    await service.turn([request("ada", minutes(0))])
    await service.restart()
    await service.turn([request("ada", minutes(10))])
    const { outputs } = await service.turn([request("bob", minutes(60))])
    expect(outputs).toEqual([{ userId: "ada", start: minutes(0), end: minutes(10), requests: 2 }])
    expect(service.keys()).toEqual(["bob"])
  })
})

describe("the service by hand", () => {
  test("knows the page that a visit began with", async () => {
    await using service = await harness(byHand)
    await service.turn([request("ada", minutes(0), "/news"), request("ada", minutes(30), "/basket"), request("ada", minutes(61), "/help")])
    const { outputs } = await service.turn([request("bob", minutes(92))])
    expect(outputs).toEqual([{ userId: "ada", start: minutes(61), end: minutes(61), requests: 1, landing: "/help" }])
  })

  test("its state function can be called like any function", () => {
    const state = groupState<OpenVisit>({ timeout: "event-time", watermark: noon })
    const closed = [...visitsOf("ada", [request("ada", minutes(1), "/news"), request("ada", minutes(40))], state)]
    expect(closed).toEqual([{ userId: "ada", start: minutes(1), end: minutes(1), requests: 1, landing: "/news" }])
    expect(state.get()).toEqual({ start: minutes(40), end: minutes(40), requests: 1, landing: "/" })
    expect(state.timeoutAt).toBe(minutes(70))
  })

  test("agrees with the ready-made actor on a log that is in order", async () => {
    const log = requestsOf(weblog({ seed, lines: 2_000 }).lines).sort((a, b) => a.at - b.at)
    const ready = await resultsOf(sessionize, log)
    const own = (await resultsOf(byHand, log)).map(({ userId, start, end, requests }) => ({ userId, start, end, requests }))
    expect(sorted(own)).toEqual(sorted(ready))
    expect(ready.length).toBeGreaterThan(100)
  })
})

describe("the web log", () => {
  const log = weblog({ seed, lines: 40_000 })

  test(`is the same for the same seed, and another for another (SEED=${seed})`, () => {
    expect(weblog({ seed, lines: 40_000 })).toEqual(log)
    expect(weblog({ seed: seed + 1, lines: 40_000 }).lines).not.toEqual(log.lines)
  })

  test("has the lines, rubbish and duplicates that it says it has", () => {
    const sound = requestsOf(log.lines)
    expect([log.lines.length, log.lines.length - sound.length]).toEqual([40_000, log.rubbish])
    // A line far too late stands in the log twice too.
    expect(log.duplicates + log.tooLate).toBeGreaterThan(0.9 * (sound.length - new Set(sound.map((row) => JSON.stringify(row))).size))
    expect([log.rubbish, log.duplicates, log.tooLate]).toEqual([40, 200, 2])
  })

  test("is less than 25 seconds out of order, but for the lines that are far too late", () => {
    let newestMs = 0
    const behind = requestsOf(log.lines).map(({ at }) => {
      newestMs = Math.max(newestMs, at)
      return newestMs - at
    })
    const farBehind = behind.filter((behindMs) => behindMs >= 25_000)
    expect(farBehind).toHaveLength(log.tooLate)
    expect(Math.min(...farBehind)).toBeGreaterThan(3_600_000)
    expect(Math.max(...behind.filter((behindMs) => behindMs < 25_000))).toBeGreaterThan(15_000)
  })

  test("goes through the service without a remainder: sessions, late and dead letters add up", async () => {
    await using service = await harness(sessionize)
    const rows = log.lines.flatMap(jsonOf)
    let counted = 0
    for (let from = 0; from < rows.length; from += 4_000) {
      const { outputs, late, dead } = await service.turn(rows.slice(from, from + 4_000))
      counted += sum(outputs) + late.length + dead.length
    }
    counted += sum((await service.turn([request("clock", endOfTime)])).outputs)
    expect([counted, service.keys()]).toEqual([rows.length, ["clock"]])
  })
})

describe("the outcome", () => {
  const outcome: Outcome = {
    sessions: [{ userId: "ada", start: noon, end: minutes(61), requests: 3 }],
    late: 2,
    dead: [{ code: "decode-failed", message: "at must be a time", bytes: Buffer.from("{}").toString("base64") }]
  }

  test("adds up when every line is in one place", () => {
    expect([addsUp(outcome, 6), addsUp(outcome, 7)]).toEqual([true, false])
    expect(describeOutcome(outcome, 6)).toContain("= 3 in sessions + 2 late + 1 bad: it adds up")
    expect(describeOutcome(outcome, 7)).toContain("is not 3 in sessions + 2 late + 1 bad")
  })

  test("can be shown when nothing came out", () => {
    expect(describeOutcome({ sessions: [], late: 0, dead: [] }, 0)).toMatch(/^ {2}sessions +0 /)
  })
})

const endOfTime = Date.UTC(2030, 0, 1)

const resultsOf = async <Out>(service: Job<Request, Out>, log: readonly Request[]): Promise<readonly Out[]> => {
  await using running = await harness(service)
  const outputs: Out[] = []
  for (let from = 0; from < log.length; from += 100) outputs.push(...(await running.turn(log.slice(from, from + 100))).outputs)
  return [...outputs, ...(await running.turn([request("clock", endOfTime)])).outputs]
}

const requestsOf = (lines: readonly string[]): Request[] => lines.flatMap(jsonOf).filter(isRequest)

/** The value of a line; none for a line that is no JSON. */
const jsonOf = (line: string): readonly Request[] => {
  try {
    return [JSON.parse(line)]
  } catch {
    return []
  }
}

const isRequest = (value: unknown): boolean => {
  try {
    return checkRequest(value) !== undefined
  } catch {
    return false
  }
}

const sum = (sessions: readonly UserSession[]): number => sessions.reduce((total, { requests }) => total + requests, 0)

const sorted = (sessions: readonly UserSession[]): readonly UserSession[] =>
  sessions.toSorted((a, b) => (a.userId < b.userId ? -1 : a.userId > b.userId ? 1 : a.start - b.start))
