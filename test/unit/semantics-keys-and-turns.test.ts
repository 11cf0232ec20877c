// Goal: keys are equal by value and never collide (G21); a turn commits for all its keys or for none, and where a log is cut into turns
// changes no final result (G22).
// Method: keys that look alike, in one job; then one seeded log under random cuts and restarts against the uncut one. Rerun with SEED=<n>.
import fc from "fast-check"
import { job, KeyfoldError, type KeyOf, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness } from "keyfold/testing"
import { describe, expect, test } from "vitest"

const seed = Number(process.env["SEED"] ?? 1)

interface Keyed {
  readonly key: KeyOf<unknown>
}

/** Counts per key, grouped by the topic's own key, or by a function (through a shuffle). */
const counting = (shuffled: boolean) => {
  const keyed = topic("keyed", { codec: json<Keyed>(), key: ({ key }) => (shuffled ? "" : key) as string })
  const flow = job("lab").from(keyed)
  const grouped = shuffled ? flow.groupByKey(({ key }) => key as string) : flow.groupByKey()
  return grouped
    .mapGroupsWithState({ state: json<number>() }, (key, events, state) => {
      state.update((state.getOption() ?? 0) + events.length)
      return { key: key as unknown, count: state.get() }
    })
    .to()
}

const lookalikes: readonly unknown[] = [
  1,
  "1",
  ["1"],
  [1],
  '["1"]',
  "[1]",
  [["1"]],
  [[1]],
  true,
  "true",
  false,
  "false",
  null,
  "null",
  [null],
  0,
  "0",
  "",
  [],
  "[]",
  {},
  "{}",
  { a: 1 },
  { a: "1" },
  '{"a":1}',
  { a: 1, b: 2 },
  { "a,b": 1 },
  ["a", "b"],
  ["a,b"],
  ["ab", ""],
  ["a", "b", ""],
  "a,b",
  '"1"',
  "\u00001",
  "\u0000",
  '\u0000"1"',
  "\u0000[1]",
  " 1",
  1e21,
  "1e21",
  "1e+21",
  0.1,
  -1,
  "\u00e9",
  "e\u0301"
]

describe("keys", () => {
  test.each([[false], [true]])("keys that look alike are different keys (G21; shuffled: %s)", async (shuffled) => {
    await using kit = await harness(counting(shuffled))
    const turn = await kit.turn(lookalikes.map((key) => ({ key }) as Keyed))
    expect(turn.dead).toEqual([])
    expect(turn.outputs).toEqual(lookalikes.map((key) => ({ key, count: 1 })))
    expect(kit.keys()).toHaveLength(lookalikes.length)
    for (const key of lookalikes) expect(kit.state(key as never), JSON.stringify(key)).toBe(1)
  })

  const equals: readonly (readonly [unknown, unknown])[] = [
    [
      ["u", 1],
      ["u", 1]
    ],
    [
      { user: "u", device: 1 },
      { device: 1, user: "u" }
    ],
    [{ a: { c: [1, null], b: true } }, { a: { b: true, c: [1, null] } }],
    [1, 1.0],
    [1e21, 1000000000000000000000],
    ["\u{1f600}", "\ud83d\ude00"]
  ]
  test.each(equals)("%j and %j are one key, in a turn, across turns and after a restart (G21)", async (left, right) => {
    for (const shuffled of [false, true]) {
      await using kit = await harness(counting(shuffled))
      expect((await kit.turn([{ key: left }, { key: right }] as Keyed[])).outputs).toEqual([{ key: left, count: 2 }])
      await kit.turn([{ key: right }] as Keyed[])
      await kit.restart()
      expect((await kit.turn([{ key: left }] as Keyed[])).outputs).toEqual([{ key: left, count: 4 }])
      expect([kit.state(left as never), kit.state(right as never), kit.keys().length]).toEqual([4, 4, 1])
    }
  })

  test("a composite key that a function changes is the same key the next time (G21)", async () => {
    const pairs = topic("pairs", { codec: json<{ user: string; device: number }>(), key: ({ user, device }) => [user, device] as const })
    const definition = job("lab")
      .from(pairs)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key, _events, state) => {
        state.update((state.getOption() ?? 0) + 1)
        const before = [...key]
        ;(key as unknown as unknown[]).length = 0
        return before
      })
      .to()
    await using kit = await harness(definition)
    // Whether a key is frozen (then the call fails) or the call's own copy is open; that the change reaches no later call is not.
    for (let turn = 1; turn <= 3; turn++) {
      const { outputs, dead } = await kit.turn([{ user: "u", device: 1 }])
      expect(dead.length === 1 ? [["u", 1]] : outputs).toEqual([["u", 1]])
    }
    expect(kit.keys().every((key) => JSON.stringify(key) === '["u",1]')).toBe(true)
  })

  const invalid: readonly (readonly [what: string, key: unknown])[] = [
    ["undefined", undefined],
    ["NaN", Number.NaN],
    ["a Date", new Date(0)],
    ["a bigint", 1n],
    ["a function", () => 1],
    ["an infinity", Number.POSITIVE_INFINITY],
    ["an undefined within", ["a", undefined]],
    ["a Map", new Map()]
  ]
  test.each(invalid)("%s is no key: its row is a dead letter, the others go on (G21)", async (_what, key) => {
    for (const shuffled of [false, true]) {
      const names = topic("names", {
        codec: json<{ name: string }>(),
        key: ({ name }) => (name === "bad" && !shuffled ? key : name) as string
      })
      const flow = job("lab").from(names)
      const grouped = shuffled ? flow.groupByKey(({ name }) => (name === "bad" ? key : name) as string) : flow.groupByKey()
      const definition = grouped.mapGroupsWithState({ state: json<number>() }, (name) => name).to()
      await using kit = await harness(definition)
      const turn = await kit.turn([{ name: "a" }, { name: "bad" }, { name: "b" }])
      expect(turn.outputs).toEqual(["a", "b"])
      expect(turn.dead).toMatchObject([{ code: "key-invalid", value: { name: "bad" } }])
    }
  })
})

interface Click {
  readonly user: string
  readonly at: number
  readonly n: number
}
const clicks = topic("clicks", { codec: json<Click>(), key: ({ user }) => user })
const sessions = topic("sessions", { codec: json<Open & { user: string }>(), key: ({ user }) => user })

interface Open {
  readonly start: number
  readonly end: number
  readonly count: number
}
const gap = 50
const disorder = 30

/** Sessions that touch merge; those that can get no more rows are put out by their timeout. */
const merged = (open: readonly Open[], at: number): Open[] => {
  const touches = (session: Open): boolean => at >= session.start - gap && at <= session.end + gap
  const touched = open.filter(touches)
  const joined = {
    start: Math.min(at, ...touched.map(({ start }) => start)),
    end: Math.max(at, ...touched.map(({ end }) => end)),
    count: touched.reduce((sum, { count }) => sum + count, 1)
  }
  return [...open.filter((session) => !touches(session)), joined].sort((left, right) => left.start - right.start)
}

const sessionJob = (shuffled: boolean) => {
  const flow = job("cuts")
    .from(clicks)
    .withWatermark(({ at }) => at, disorder + 1)
  const grouped = shuffled ? flow.groupByKey(({ user }) => user) : flow.groupByKey()
  return grouped
    .flatMapGroupsWithState({ state: json<Open[]>(), timeout: "event-time" }, function* (user, events, state) {
      let open: Open[] = state.getOption() ?? []
      if (state.hasTimedOut) {
        const watermark = state.getCurrentWatermarkMs()
        for (const session of open) if (session.end + gap < watermark) yield { user, ...session }
        open = open.filter(({ end }) => end + gap >= watermark)
      }
      for (const { at } of events) open = merged(open, at)
      if (open.length === 0) return state.remove()
      state.update(open)
      state.setTimeoutTimestamp(Math.min(...open.map(({ end }) => end)), gap)
    })
    .to(sessions)
}

/** A log in which no row is late however it is cut: rows are at most `disorder` behind the newest. */
const logs = fc.array(fc.record({ user: fc.constantFrom("a", "b", "c"), step: fc.nat({ max: 40 }), behind: fc.nat({ max: disorder }) }), {
  minLength: 1,
  maxLength: 60
})
const clicksOf = (log: readonly { user: string; step: number; behind: number }[]): Click[] => {
  let newest = disorder + 1
  return log.map(({ user, step, behind }, n) => {
    newest += step
    return { user, at: newest - behind, n }
  })
}

interface Cut {
  readonly length: number
  readonly restart: boolean
}
const cuts = fc.array(fc.record({ length: fc.integer({ min: 1, max: 12 }), restart: fc.boolean() }), { maxLength: 60 })

interface Kit {
  turn(
    events: Iterable<Click>,
    options: { now: number }
  ): Promise<{ readonly outputs: readonly unknown[]; readonly late: readonly unknown[] }>
  restart(): Promise<void>
}

/** All outputs over the whole log, cut as told; what the cuts leave over is one last turn. */
const outputsOver = async (kit: Kit, events: readonly Click[], cut: readonly Cut[]): Promise<unknown[]> => {
  const outputs: unknown[] = []
  let taken = 0
  for (const { length, restart } of [...cut, { length: events.length, restart: false }]) {
    if (restart) await kit.restart()
    const turn = await kit.turn(events.slice(taken, taken + length), { now: taken })
    expect(turn.late).toEqual([])
    outputs.push(...turn.outputs)
    taken += length
    if (taken >= events.length) break
  }
  const end = await kit.turn([{ user: "end", at: 1_000_000, n: -1 }], { now: taken })
  return [...outputs, ...end.outputs]
}

const byUser = (outputs: readonly unknown[]): Record<string, unknown[]> => {
  const users: Record<string, unknown[]> = {}
  for (const output of outputs as { user: string }[]) {
    users[output.user] ??= []
    users[output.user]?.push(output)
  }
  return users
}

const sessionsByHand = (events: readonly Click[]): Record<string, unknown[]> => {
  const users: Record<string, unknown[]> = {}
  for (const user of new Set(events.map((click) => click.user))) {
    let open: Open[] = []
    for (const click of events) if (click.user === user) open = merged(open, click.at)
    users[user] = open.map((session) => ({ user, ...session }))
  }
  return users
}

describe("turns", () => {
  test.each([[false], [true]])(
    `the same sessions, in order per key, wherever the log is cut (G22; shuffled: %s, SEED=${seed})`,
    async (shuffled) => {
      const property = fc.asyncProperty(logs, cuts, async (log, cut) => {
        const events = clicksOf(log)
        await using kit = await harness(sessionJob(shuffled))
        expect(byUser(await outputsOver(kit, events, cut))).toEqual(sessionsByHand(events))
        expect(kit.keys().filter((key) => key !== "end")).toEqual([])
      })
      await fc.assert(property, { seed, numRuns: 100 })
    }
  )

  test(`the same running totals of two chained stages, in order per key, wherever the log is cut (G22; SEED=${seed})`, async () => {
    const totals = job("cuts")
      .from(clicks)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, function* (user, events, state) {
        for (const { n } of events) {
          state.update((state.getOption() ?? 0) + n)
          yield { user, total: state.get() }
        }
      })
      .groupByKey(({ total }) => total % 3)
      .flatMapGroupsWithState({ state: json<string>() }, function* (rest, events, state) {
        for (const { user, total } of events) {
          state.update(`${(state.getOption() ?? "").slice(-40)}${user}${total};`)
          yield { user: String(rest), seen: state.get() }
        }
      })
      .to()
    const property = fc.asyncProperty(logs, cuts, async (log, cut) => {
      // One upstream partition and one user: the order between users within a turn depends on the cut, by G1.
      const events = clicksOf(log).map((click) => ({ ...click, user: "a" }))
      await using uncut = await harness(totals)
      await using kit = await harness(totals)
      expect(byUser(await outputsOver(kit, events, cut))).toEqual(byUser(await outputsOver(uncut, events, [])))
      for (const key of uncut.keys()) expect(kit.state(key)).toEqual(uncut.state(key))
    })
    await fc.assert(property, { seed, numRuns: 100 })
  })

  test("a turn that fails commits nothing for any of its keys: no state, no timeout, no output, no watermark (G22)", async () => {
    const side = topic("side", { codec: json<string>(), key: (text) => text })
    let broken = true
    const definition = job("lab", { onError: "stop" })
      .from(clicks)
      .withWatermark(({ at }) => at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time", emits: [side] }, function* (user, events, state, context) {
        if (user === "b" && broken) throw new Error("not yet")
        state.update((state.getOption() ?? 0) + events.length)
        state.setTimeoutTimestamp(1_000)
        context.emitTo(side, user)
        yield `${user}${state.get()}`
      })
      .to()
    await using kit = await harness(definition)
    const events = ["a", "b", "c"].map((user, n) => ({ user, at: 100 + n, n }))
    await expect(kit.turn(events)).rejects.toThrow(KeyfoldError)
    expect([kit.keys(), kit.state("a"), kit.state("c")]).toEqual([[], undefined, undefined])
    broken = false
    await kit.restart()
    expect(kit.watermark).toBe(0)
    const turn = await kit.turn([])
    expect(turn.outputs).toEqual(["a1", "b1", "c1"])
    expect(turn.outputsOf(side)).toEqual(["a", "b", "c"])
    expect([turn.watermark, kit.keys()]).toEqual([102, ["a", "b", "c"]])
  })
})
