// Goal: the service of this folder does what its README says, and its log is as weblog.ts describes it.
// Method: what a user would write with keyfold/testing: turns of requests at times that the test sets, no server, no waiting.
import { groupState, harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"
import { addsUp, describeOutcome, type Outcome } from "./outcome.ts"
import byHand, { landedSessions } from "./by-hand.ts"
import { checkRequest, type Request, userOf } from "./request.ts"
import sessionize, { lateRequests } from "./sessionize.ts"
import { weblog } from "./weblog.ts"

const noon = Date.UTC(2026, 0, 5, 12)
const minutes = (count: number): number => noon + count * 60_000
const request = (userId: string, at: number, page = "/"): Request => ({ userId, at, page })

describe("the service", () => {
  test("writes a session once, when its user has been away for 30 minutes", async () => {
    await using service = await harness(sessionize)
    await service.turn([request("ada", minutes(0)), request("bob", minutes(1)), request("ada", minutes(20))])
    expect((await service.turn([request("bob", minutes(49))])).outputs).toEqual([{ userId: "bob", start: minutes(1), end: minutes(1), requests: 1 }])
    expect((await service.turn([request("bob", minutes(51))])).outputs).toEqual([{ userId: "ada", start: minutes(0), end: minutes(20), requests: 2 }])
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
  test("knows the page that a session began with", async () => {
    await using service = await harness(byHand)
    await service.turn([request("ada", minutes(0), "/news"), request("ada", minutes(20), "/basket"), request("ada", minutes(51), "/")])
    const result = await service.turn([request("bob", minutes(90))])
    expect(result.outputsOf(landedSessions)).toEqual([{ userId: "ada", start: minutes(51), end: minutes(51), requests: 1, landing: "/" }])
  })
})
