// Goal: simulate() passes what is right, finds what is not, and says how to see it again.
// Method: small jobs, right ones and ones with a planted fault: a function that remembers outside its state, that reads the clock, that rolls
// dice, that depends on the cuts between turns, that throws; and calls that cannot be right.

import * as Effect from "effect/Effect"
import { foreachTurn, type GroupState, job, KeyfoldError, topic } from "keyfold"
import { sessionize } from "keyfold/actors/sessionize"
import { json } from "keyfold/codecs/json"
import { type SimulateOptions, simulate } from "keyfold/testing"
import { describe, expect, test } from "vitest"
import { connectorOf } from "../../src/ports.ts"
import { SimulatedCluster } from "../../src/simulation/cluster.ts"
import { faultKinds, faultsOf } from "../../src/simulation/faults.ts"
import { World } from "../../src/simulation/world.ts"

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

/** What a publisher would take on the simulated servers. */
const payloadBytesMaxOfSimulated = async (): Promise<number> => {
  const world = new World(1)
  const { process, runtime } = new SimulatedCluster(world, { leaseMs: 2_000, isLasting: true }).machine()
  let found = 0
  void process.run(Effect.scoped(Effect.map(connectorOf(runtime).client, ({ payloadBytesMax }) => (found = payloadBytesMax))))
  await world.run(() => found > 0, 60_000)
  return found
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
  })
})

describe("simulate tells of a job that fails by itself", () => {
  const few = events.slice(0, 10)
  const throwing = jobOf(() => {
    throw new Error("boom")
  })
  const throwingForOne = jobOf((user, found) => {
    if (user === "user 3") throw new Error("boom")
    return found.map(() => ({ user, count: 1 }))
  })

  test("always, or for some keys, with the first dead letter and how many there are", async () => {
    const always = await refusal(simulate(throwing, { events: few, seeds: 1 }))
    expect(always).toMatchObject({ code: "function-failed" })
    expect(always.message).toMatch(
      /though nothing goes wrong \(seed 1\): 10 dead letters, the first: function-failed: .*boom\. .*"expected"/
    )
    const sometimes = await refusal(simulate(throwingForOne, { events: few, seeds: 1 }))
    expect(sometimes).toMatchObject({ code: "function-failed", message: expect.stringContaining(": 2 dead letters, the first:") })
  })

  test("unless that is expected; dead letters alone are still nothing that came out", async () => {
    await simulate(throwingForOne, { events: few, seeds: 2, deadLetters: "expected" })
    const silent = await refusal(simulate(throwing, { events: few, seeds: 1, deadLetters: "expected" }))
    expect(silent).toMatchObject({ code: "option-invalid", message: expect.stringContaining("puts out nothing") })
  })

  test("a state that is a class, which json does not give back", async () => {
    class Tally {
      count = 0
      up(): number {
        this.count += 1
        return this.count
      }
    }
    const wrong = job("seen")
      .from(clicks)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<Tally>() }, function* (user, found, state) {
        const tally = state.getOption() ?? new Tally()
        for (const _ of found) yield { user, count: tally.up() }
        state.update(tally)
      })
      .to(seen)
    const { message } = await refusal(simulate(wrong, { events, seeds: 1 }))
    expect(message).toMatch(/the first: function-failed: the state function threw: tally\.up is not a function/)
  })

  test("only when something is tried again: the dead letter says more than the results that are missing", async () => {
    let world: unknown
    let known = new Set<number>()
    const wrong = jobOf((user, found) => {
      if (world !== Math.random) {
        world = Math.random
        known = new Set()
      }
      if (found.some(({ at }) => known.has(at))) throw new Error("I know this one")
      for (const { at } of found) known.add(at)
      return found.map(() => ({ user, count: 1 }))
    })
    const { message } = await refusal(simulate(wrong, { events, seeds: 60 }))
    expect(message).toMatch(
      /^seed \d+: .*: \d+ dead letters? instead of 0, too much: function-failed: .*I know this one\. It takes\n {2}\d+ ms/
    )
  })

  test("by stopping, in the words that the query stops with", async () => {
    const stopping = job("seen", { onError: "stop" })
      .from(clicks)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, (): Seen[] => {
        throw new Error("boom")
      })
      .to(seen)
    const { message } = await refusal(simulate(stopping, { events: few, seeds: 1 }))
    expect(message).toMatch(/\(seed 1\): the job stops with function-failed: the stage .* failed \(clicks, .*boom$/)
  })
})

describe("simulate and timeouts by processing time", () => {
  const timed = job("timed")
    .from(clicks)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, function* (user, found, state) {
      if (state.hasTimedOut) {
        yield { user, count: state.get() }
        state.remove()
        return
      }
      state.update((state.getOption() ?? 0) + found.length)
      state.setTimeoutDuration("30 seconds")
    })
    .to(seen)

  test.each([undefined, "40 seconds"] as const)("fire before anything is compared; rest %s", async (rest) => {
    await simulate(timed, { events: events.slice(0, 20), seeds: 3, ...(rest !== undefined && { rest }) })
  })

  test("that follow one another for ever are refused, unless somebody says for how long", async () => {
    const ticking = job("ticking")
      .from(clicks)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, function* (user, _, state) {
        if (!state.hasTimedOut) yield { user, count: 1 }
        state.update(1)
        state.setTimeoutDuration("1 minute")
      })
      .to(seen)
    const { message } = await refusal(simulate(ticking, { events: events.slice(0, 5), seeds: 1 }))
    expect(message).toMatch(/timeouts by processing time go on for more than 10 minutes.*`rest`/)
  })

  test("that a rest is too short for are named", async () => {
    const short = await refusal(simulate(timed, { events: events.slice(0, 5), seeds: 1, rest: 1_000 }))
    expect(short).toMatchObject({ code: "option-invalid", message: expect.stringMatching(/puts out nothing.*a longer `rest`/) })
  })
})

describe("simulate says when the fewest faults are not sure", () => {
  test("all of them are named then", async () => {
    const seed = [...Array(100).keys()].find((some) => faultsOf(some, { untilMs: 2_200, leaseMs: 2_000, kinds: faultKinds }).length > 4)
    let worlds = 0
    let world: unknown
    // Wrong from the third world to the fifth: the first one with faults, and two tries with fewer.
    const wrong = jobOf((user, found) => {
      if (world !== Math.random) {
        world = Math.random
        worlds += 1
      }
      return found.map(() => ({ user, count: worlds > 2 && worlds < 6 ? 2 : 1 }))
    })
    const { message } = await refusal(simulate(wrong, { events: events.slice(0, 10), seed: seed as number, seeds: 1 }))
    expect(message).toMatch(/These are all faults of the seed: .* did not fail when they were tried once more/)
    const faults = message.match(/^ {2}\d+ ms: /gm) ?? []
    expect(faults.length).toBeGreaterThan(4)
    expect(worlds, "calm twice, all faults, without each of them, and the fewest once more").toBe(2 + 1 + faults.length + 1)
  })
})

describe("simulate refuses", () => {
  const wrong = (options: unknown) => refusal(simulate(right, options as SimulateOptions<Click>))

  test("what is no job, and what are no options", async () => {
    for (const none of [null, undefined, job("open").from(clicks)]) {
      expect(await refusal(simulate(none as never, { events }))).toMatchObject({ code: "illegal-argument" })
    }
    for (const none of [undefined, null, 5, events]) {
      expect(await wrong(none)).toMatchObject({ code: "option-invalid", message: expect.stringContaining("{ events }") })
    }
  })

  test("each option that cannot be, by its own name", async () => {
    const messages: readonly (readonly [unknown, string])[] = [
      [{}, "events must be an array, or something else to iterate over, of what the job reads, got undefined"],
      [{ events: 5 }, "events must be an array, or something else to iterate over, of what the job reads, got 5"],
      [{ events, seed: 0.5 }, "seed must be a whole number, got 0.5"],
      [{ events, seeds: "3" }, 'seeds must be a whole number from 1 on, got "3"'],
      [{ events, seeds: Number.NaN }, "seeds must be a whole number from 1 on, got NaN"],
      [{ events, seeds: 0 }, "seeds must be a whole number from 1 on, got 0"],
      [{ events, seed: Number.MAX_SAFE_INTEGER }, "seed and seeds come to more than 9007199254740991"],
      [{ events, from: clicks }, 'from must be a function from an event to the source that it comes from, got {"name":"clicks"'],
      [{ events, faults: "crash" }, 'faults must be an array of what may go wrong, such as ["crash"], got "crash"'],
      [{ events, faults: ["earthquake"] }, 'there is no fault called "earthquake": the faults are crash, pause'],
      [{ events, compare: "some" }, 'compare must be "all" or "last", got "some"'],
      [{ events, deadLetters: true }, 'deadLetters must be "none" or "expected", got true'],
      [{ events, rest: "a while" }, 'rest "a while" cannot be read'],
      [{ events, sed: 5 }, 'simulate has no option "sed": the options are events, from, seed'],
      [{ sed: 5, seeds: 0 }, 'simulate: simulate has no option "sed"']
    ]
    for (const [options, message] of messages) {
      expect(await wrong(options)).toMatchObject({ code: "option-invalid", message: expect.stringContaining(message) })
    }
    expect(
      (await wrong({ sed: 5, seeds: 0 })).faults.map(({ code }) => code),
      "all at once"
    ).toEqual(Array(3).fill("option-invalid"))
  })

  test("a `from` that answers no source of the job, and says which there are", async () => {
    const answers: readonly (readonly [unknown, string])[] = [
      [undefined, "it answers undefined"],
      [seen, "the job does not read seen"]
    ]
    for (const [answer, reason] of answers) {
      const { code, message } = await wrong({ events, from: () => answer })
      expect(code).toBe("illegal-argument")
      expect(message).toMatch(/^`from` must answer a source of the job \(clicks\); for the event \{"user":"user 0"/)
      expect(message).toContain(reason)
    }
  })

  test("an event that no publisher could send, as a publisher does", async () => {
    const bytesMax = await payloadBytesMaxOfSimulated()
    const eventOf = (length: number): Click => ({ user: "x".repeat(length), at: 1 })
    const around = JSON.stringify(eventOf(0)).length
    const large = await wrong({ events: [...events, eventOf(bytesMax - around + 1)] })
    const message = `an event for clicks has ${bytesMax + 1} bytes, ${bytesMax} are allowed`
    expect(large).toMatchObject({ code: "encode-failed", message })
    expect(await wrong({ events: [eventOf(bytesMax - around), null] }), "the first one fits").toMatchObject({ code: "key-invalid" })
    expect(await wrong({ events: [{ user: "a", at: 1n }] })).toMatchObject({ code: "encode-failed" })
  })
})
