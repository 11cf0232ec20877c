// Goal: what was once wrong stays mended. Each test tells its story: symptom, then cause.
// Method: the public API and the testing kit; no clocks but virtual ones, or conditions that are waited for.

import * as Effect from "effect/Effect"
import { foreachTurn, type Job, job, publisher, read, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { harness, memory } from "keyfold/testing"
import { expect, test, vi } from "vitest"
import { noHeaders } from "../../src/model/record.ts"
import { writerOf } from "../../src/partition/outbox.ts"
import { makeStoredSource } from "../../src/source/stored.ts"
import { makeMemoryStore } from "../../src/storage/memory-store.ts"
import type { RecordLog, Store } from "../../src/storage/store.ts"

interface Event {
  readonly key: string
  readonly at: number
}

const eventsOf = (name: string, partitions = 1) => topic(name, { codec: json<Event>(), key: (event) => event.key, partitions })
const totalsOf = (query: unknown) => (query as { readonly totals: { readonly turns: number; readonly outputs: number } }).totals

const until = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + 30_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

test("two jobs whose names have one FNV hash keep each their own outputs", async () => {
  // Symptom: of two jobs that wrote one topic, one's outputs were missing, without an error. Cause: the writer's token was two hashes of
  // which the second followed from the first, so 32 bits; equal tokens made the second job's outputs repetitions of the first's (O3).
  expect(writerOf("qe572lwgb95wd", "stage-1", 0)).not.toBe(writerOf("qxp7mtabosnmn", "stage-1", 0))
  const runtime = memory()
  const events = eventsOf("events")
  const results = topic("results", { codec: json<string>(), key: (value) => value, partitions: 1 })
  const named = (name: string): Job =>
    job(name)
      .from(events)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, (key) => `${name} ${key}`)
      .to(results)
  const out = await publisher(runtime, events)
  for (const key of ["a", "b", "c"]) await out.send({ key, at: 1 })
  for (const name of ["qe572lwgb95wd", "qxp7mtabosnmn"]) {
    const query = await start(named(name), { runtime, trigger: "available-now" })
    await query.awaitTermination()
  }
  const values: string[] = []
  for await (const { value } of read(runtime, results)) values.push(value)
  expect(values).toHaveLength(6)
})

test("an idle input does not hold the watermark though the other one never rests (W6)", async () => {
  // Symptom: with a backlog on one source and none on the other no session closed. Cause: idleness was only looked for when a pass had
  // found nothing to do at all.
  const runtime = memory()
  const [busy, silent] = [eventsOf("busy"), eventsOf("silent")]
  const union = job("union")
    .from(busy)
    .from(silent)
    .withWatermark((event) => event.at, 0, { idleAfter: 50 })
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>() }, () => [])
    .to()
  await using query = await start(union, { runtime, limits: { turnEventsMax: 4 } })
  const out = await publisher(runtime, busy)
  let at = 0
  const watermark = () => (query as unknown as { readonly totals: { readonly watermarkMs: number } }).totals.watermarkMs
  await until("the watermark moves while events keep coming", async () => {
    for (let count = 0; count < 50; count++) void out.send({ key: "k", at: ++at })
    await out.flush()
    return watermark() > 0
  })
})

test("in-band watermarks do not multiply single events by the number of partitions (P24)", async () => {
  // Symptom: 100 events one by one made 1,700 turns. Cause: each turn that moved the watermark told every partition of the next stage at
  // once; at most every 200 ms is the rule.
  const runtime = memory()
  const events = eventsOf("events", 1)
  const rekeyed = job("rekeyed")
    .from(events)
    .withWatermark((event) => event.at, 0)
    .groupByKey((event) => event.key.length)
    .flatMapGroupsWithState({ state: json<number>() }, () => [])
    .to()
  await using query = await start(rekeyed, { runtime })
  const out = await publisher(runtime, events)
  for (let at = 1; at <= 300; at++) {
    await out.send({ key: "k", at })
    await query.processAllAvailable()
  }
  const { turns } = totalsOf(query)
  expect(turns).toBeGreaterThanOrEqual(300)
  expect(turns).toBeLessThan(1_500)
})

test("an initial state that puts out more than a turn may is applied in parts, every call once (G20)", async () => {
  // Symptom: thousands of keys were dead-lettered with "one call puts out more than it may". Cause: the first turn could not be made
  // smaller, because its initial states were not counted as something to halve.
  const events = eventsOf("events")
  const wide = topic("wide", { codec: json<{ key: string; filler: string }>(), key: (value) => value.key, partitions: 1 })
  const filler = "x".repeat(1_000)
  const initialState = Array.from({ length: 20_000 }, (_, index) => [`k${index}`, index] as const)
  const started = job("started")
    .from(events)
    .groupByKey()
    .mapGroupsWithState({ state: json<number>(), initialState }, (key) => ({ key, filler }))
    .to(wide)
  await using bench = await harness(started)
  const result = await bench.turn([{ key: "k7", at: 1 }])
  expect(result.dead).toEqual([])
  const keys = result.outputs.map((output) => output.key)
  expect(new Set(keys).size).toBe(20_000)
  expect(keys.length).toBeLessThanOrEqual(20_001)
})

test("dead letters of one record that gave many rows do not carry its bytes a thousand times", async () => {
  // Symptom: one 300 KB record whose 400 rows failed took a gigabyte. Cause: each letter carried the whole record.
  const fat = topic("fat", { codec: json<{ filler: string }>(), key: () => "k", partitions: 1 })
  const exploding = job("exploding")
    .from(fat)
    .flatMap((event) => Array.from({ length: 400 }, () => event))
    .groupByKey()
    .mapGroupsWithState({ state: json<number>() }, () => {
      throw new Error("no")
    })
    .to()
  await using bench = await harness(exploding)
  const { dead } = await bench.turn([{ filler: "x".repeat(300_000) }])
  expect(dead).toHaveLength(400)
  expect(dead.every((letter) => letter.code === "function-failed" && (letter as { position?: number }).position === 1)).toBe(true)
  expect(JSON.stringify(dead).length).toBeLessThan(16 * 1_048_576)
})

test("a function that catches what emitTo throws loses nothing (P7)", async () => {
  // Symptom: of four side outputs of 5 MB three were written, without an error. Cause: the turn noticed that it puts out too much only
  // by the exception, which the function had caught.
  const events = eventsOf("events")
  const side = topic("side", { codec: json<string>(), key: () => "k", partitions: 1 })
  const catching = job("catching")
    .from(events)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), emits: [side] }, (_key, found, _state, context) => {
      for (const _event of found) {
        try {
          context.emitTo(side, "x".repeat(5_000_000))
        } catch {
          // What this function does about it must not matter.
        }
      }
      return []
    })
    .to()
  await using bench = await harness(catching)
  const turn = await bench.turn([1, 2, 3, 4].map((at) => ({ key: `k${at}`, at })))
  expect(turn.outputsOf(side)).toHaveLength(4)
})

test("emitTo after the call has ended says so", async () => {
  // Symptom: an output of a forgotten callback vanished. Cause: only the state knew whether its call was over.
  const events = eventsOf("events")
  const side = topic("side", { codec: json<string>(), key: () => "k", partitions: 1 })
  let late: (() => void) | undefined
  const keeping = job("keeping")
    .from(events)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), emits: [side] }, (_key, _found, _state, context) => {
      late = () => context.emitTo(side, "late")
      return []
    })
    .to()
  await using bench = await harness(keeping)
  await bench.turn([{ key: "k", at: 1 }])
  expect(() => late?.()).toThrow(/after its call had ended/)
})

test("sources of different sizes that share a key function are re-keyed, not refused at the start (P25)", async () => {
  // Symptom: .to() accepted the job, start refused it with the advice to do what it did. Cause: a key function that is the topic's own
  // spared the hop without a look at the partition counts.
  const key = (event: Event) => event.key
  const two = topic("two", { codec: json<Event>(), key, partitions: 2 })
  const four = topic("four", { codec: json<Event>(), key, partitions: 4 })
  const counted = topic("counted", { codec: json<{ key: string; count: number }>(), key: (value) => value.key, partitions: 1 })
  const union = job("union")
    .from(two)
    .from(four)
    .groupByKey(key)
    .mapGroupsWithState({ state: json<number>() }, (found, events, state) => {
      state.update((state.getOption() ?? 0) + events.length)
      return { key: found, count: state.get() }
    })
    .to(counted)
  const runtime = memory()
  for (const source of [two, four]) {
    const out = await publisher(runtime, source)
    for (const name of ["a", "b", "c"]) await out.send({ key: name, at: 1 })
  }
  const query = await start(union, { runtime, trigger: "available-now" })
  await query.awaitTermination()
  const last = new Map<string, number>()
  for await (const { value } of read(runtime, counted)) last.set(value.key, value.count)
  expect([...last].sort()).toEqual([
    ["a", 2],
    ["b", 2],
    ["c", 2]
  ])
})

test("a log line that JSON cannot hold does not fail the call that writes it", async () => {
  // Symptom: rows were dead-lettered because of a bigint in a log line.
  const written = vi.spyOn(process.stderr, "write").mockReturnValue(true)
  try {
    const events = eventsOf("events")
    const logging = job("logging")
      .from(events)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, (_key, _found, _state, context) => {
        context.logger.info("hello", { big: 1n, level: "mine" })
        return []
      })
      .to()
    await using bench = await harness(logging)
    expect((await bench.turn([{ key: "k", at: 1 }])).dead).toEqual([])
    expect(String(written.mock.calls[0]?.[0])).toMatch(/"level":"info".*"message":"hello"/)
  } finally {
    written.mockRestore()
  }
})

test.each(["map", "filter"] as const)("a %s that answers a promise is a fault of the row, not a value", async (kind) => {
  // Symptom: a JavaScript user's promises were written as {}. Cause: only async functions are known by their class.
  const events = eventsOf("events")
  const promising = (() => Promise.resolve(true)) as unknown as (event: Event) => boolean
  const flow = job("promising").from(events)
  const stateless = kind === "map" ? flow.map(promising).to() : flow.filter(promising).to()
  await using bench = await harness(stateless as Job<Event, unknown, string, never>)
  const { dead, outputs } = await bench.turn([{ key: "k", at: 1 }])
  expect(outputs).toEqual([])
  expect(dead).toMatchObject([{ code: "function-failed", message: expect.stringMatching(/promise/) }])
})

test("a misspelt option is a fault, not its default", () => {
  const events = eventsOf("events")
  const misspelt = () =>
    job("misspelt", { onerror: "stop" } as never)
      .from(events, { startat: "latest" } as never)
      .withWatermark((event) => event.at, 0, { idleafter: 5 } as never)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeOut: "event-time" } as never, () => [])
      .to()
  expect(misspelt).toThrow(expect.objectContaining({ code: "job-invalid", faults: expect.objectContaining({ length: 4 }) }))
})

test("many processing-time timeouts that are due run at one watermark, also when rows moved it meanwhile (T4)", async () => {
  const events = eventsOf("events")
  const watermarks = new Set<number>()
  const sweeping = job("sweeping")
    .from(events)
    .withWatermark((event) => event.at, 0)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, (_key, _found, state) => {
      if (state.hasTimedOut) watermarks.add(state.getCurrentWatermarkMs())
      else state.setTimeoutDuration(10)
      return []
    })
    .to()
  await using bench = await harness(sweeping)
  await bench.turn(Array.from({ length: 10_000 }, (_, index) => ({ key: `k${index}`, at: 1 })))
  await bench.turn([{ key: "new", at: 5_000 }], { now: 100 })
  expect([...watermarks]).toEqual([1])
})

test("a custom sink gets values of every turn in order, each turn under an id of its own", async () => {
  const runtime = memory()
  const events = eventsOf("events")
  const turns: { readonly id: string; readonly values: readonly number[] }[] = []
  const sink = foreachTurn<number>("collect", async (values, { id }) => {
    await new Promise((resolve) => setTimeout(resolve, 1))
    turns.push({ id, values })
  })
  const collecting = job("collecting")
    .from(events)
    .map((event) => event.at)
    .to(sink)
  const out = await publisher(runtime, events)
  for (let at = 0; at < 20; at++) await out.send({ key: "k", at })
  const query = await start(collecting, { runtime, trigger: "available-now", limits: { turnEventsMax: 3 } })
  await query.awaitTermination()
  expect(turns.flatMap(({ values }) => values)).toEqual(Array.from({ length: 20 }, (_, at) => at))
  expect(new Set(turns.map(({ id }) => id)).size).toBe(7)
})

test("a dead letter of a re-keyed row says where the source has it", async () => {
  // Symptom: dead letters behind a hop named the internal topic, whose records are gone soon.
  const events = eventsOf("events")
  const failing = job("failing")
    .from(events)
    .groupByKey((event) => event.at)
    .mapGroupsWithState({ state: json<number>() }, () => {
      throw new Error("no")
    })
    .to()
  await using bench = await harness(failing)
  await bench.turn([])
  const { dead } = await bench.turn([
    { key: "a", at: 1 },
    { key: "b", at: 2 }
  ])
  expect(dead).toMatchObject([
    { topic: "events", partition: 0, position: 1, key: 1, value: { key: "a", at: 1 } },
    { topic: "events", partition: 0, position: 2, key: 2, value: { key: "b", at: 2 } }
  ])
})

test("records that another process publishes in the middle of a read are no gap (I1)", async () => {
  // Symptom: once in some thousand reads a query stopped with source-gap while a publisher was busy. Cause: a read found nothing, then
  // asked for the end, and by then there were records.
  const store = makeMemoryStore()
  await Effect.runPromise(store.write(() => store.topics.create("events", 1)))
  const log = store.topics.log("events", 0)
  const record = { topic: "events", partition: 0, publishedAt: 1, headers: noHeaders, payload: new Uint8Array([1]), identity: undefined }
  const busy: RecordLog = {
    ...log,
    channel: log.channel,
    read: (bounds) => log.read(bounds),
    lastPosition: () => {
      if (log.lastPosition() === 0) log.append([record, record], new Map())
      return log.lastPosition()
    }
  }
  const raced: Store = {
    name: store.name,
    journals: store.journals,
    claims: store.claims,
    read: (query) => store.read(query),
    write: (work) => store.write(work),
    until: (channels, ready) => store.until(channels, ready),
    topics: { find: (name) => store.topics.find(name), create: () => undefined, log: () => busy }
  }
  const request = { topic: "events", partition: 0, after: 0, countMax: 10, bytesMax: 1_000 }
  const records = await Effect.runPromise(makeStoredSource(raced).read(request))
  expect(records.map(({ position }) => position)).toEqual([1, 2])
})

test("however many timeouts fall due at once, no more turns are fired than may wait to get out (P15)", async () => {
  // Symptom: a hundred thousand timeouts that fell due during an outage put all their outputs into memory at once. Cause: room for outputs
  // was waited for before rows, and not before the follow-ups that fire timeouts by the thousand.
  const runtime = memory()
  const events = eventsOf("events")
  const { promise: opened, resolve: open } = Promise.withResolvers<void>()
  let [fired, written] = [0, 0]
  const alarms = job("alarms")
    .from(events)
    .withWatermark((event) => event.at, 500)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (key, _events, state) {
      if (state.hasTimedOut) {
        fired += 1
        yield key
      } else state.setTimeoutTimestamp(key === "last" ? 2_000_000 : 1_000)
    })
    .to(
      foreachTurn<string>("slow", async (values) => {
        await opened
        written += values.length
      })
    )
  const out = await publisher(runtime, events)
  const keys = Array.from({ length: 20_000 }, (_, index) => `k${index}`)
  for (const key of keys) void out.send({ key, at: 1 })
  await out.flush()
  const query = await start(alarms, { runtime, limits: { turnsInFlightMax: 1 } })
  await query.processAllAvailable()
  await out.send({ key: "last", at: 1_000_000 })
  await until("the first have fired", () => fired > 0)
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect(fired).toBeLessThan(keys.length / 2)
  open()
  await query.processAllAvailable()
  await query.stop()
  expect({ fired, written }).toEqual({ fired: keys.length, written: keys.length })
})
