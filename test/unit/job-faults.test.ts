// Goal: `.to()` names every fault of a job, all of them in one error, and nothing before it throws.
// Method: a row per fault; each is built through an untyped view of the builder, because the types refuse most of them.
import { foreachTurn, job, KeyfoldError, stream, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { describe, expect, test } from "vitest"

interface Loose {
  from(...args: unknown[]): Loose
  map(...args: unknown[]): Loose
  filter(...args: unknown[]): Loose
  flatMap(...args: unknown[]): Loose
  withWatermark(...args: unknown[]): Loose
  groupByKey(...args: unknown[]): Loose
  mapGroupsWithState(...args: unknown[]): Loose
  flatMapGroupsWithState(...args: unknown[]): Loose
  actor(...args: unknown[]): Loose
  to(...args: unknown[]): unknown
}
const begin = (name: unknown = "lab", options?: unknown): Loose =>
  (job as unknown as (name: unknown, options?: unknown) => Loose)(name, options)
const looseTopic = topic as unknown as (name: unknown, options: unknown) => unknown

interface Row {
  readonly key: string
  readonly at: number
}
const codec = json<Row>()
const key = (row: Row): string => row.key
const at = (row: Row): number => row.at
const state = json<number>()
const rows = topic("rows", { codec, key })
const others = topic("others", { codec, key })
const sink = topic("sink", { codec: json<unknown>(), key: () => "" })
const foreign = stream({ stream: "FOREIGN", codec })
const custom = foreachTurn("custom", async () => undefined)
const run = (): unknown[] => []

const grouped = (): Loose => begin().from(rows).groupByKey()
const staged = (options: object): Loose => grouped().flatMapGroupsWithState({ state, ...options }, run)

const refusalOf = (flow: Loose, ends: readonly unknown[]): KeyfoldError => {
  try {
    flow.to(...ends)
  } catch (thrown) {
    if (thrown instanceof KeyfoldError) return thrown
    throw thrown
  }
  throw new Error("nothing was refused")
}

interface Case {
  readonly what: string
  readonly flow: () => Loose
  readonly ends?: readonly unknown[]
  readonly names: RegExp
}
const fault = (what: string, names: RegExp, flow: () => Loose, ends: readonly unknown[] = []): Case => ({ what, names, flow, ends })

const illegalNames: readonly unknown[] = ["", " ", "a b", "a.b", "a*", ">", "a/b", "\u00e9", "-a", "a".repeat(300), {}]
const shown = (name: unknown): string => String(JSON.stringify(name)).slice(0, 20)

const names: readonly Case[] = [
  ...[...illegalNames, 5, null].flatMap((name) => [
    fault(`a job called ${shown(name)}`, /job's name/, () => begin(name).from(rows)),
    fault(`a topic called ${shown(name)}`, /\btopic\b/i, () => begin().from(looseTopic(name, { codec, key })))
  ]),
  ...illegalNames.map((name) => fault(`a stage called ${shown(name)}`, /\bstage\b/i, () => staged({ name }))),
  fault("two stages of one name", /\btwin\b/, () =>
    staged({ name: "twin" })
      .groupByKey(() => "")
      .flatMapGroupsWithState({ state, name: "twin" }, run)
  ),
  fault("a stage named like the next one's default", /\bstage-2\b/, () =>
    staged({ name: "stage-2" })
      .groupByKey(() => "")
      .flatMapGroupsWithState({ state }, run)
  ),
  fault("two sources of one name", /\brows\b/, () => begin().from(rows).from(topic("rows", { codec, key }))),
  fault("a source and a sink of one name that differ", /\brows\b/, () => begin().from(rows), [
    topic("rows", { codec: json<unknown>(), key: () => "" })
  ]),
  fault("two sinks of one name", /\bsink\b/, () => begin().from(rows), [sink, topic("sink", { codec: json<unknown>(), key: () => "" })]),
  fault("a topic and a custom sink of one name", /\bcustom\b/, () => begin().from(rows), [
    custom,
    topic("custom", { codec: json<unknown>(), key: () => "" })
  ]),
  fault("a source called <job>-dead", /lab-dead/, () => begin().from(topic("lab-dead", { codec, key }))),
  fault("a sink called <job>-dead", /lab-dead/, () => begin().from(rows), [topic("lab-dead", { codec, key })]),
  fault("a side output called <job>-dead", /lab-dead/, () => staged({ emits: [topic("lab-dead", { codec, key })] }))
]

const sources: readonly Case[] = [
  ...[0, -1, 1.5, 5_000, Number.NaN, Number.POSITIVE_INFINITY, "16", null].flatMap((partitions) => [
    fault(`a source with ${JSON.stringify(partitions)} (${partitions}) partitions`, /partitions.*\bsized\b|\bsized\b.*partitions/, () =>
      begin().from(looseTopic("sized", { codec, key, partitions }))
    ),
    fault(
      `a sink with ${JSON.stringify(partitions)} (${partitions}) partitions`,
      /partitions.*\bsized\b|\bsized\b.*partitions/,
      () => begin().from(rows),
      [looseTopic("sized", { codec, key, partitions })]
    )
  ]),
  fault("a topic without a codec", /\bbare\b.*codec|codec.*\bbare\b/, () => begin().from(looseTopic("bare", { key }))),
  fault("a topic without a key", /\bbare\b.*key|key.*\bbare\b/, () => begin().from(looseTopic("bare", { codec }))),
  ...[undefined, null, "rows", {}, { name: "rows" }, custom].map((source) =>
    fault(`from(${JSON.stringify(source)})`, /from|source|topic\(\)/, () => begin().from(source))
  ),
  ...["newest", 5, {}, { time: Number.NaN }, { time: "now" }, ["earliest"]].map((startAt) =>
    fault(`startAt ${JSON.stringify(startAt)}`, /startAt/, () => begin().from(rows, { startAt }))
  ),
  fault("`through` that returns something else", /through/, () => begin().from(rows, { through: () => 5 })),
  fault("`through` that throws", /through/, () =>
    begin().from(rows, {
      through: () => {
        throw new Error("no")
      }
    })
  ),
  fault("`through` that groups", /through|groupByKey/, () =>
    begin()
      .from(rows, { through: (events: Loose) => events.groupByKey() })
      .map((row: unknown) => row)
  ),
  fault("an unkeyed stream grouped without a function", /FOREIGN/, () =>
    begin().from(foreign).groupByKey().flatMapGroupsWithState({ state }, run)
  ),
  fault("a union with an unkeyed stream grouped without a function", /FOREIGN/, () =>
    begin().from(rows).from(foreign).groupByKey().flatMapGroupsWithState({ state }, run)
  ),
  fault("a union of different partition counts without a shuffle", /partition/, () =>
    begin()
      .from(rows)
      .from(topic("small", { codec, key, partitions: 4 }))
      .groupByKey()
      .flatMapGroupsWithState({ state }, run)
  )
]

const watermarks: readonly Case[] = [
  fault("an event-time timeout without a watermark (G19)", /stage-1.*watermark|watermark.*stage-1/, () =>
    staged({ timeout: "event-time" })
  ),
  fault("an event-time timeout whose watermark comes behind it (G19)", /stage-1.*watermark/, () =>
    staged({ timeout: "event-time" }).withWatermark(at, 0)
  ),
  fault("a later event-time stage without a withWatermark of its own", /late-one.*watermark/, () =>
    begin()
      .from(rows)
      .withWatermark(at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state }, run)
      .groupByKey()
      .flatMapGroupsWithState({ state, timeout: "event-time", name: "late-one" }, run)
  ),
  fault("an event-time timeout with a watermark on one of two sources (W5)", /\bothers\b.*watermark/, () =>
    begin()
      .from(rows, { through: (events: Loose) => events.withWatermark(at, 0) })
      .from(others)
      .groupByKey()
      .flatMapGroupsWithState({ state, timeout: "event-time" }, run)
  ),
  fault("a second withWatermark (W2)", /second.*withWatermark|withWatermark.*(twice|second)/i, () =>
    begin().from(rows).withWatermark(at, 0).withWatermark(at, 0)
  ),
  fault("a second withWatermark, the first in `through` (W2)", /second.*withWatermark|withWatermark.*(twice|second)/i, () =>
    begin()
      .from(rows, { through: (events: Loose) => events.withWatermark(at, 0) })
      .withWatermark(at, 0)
  ),
  fault("a second withWatermark behind a stage (W2)", /second.*withWatermark|withWatermark.*(twice|second)/i, () =>
    staged({}).withWatermark(at, 0).withWatermark(at, 0)
  ),
  ...["10s", "soon", "", "-1 second", -1, Number.NaN, Number.POSITIVE_INFINITY, 1.5, undefined, null, {}, true].map((delay) =>
    fault(`a delay of ${typeof delay === "number" ? delay : JSON.stringify(delay)} (G15)`, /delay/, () =>
      begin().from(rows).withWatermark(at, delay)
    )
  ),
  ...["10s", -1, Number.NaN, null].map((idleAfter) =>
    fault(`idleAfter ${typeof idleAfter === "number" ? idleAfter : JSON.stringify(idleAfter)} (G15)`, /idleAfter/, () =>
      begin().from(rows).withWatermark(at, 0, { idleAfter })
    )
  ),
  fault("an event time that is no function", /withWatermark|event time/i, () => begin().from(rows).withWatermark("at", 0)),
  fault("an async event time", /withWatermark|event time/i, () =>
    begin()
      .from(rows)
      .withWatermark(async () => 1, 0)
  ),
  ...["late", {}, foreign, null].map((late) =>
    fault(`a late sink that is none: ${JSON.stringify(late)}`, /late/, () => begin().from(rows).withWatermark(at, 0, { late }))
  )
]

const stages: readonly Case[] = [
  ...["both", 5, ""].map((timeout) =>
    fault(`timeout ${JSON.stringify(timeout)}`, /timeout.*stage-1|stage-1.*timeout/, () => staged({ timeout }))
  ),
  ...["maybe", true, ""].map((late) => fault(`late ${JSON.stringify(late)}`, /late.*stage-1|stage-1.*late/, () => staged({ late }))),
  ...["complete", "Append", 5].map((outputMode) =>
    fault(`outputMode ${JSON.stringify(outputMode)}`, /outputMode.*stage-1|stage-1.*outputMode/, () => staged({ outputMode }))
  ),
  fault("no state codec", /stage-1.*(state|codec)/, () => grouped().flatMapGroupsWithState({}, run)),
  fault("no options at all", /stage-1.*(state|codec)/, () => grouped().flatMapGroupsWithState(undefined, run)),
  fault("a state codec that is none", /stage-1.*(state|codec)/, () => staged({ state: "json" })),
  fault("no state function", /stage-1.*function/, () => grouped().flatMapGroupsWithState({ state })),
  fault("an async state function", /stage-1.*synchronous/, () => grouped().mapGroupsWithState({ state }, async () => 1)),
  fault("an async generator", /stage-1.*synchronous/, () => grouped().flatMapGroupsWithState({ state }, async function* () {})),
  fault("an async actor", /walker.*synchronous/, () => grouped().actor({ name: "walker", state, run: async function* () {} })),
  fault("no actor", /stage|actor/, () => grouped().actor(undefined)),
  ...(["map", "filter", "flatMap"] as const).flatMap((step) => [
    fault(`an async ${step}`, new RegExp(`${step}.*synchronous`), () =>
      begin()
        .from(rows)
        [step](async () => 1)
    ),
    fault(`a ${step} of no function`, new RegExp(`${step}.*function`), () => begin().from(rows)[step]("fn")),
    fault(`an async ${step} behind a stage`, new RegExp(`${step}.*synchronous`), () => staged({})[step](async () => 1))
  ]),
  fault("a groupByKey of no function", /groupByKey/, () => begin().from(rows).groupByKey("key").flatMapGroupsWithState({ state }, run)),
  fault("an async groupByKey", /groupByKey/, () =>
    begin()
      .from(rows)
      .groupByKey(async () => "")
      .flatMapGroupsWithState({ state }, run)
  ),
  fault("groupByKey without a state function", /groupByKey/, grouped),
  fault("a state function without groupByKey", /groupByKey/, () => begin().from(rows).flatMapGroupsWithState({ state }, run)),
  ...[5, {}, null, true].map((initialState) =>
    fault(`an initialState that is not iterable: ${JSON.stringify(initialState)} (G20)`, /initial state.*stage-1|stage-1.*initial/i, () =>
      staged({ initialState })
    )
  ),
  fault("an initialState with a key twice (G20)", /"twice"/, () =>
    staged({
      initialState: [
        ["twice", 1],
        ["once", 1],
        ["twice", 2]
      ]
    })
  ),
  fault("an initialState with a composite key twice, equal by value (G20, G21)", /initial state/i, () =>
    staged({
      initialState: [
        [{ a: 1, b: 2 }, 1],
        [{ b: 2, a: 1 }, 2]
      ]
    })
  ),
  fault("an initialState with no state (G20, G4)", /initial state/i, () => staged({ initialState: [["a", null]] })),
  fault("an initialState that the codec refuses (G20)", /initial state/i, () => staged({ initialState: [["a", Number.NaN]] })),
  fault("an initialState with a key that is none (G20, G21)", /initial state/i, () => staged({ initialState: [[Number.NaN, 1]] })),
  fault("an initialState whose items are no pairs (G20)", /initial state/i, () => staged({ initialState: [5] })),
  ...[5, sink, null, ["sink"], [foreign], [undefined]].map((emits) =>
    fault(`emits that are no topics: ${JSON.stringify(emits)}`, /emits/, () => staged({ emits }))
  )
]

const ends: readonly Case[] = [
  ...["sink", {}, null, undefined, foreign, 5, { name: "sink" }].map((target) =>
    fault(`to(${JSON.stringify(target)})`, /\bto\(\)|sink/, () => begin().from(rows), [target])
  ),
  fault("a route without routes", /routes/, () => begin().from(rows), [() => sink]),
  fault("a route with options without routes", /routes/, () => begin().from(rows), [() => sink, {}]),
  fault("a route with no routes in its list", /routes/, () => begin().from(rows), [() => sink, { routes: [] }]),
  fault("a route with routes that are no list", /routes/, () => begin().from(rows), [() => sink, { routes: sink }]),
  fault("a route to what is no sink", /sink|routes/, () => begin().from(rows), [() => sink, { routes: [foreign] }]),
  fault("an async route", /route|to\(/, () => begin().from(rows), [async () => sink, { routes: [sink] }]),
  ...["retry", 5, null, ""].map((onError) =>
    fault(`onError ${JSON.stringify(onError)}`, /onError/, () => begin("lab", { onError }).from(rows))
  ),
  ...[-1, 1.5, "3", Number.NaN, Number.POSITIVE_INFINITY, null].map((retries) =>
    fault(`retries ${typeof retries === "number" ? retries : JSON.stringify(retries)}`, /retries/, () =>
      begin("lab", { retries }).from(rows)
    )
  )
]

describe.each([
  ["names", names],
  ["sources", sources],
  ["watermarks", watermarks],
  ["stages", stages],
  ["ends and options", ends]
] as const)("%s", (_theme, cases) => {
  test.each(cases)("$what is a fault that .to() names", ({ flow, ends: sinks, names: named }) => {
    const built = flow()
    const refusal = refusalOf(built, sinks ?? [])
    expect(refusal.code).toBe("job-invalid")
    expect(refusal.faults.map(({ message }) => message).filter((message) => named.test(message))).not.toEqual([])
    for (const { code, message } of refusal.faults) expect([typeof code, message.length > 0]).toEqual(["string", true])
  })
})

test("all faults come in one error, each by its name", () => {
  const flow = begin("bad job", { onError: "retry", retries: -1 })
    .from(looseTopic("sized", { codec, key, partitions: 0 }), { startAt: "newest" })
    .from(foreign, { through: () => 5 })
    .withWatermark(at, "10s", { idleAfter: "soon", late: "late" })
    .withWatermark(at, 0)
    .map(async () => 1)
    .groupByKey()
    .flatMapGroupsWithState(
      { name: "twin", state: "json", timeout: "both", late: "maybe", outputMode: "complete", initialState: 5, emits: [5] },
      async () => []
    )
    .groupByKey("key")
    .flatMapGroupsWithState(
      {
        name: "twin",
        state,
        timeout: "event-time",
        initialState: [
          ["k", 1],
          ["k", 1]
        ]
      },
      run
    )
  const refusal = refusalOf(flow, [{}, topic("bad job-dead", { codec, key })])
  expect(refusal.code).toBe("job-invalid")
  const expected = [
    /job's name/,
    /onError/,
    /retries/,
    /partitions of the topic sized/,
    /startAt/,
    /through/,
    /delay/,
    /idleAfter/,
    /late sink/,
    /second.*withWatermark/,
    /map takes/,
    /FOREIGN/,
    /codec/,
    /timeout of/,
    /`late`/,
    /outputMode/,
    /initial.*iterable/,
    /emits/,
    /async state function|state function.*synchronous/,
    /groupByKey takes/,
    /two stages.*"twin"/,
    /event-time timeout/,
    /"k" twice/,
    /sink of to/,
    /name of a topic/
  ]
  const messages = refusal.faults.map(({ message }) => message)
  for (const named of expected)
    expect(
      messages.some((message) => named.test(message)),
      `${named} in ${messages.join("\n")}`
    ).toBe(true)
  expect(messages).toHaveLength(new Set(messages).size)
  for (const message of messages) expect(refusal.message).toContain(message)
})

describe("earlier steps never throw", () => {
  const steps = ["map", "filter", "flatMap", "groupByKey", "actor"] as const
  const garbage: readonly unknown[] = [undefined, null, 5, "", {}, [], Symbol("s"), 1n, async () => 1]
  test.each(garbage)("%o in every place of every step", (thing) => {
    const before = begin(thing, thing).from(thing, thing).from(thing, { startAt: thing, through: thing }).withWatermark(thing, thing, thing)
    const flow = steps
      .reduce((built, step) => built[step](thing, thing), before)
      .mapGroupsWithState(thing, thing)
      .flatMapGroupsWithState(thing, thing)
    expect(refusalOf(flow, [thing, thing]).code).toBe("job-invalid")
  })
})

describe("what is no fault", () => {
  const legal: readonly (readonly [what: string, flow: () => Loose, ends: readonly unknown[]])[] = [
    ["a job with no sink", () => begin().from(rows), []],
    [
      "1 and 1024 partitions",
      () => begin().from(topic("one", { codec, key, partitions: 1 })),
      [topic("many", { codec, key, partitions: 1_024 })]
    ],
    [
      "a union of different counts that is re-keyed",
      () =>
        begin()
          .from(rows)
          .from(topic("one", { codec, key, partitions: 1 }))
          .groupByKey(key)
          .flatMapGroupsWithState({ state }, run),
      []
    ],
    ["a foreign stream that is re-keyed", () => begin().from(foreign).groupByKey(key).flatMapGroupsWithState({ state }, run), [custom]],
    [
      "one topic as sink, side output and late topic",
      () =>
        begin()
          .from(rows)
          .withWatermark(at, 0, { late: sink })
          .groupByKey()
          .flatMapGroupsWithState({ state, emits: [sink] }, run),
      [sink]
    ],
    ["a delay of 0", () => begin().from(rows).withWatermark(at, "0 seconds"), []],
    [
      "every option at its best",
      () => begin("a_B-9", { onError: "drop", retries: 3 }).from(rows, { startAt: { time: 0 } }),
      [sink, custom]
    ],
    [
      "a watermark in `through` of every source",
      () =>
        begin()
          .from(rows, { through: (events: Loose) => events.withWatermark(at, 0) })
          .groupByKey()
          .flatMapGroupsWithState({ state, timeout: "event-time" }, run),
      []
    ],
    ["an initialState from a Map or a generator", () => staged({ initialState: new Map([["a", 0]]) }), []]
  ]
  test.each(legal)("%s", (_what, flow, sinks) => expect(() => flow().to(...sinks)).not.toThrow())

  test("a flow is a value: two jobs from one flow know nothing of each other", () => {
    const flow = begin().from(rows)
    refusalOf(flow.map("fn"), [])
    refusalOf(flow.from({}), [])
    expect(() => flow.to(sink)).not.toThrow()
  })
})
