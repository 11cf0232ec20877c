// Goal: whatever is done to workers, servers and connections, and all of it at once, each session comes out once, in order. And the checker
// that says so finds whatever may be wrong with results, and the model that it believes is right.
// Method: the true results of a few thousand visits are handed to the checker, and then the same with one lost, doubled, swapped and so on.
// With KEYFOLD_TEST=full a minute of chaos (chaos.ts) on real servers: rerun with SEED=<n>, or longer with `npm run chaos`.
import { describe, expect, test } from "vitest"
import { testOnOwnServers } from "../fixtures/cluster.ts"
import { randomFrom } from "../fixtures/random.ts"
import { seedOr } from "../fixtures/world.ts"
import { inOrder, type TrueSession, trueSessions } from "../reference/sessions.ts"
import { runChaos } from "./chaos.ts"
import { Checker, type StoredResult } from "./checker.ts"
import { faults } from "./faults.ts"
import { planFaults } from "./plan.ts"
import { longestDuring, standstills } from "./standstill.ts"
import type { Rule } from "./verdict.ts"
import { SequentialSessions, Visits } from "./visits.ts"

const seed = 7
const visits = new Visits(seed)
const visited = [...Array.from({ length: 200 }, () => visits.parcel()).flat(), ...visits.finale().flat()]

const modelled = (): readonly TrueSession[] => {
  const model = new SequentialSessions()
  return [...visited.flatMap((request) => model.add(request)), ...model.close()]
}

/** As a worker would store them: numbered by group, in two streams with a writer each. */
const stored = (sessions: readonly TrueSession[]): StoredResult[] => {
  const streams = new Map<string, number>()
  const groups = new Map<string, number>()
  const next = (of: Map<string, number>, name: string): number => {
    of.set(name, (of.get(name) ?? 0) + 1)
    return of.get(name) as number
  }
  return sessions.map((session) => {
    const group = session.key.slice(0, 2)
    const stream = `numbered-${Number.parseInt(group, 16) % 2}`
    const position = next(streams, stream)
    return { stream, position, writer: "w", number: position, value: { ...session, group, number: next(groups, group) } }
  })
}

/** What it says of these results; of a session it hears first from the model, or from the topic. */
const rulesBrokenBy = (results: readonly StoredResult[], modelFirst = true): readonly Rule[] => {
  const broken: Rule[] = []
  const checker = new Checker((rule) => broken.push(rule))
  const expectAll = (): void => {
    for (const session of modelled()) checker.expect(session)
  }
  if (modelFirst) expectAll()
  for (const result of results) checker.see(result)
  if (!modelFirst) expectAll()
  checker.end()
  return broken
}

const at = 1_000
const truth = stored(modelled())

describe(`the model (SEED=${seed})`, () => {
  test("has the sessions that sorting finds", () => {
    const events = visited.map((request) => ({ key: request.readerId, at: request.at, gapMs: 1_800_000 }))
    expect(inOrder(modelled())).toEqual(trueSessions(events))
    expect(truth.length).toBeGreaterThan(4_000)
    expect(Math.max(...truth.map(({ value }) => value.count))).toBeGreaterThan(3)
  })

  test("has no request that could be late: a parcel is shorter than the watermark delay", () => {
    const parcels = Array.from({ length: 1_000 }, () => visits.parcel())
    expect(Math.max(...parcels.map((parcel) => (parcel.at(-1)?.at ?? 0) - (parcel[0]?.at ?? 0)))).toBeLessThan(30_000)
  })

  test("comes again from the same seed", () => {
    expect(new Visits(seed).parcel()).toEqual(visited.slice(0, 50))
    expect(new Visits(seed + 1).parcel()).not.toEqual(visited.slice(0, 50))
  })
})

describe("the checker", () => {
  test.each([true, false])("has nothing to say of the true results (model first: %s)", (modelFirst) => {
    expect(rulesBrokenBy(truth, modelFirst)).toEqual([])
  })

  test("finds a result that is lost", () => {
    const lost = stored(modelled().toSpliced(at, 1))
    expect(rulesBrokenBy(lost)).toContain("lost")
    expect(rulesBrokenBy(lost, false)).toEqual(["lost"])
  })

  test("finds a result that was worked out twice", () => {
    const [session] = modelled().slice(at, at + 1) as [TrueSession]
    expect(rulesBrokenBy(stored(modelled().toSpliced(at + 500, 0, session)))).toContain("doubled")
    expect(rulesBrokenBy(stored(modelled().toSpliced(at, 0, session)), false)).toEqual(["doubled"])
  })

  test("finds two results of a reader that changed places", () => {
    const sessions = [...modelled()]
    const second = sessions.findIndex(({ key }, index) => index > at && sessions.slice(at, index).some((session) => session.key === key))
    const first = sessions.findLastIndex(({ key }, index) => index < second && key === sessions[second]?.key)
    expect(second).toBeGreaterThan(at)
    const swapped = sessions.with(first, sessions[second] as TrueSession).with(second, sessions[first] as TrueSession)
    expect(new Set(rulesBrokenBy(stored(swapped)))).toEqual(new Set(["disordered"]))
    expect(rulesBrokenBy(stored(swapped), false)).toContain("doubled") // it was not known yet that both would come
  })

  test("finds a result that is wrong, and one that should not be", () => {
    const [session] = modelled().slice(at, at + 1) as [TrueSession]
    expect(rulesBrokenBy(stored(modelled().with(at, { ...session, count: session.count + 1 })))).toEqual(["altered"])
    expect(rulesBrokenBy(stored([...modelled(), { key: "00nobody", start: 1, end: 2, count: 2 }]))).toEqual(["altered"])
  })

  test("P17: finds a copy and a gap in a stream", () => {
    const result = truth[at] as StoredResult
    expect(rulesBrokenBy(truth.toSpliced(at + 1, 0, result))).toEqual(["copied"])
    expect(new Set(rulesBrokenBy(truth.toSpliced(at, 1), false))).toEqual(new Set(["skipped", "miscounted", "lost"]))
  })

  test("finds a state that has counted one twice", () => {
    const counted = truth.map((result, index) =>
      index < at ? result : { ...result, value: { ...result.value, number: (result.value.number as number) + 1 } }
    )
    expect(new Set(rulesBrokenBy(counted))).toEqual(new Set(["miscounted"]))
  })
})

describe("the plan of faults", () => {
  const extent = { seed, ms: 20 * 60_000, seats: 4, workers: 3 }

  test("follows from the seed, and has every fault in its share", () => {
    const plan = planFaults(faults, extent)
    expect(planFaults(faults, extent)).toEqual(plan)
    expect(planFaults(faults, { ...extent, seed: seed + 1 })).not.toEqual(plan)
    expect(new Set(plan.map(({ fault }) => fault.name))).toEqual(new Set(faults.map(({ name }) => name)))
  })

  test.each(Array.from({ length: 20 }, (_, index) => index))(
    "gives nothing two faults at a time, and not everybody leaves (seed %i)",
    (seed) => {
      const workers = [true, true, true, false]
      const freeAtMs = new Map<string, number>()
      for (const { fault, seat, atMs, ms, holds } of planFaults(faults, { ...extent, seed })) {
        for (const thing of holds) {
          expect(freeAtMs.get(thing) ?? 0).toBeLessThanOrEqual(atMs)
          freeAtMs.set(thing, atMs + ms)
        }
        if (seat >= 0) expect(workers[seat], fault.name).toBe(fault.target !== "newcomer")
        if (fault.target === "leaver" || fault.target === "newcomer") workers[seat] = fault.target === "newcomer"
        expect(workers.filter(Boolean).length).toBeGreaterThanOrEqual(2)
      }
    }
  )
})

test("standstills are between results, the longest first, and each meets the faults that it overlaps", () => {
  const found = standstills("s", [500, 100, 130, 990, 5_000], { fromMs: 90, toMs: 1_000 })
  expect(found.slice(0, 3)).toEqual([
    { where: "s", fromMs: 500, toMs: 990 },
    { where: "s", fromMs: 130, toMs: 500 },
    { where: "s", fromMs: 100, toMs: 130 }
  ])
  expect(longestDuring(found, [{ fromMs: 150, toMs: 160 }])).toBe(370)
  expect(longestDuring(found, [{ fromMs: 2_000, toMs: 2_100 }])).toBe(0)
  const random = randomFrom(seed)
  const times = Array.from({ length: 100 }, () => random() * 1_000)
  const all = standstills("s", times, { fromMs: 0, toMs: 1_000 })
  expect(all.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0)).toBeCloseTo(1_000)
})

if (process.env["KEYFOLD_TEST"] === "full") {
  const seed = seedOr(20_140_112)

  testOnOwnServers(`a minute of chaos: everything holds (SEED=${seed})`, { timeout: 8 * 60_000 }, async () => {
    const said: string[] = []
    const { holds, report } = await runChaos({ minutes: 1, seed, workers: 3, say: (line) => said.push(line) })
    expect(holds, `${report}\n${said.at(-1)}`).toBe(true)
    expect(report).toMatch(/\| faults +\| +[1-9]\d /)
  })
}
