// Goal: simulate() passes what is right, finds what is not, and says how to see it again.
// Method: small jobs, right ones and ones with a planted fault: a function that remembers outside its state, that reads the clock, that rolls
// dice, that depends on the cuts between turns.
import { foreachTurn, type GroupState, job, KeyfoldError, topic } from "keyfold"
import { sessionize } from "keyfold/actors/sessionize"
import { json } from "keyfold/codecs/json"
import { type SimulateOptions, simulate } from "keyfold/testing"
import { describe, expect, test } from "vitest"

interface Click {
  readonly user: string
  readonly at: number
}

interface Seen {
  readonly user: string
  readonly count: number
}

const clicks = topic("clicks", { codec: json<Click>(), key: ({ user }) => user })
const seen = topic("seen", { codec: json<Seen>(), key: ({ user }) => user })

const events = Array.from({ length: 60 }, (_, index): Click => ({ user: `user ${index % 5}`, at: 1_700_000_000_000 + index * 1_000 }))

const jobOf = (run: (user: string, found: readonly Click[], state: GroupState<number>) => Iterable<Seen>) =>
  job("seen").from(clicks).groupByKey().flatMapGroupsWithState({ state: json<number>() }, run).to(seen)

const right = jobOf(function* (user, found, state) {
  let count = state.getOption() ?? 0
  for (const _ of found) yield { user, count: ++count }
  state.update(count)
})

const refusal = async (attempt: Promise<unknown>): Promise<KeyfoldError> => {
  const thrown: unknown = await attempt.then(
    () => undefined,
    (error: unknown) => error
  )
  expect(thrown).toBeInstanceOf(KeyfoldError)
  return thrown as KeyfoldError
}

describe("simulate", () => {
  test("what is right holds, and the report says what was tried", async () => {
    const report = await simulate(right, { events, seeds: 12 })
    expect(report.seeds).toBe(12)
    expect(report.steps).toBeGreaterThan(12 * 500)
    expect(Object.keys(report.faults).length).toBeGreaterThan(8)
  })

  test("event time, timeouts and a shuffle hold", async () => {
    const sessions = topic("sessions", { codec: json<{ key: string }>(), key: ({ key }) => key })
    const sessionizing = job("sessions")
      .from(clicks)
      .withWatermark(({ at }) => at, "10 seconds")
      .groupByKey(({ user }): string => user.slice(-1))
      .actor(sessionize<string, Click>({ gap: "3 seconds", eventTime: ({ at }) => at }))
      .to(sessions)
    await simulate(sessionizing, { events, seeds: 6 })
  })

  test("state outside the state is found", async () => {
    const counts = new Map<string, number>()
    const wrong = jobOf(function* (user, found) {
      for (const _ of found) {
        counts.set(user, (counts.get(user) ?? 0) + 1)
        yield { user, count: counts.get(user) as number }
      }
    })
    const { code, message } = await refusal(simulate(wrong, { events }))
    expect(code).toBe("function-failed")
    expect(message).toMatch(/differ between two runs in which nothing goes wrong.*variables outside its state/s)
  })

  test("a cache that outlives a failed turn is found, with the seed and the faults that it takes", async () => {
    let world: unknown
    let counts = new Map<string, number>()
    const wrong = jobOf(function* (user, found, state) {
      // Begins anew with each simulated world, as a process would; but what a worker has done in vain stays in it.
      if (world !== Math.random) {
        world = Math.random
        counts = new Map()
      }
      let count = Math.max(counts.get(user) ?? 0, state.getOption() ?? 0)
      for (const _ of found) yield { user, count: ++count }
      counts.set(user, count)
      state.update(count)
    })
    const { code, message } = await refusal(simulate(wrong, { events, seeds: 60 }))
    expect(code).toBe("function-failed")
    expect(message).toMatch(/^seed \d+: the job's results are not those of a run in which nothing goes wrong: seen lacks /)
    expect(message).toMatch(/\n {2}\d+ ms: \w+/)
    const seed = Number(/^seed (\d+)/.exec(message)?.[1])
    const again = await refusal(simulate(wrong, { events, seed, seeds: 1 }))
    expect(again.message, "the same seed says the same").toBe(message)
  })

  test("the clock and chance are found", async () => {
    for (const count of [() => Date.now(), () => Date.parse(new Date().toISOString()), () => Math.random()]) {
      const wrong = jobOf((user) => [{ user, count: count() }])
      const { message } = await refusal(simulate(wrong, { events: events.slice(0, 5) }))
      expect(message).toMatch(/depends on the clock, on chance/)
    }
    expect(Math.abs(Date.now() - performance.timeOrigin - performance.now()), "they are the real ones again").toBeLessThan(60_000)
    expect(new Date()).toBeInstanceOf(Date)
  })

  test("results per call depend on the cuts: the last of each key does not", async () => {
    const updating = jobOf((user, found, state) => {
      const count = (state.getOption() ?? 0) + found.length
      state.update(count)
      return [{ user, count }]
    })
    const { message } = await refusal(simulate(updating, { events, seeds: 1 }))
    expect(message).toMatch(/compare: "last"/)
    await simulate(updating, { events, seeds: 6, compare: "last" })
  })

  test("what cannot be simulated is refused", async () => {
    const own = job("own")
      .from(clicks)
      .to(foreachTurn("own", async () => undefined))
    expect((await refusal(simulate(own, { events }))).code).toBe("unsupported-operation")
    const wrong = (options: Partial<SimulateOptions<Click>>) => refusal(simulate(right, { events, ...options }))
    expect(await wrong({ seed: 0.5 })).toMatchObject({ code: "option-invalid", message: "seed must be a whole number, got 0.5" })
    expect(await wrong({ seeds: 0 })).toMatchObject({ code: "option-invalid" })
    expect(await wrong({ compare: "some" as "all" })).toMatchObject({ code: "option-invalid" })
    expect(await wrong({ faults: ["earthquake" as "crash"] })).toMatchObject({
      message: expect.stringMatching(/the faults are crash, pause/)
    })
    expect(await wrong({ from: () => seen as never })).toMatchObject({ message: "the job does not read seen" })
  })
})
