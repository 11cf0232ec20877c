// Goal: a trace can be followed from who publishes an event to what a job makes of it, across the shuffle and the timer (rules X1 - X7 of
// src/telemetry/turn-trace.ts), and whoever installs no SDK pays nothing for it.
// Method: the real SDK with its in-memory exporter; jobs on each runtime; what came out is read back, headers and all.
import { context, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api"
import { AlwaysOffSampler, type ReadableSpan } from "@opentelemetry/sdk-trace-base"
import { type Job, job, publisher, type Query, type Runtime, start, type Topic, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { memory } from "keyfold/testing"
import { describe, expect, onTestFinished, test, vi } from "vitest"
import { startCluster } from "../fixtures/cluster.ts"
import {
  closed,
  counting,
  headersIn,
  installSdk,
  partsOf,
  publishAll,
  publishForeign,
  type Sdk,
  underSpan,
  type Visit,
  visits
} from "../fixtures/tracing.ts"
import { freshDirectory, until } from "../fixtures/world.ts"

/** A fresh place for each test, and what carries its messages. */
const runtimes: Readonly<Record<string, { readonly make: () => Promise<Runtime>; readonly system: string }>> = {
  memory: { make: async () => memory(), system: "keyfold" },
  embedded: { make: async () => embedded(freshDirectory()), system: "keyfold" },
  clustered: {
    make: async () => {
      const cluster = await startCluster()
      onTestFinished(() => cluster[Symbol.asyncDispose]())
      return cluster.runtime
    },
    system: "nats"
  }
}

const visit = (group: string, at: number): Visit => ({ user: `user of ${group}`, group, at })
const internal = (query: string): string => `${query}~count`

const runToEnd = async (definition: Job, runtime: Runtime, limits = {}): Promise<void> => {
  const query = await start(definition, { runtime, trigger: "available-now", limits })
  await query.awaitTermination()
}

const linkKindsOf = (span: ReadableSpan): (string | undefined)[] =>
  span.links.map(({ attributes }) => attributes?.["keyfold.link"] as string)
const parentIdOf = (span: ReadableSpan): string | undefined => span.parentSpanContext?.spanId

/** The one record of a topic, once it is there. */
const onlyHeaders = async <T>(runtime: Runtime, of: Topic<T>): Promise<ReadonlyMap<string, string>> => {
  let found: ReadonlyMap<string, string>[] = []
  await until("one record", async () => {
    found = await headersIn(runtime, of)
    return found.length > 0
  })
  expect(found).toHaveLength(1)
  return found[0] as ReadonlyMap<string, string>
}

/** Two requests of two traces: the second one's event moves the watermark past what the first one's has armed. */
const oneSession = async (runtime: Runtime, query: Query) => {
  const first = await underSpan("first request", () => publishAll(runtime, visits, [visit("a", 1_000)]))
  await query.processAllAvailable()
  const second = await underSpan("second request", () => publishAll(runtime, visits, [visit("b", 100_000)]))
  const headers = await onlyHeaders(runtime, closed)
  await query.stop()
  return { first, second, headers }
}

/** The spans on the way back from an output of a timeout to the request. */
const wayBack = (sdk: Sdk, headers: ReadonlyMap<string, string>) => {
  const published = sdk.with(partsOf(headers).spanId)
  const fired = sdk.with(parentIdOf(published))
  const armedId = fired.links.find(({ attributes }) => attributes?.["keyfold.link"] === "armed")?.context.spanId
  const armed = sdk.with(armedId)
  const handedOn = sdk.with(armed.links[0]?.context.spanId)
  const taken = sdk.with(parentIdOf(handedOn))
  return { published, fired, armed, handedOn, taken }
}

describe.each(Object.entries(runtimes))("on %s", (_, { make, system }) => {
  test("X1 - X4, X7: one trace leads from the publisher through shuffle and timer to the output", async () => {
    using sdk = installSdk()
    const runtime = await make()
    const query = await start(counting("traced"), { runtime })
    const { first, second, headers } = await oneSession(runtime, query)
    const { published, fired, armed, handedOn, taken } = wayBack(sdk, headers)
    const way = [taken, handedOn, armed, fired, published]
    expect(way.map(({ name, kind }) => [name, kind])).toEqual([
      ["process visits", SpanKind.CONSUMER],
      [`publish ${internal("traced")}`, SpanKind.PRODUCER],
      [`process ${internal("traced")}`, SpanKind.CONSUMER],
      [`process ${internal("traced")}`, SpanKind.CONSUMER],
      ["publish closed", SpanKind.PRODUCER]
    ])
    expect(way.map((span) => span.spanContext().traceId)).toEqual(way.map(() => first.traceId))
    expect(taken.links.map(({ context: to }) => to.spanId)).toEqual([first.spanId])
    expect(parentIdOf(taken)).toBe(first.spanId)
    expect(parentIdOf(armed)).toBe(handedOn.spanContext().spanId)
    expect(parentIdOf(fired)).toBe(armed.spanContext().spanId)
    expect(partsOf(headers)).toMatchObject({ traceId: first.traceId, flags: "01" })
    expect(fired.attributes).toMatchObject({ "keyfold.timeouts": 1, "keyfold.keys": 0, "messaging.batch.message_count": 0 })
    // What moved the watermark is there too.
    const caused = fired.links.filter(({ attributes }) => attributes?.["keyfold.link"] === "caused")
    expect(caused.map(({ context: to }) => to.traceId)).toEqual([second.traceId])
  })

  test("X1: names and attributes are those of the messaging conventions", async () => {
    using sdk = installSdk()
    const runtime = await make()
    await underSpan("request", () => publishAll(runtime, visits, [visit("a", 5_000), visit("a", 6_000), visit("b", 7_000)]))
    await runToEnd(counting("named"), runtime)
    const common = { "messaging.system": system, "keyfold.job": "named", "keyfold.query": "named", "keyfold.partition": 0 }
    const [taken] = sdk.named("process visits")
    expect(taken?.attributes).toEqual({
      ...common,
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
      "messaging.destination.name": "visits",
      "messaging.destination.partition.id": "0",
      "messaging.consumer.group.name": "named",
      "messaging.client.id": expect.stringMatching(/^[\w-]{16}$/),
      "messaging.batch.message_count": 3,
      "keyfold.stage": "intake",
      "keyfold.turn": expect.any(Number),
      "keyfold.producers": 1,
      "keyfold.events": 3,
      "keyfold.keys": 0,
      "keyfold.timeouts": 0,
      "keyfold.late": 0,
      "keyfold.failed": 0,
      "keyfold.outputs": expect.any(Number),
      "keyfold.dead_letters": 0
    })
    const [sent] = sdk.named(`publish ${internal("named")}`)
    expect(sent?.attributes).toMatchObject({
      ...common,
      "messaging.operation.name": "publish",
      "messaging.operation.type": "send",
      "messaging.destination.name": internal("named"),
      "messaging.batch.message_count": expect.any(Number),
      "messaging.client.id": taken?.attributes["messaging.client.id"],
      "keyfold.stage": "intake"
    })
    const [counted] = sdk.named(`process ${internal("named")}`)
    expect(counted?.attributes).toMatchObject({ "keyfold.stage": "count", "keyfold.events": 3, "keyfold.keys": 2 })
    expect(counted?.status).toEqual({ code: SpanStatusCode.UNSET })
  })

  test("X5: without an SDK no span is made, no header read or written, and the API is asked per turn, not per event", async () => {
    const runtime = await make()
    const events = Array.from({ length: 5_000 }, (_, index) => visit(`g${index % 100}`, index))
    const traced = events.map((event, index) => ({
      event,
      headers: { traceparent: `00-${hex(index + 1, 32)}-${hex(index + 1, 16)}-01`, tracestate: "a=1" }
    }))
    const asked = vi.spyOn(trace, "getTracerProvider")
    const others = [vi.spyOn(trace, "getTracer"), vi.spyOn(trace, "getSpan"), vi.spyOn(context, "active"), vi.spyOn(context, "with")]
    const read = vi.spyOn(Map.prototype, "get")
    let lookups = 0
    let turns = 0
    try {
      await publishAll(runtime, visits, events)
      await publishForeign(runtime, traced)
      const query = await start(counting("untraced"), { runtime, trigger: "available-now", atEnd: "close" })
      await query.awaitTermination()
      turns = (query as unknown as { readonly totals: { readonly turns: number } }).totals.turns
      // A source that builds its records' headers looks for what is not there yet: that is no reading.
      const isFound = (call: number): boolean => read.mock.results[call]?.value !== undefined
      lookups = read.mock.calls.filter(([name], call) => (name === "traceparent" || name === "tracestate") && isFound(call)).length
    } finally {
      read.mockRestore()
    }
    const parcels = Math.ceil(events.length / 4_096) + 1
    // A turn that finds nothing to commit asks as well, at most one of them per partition and step.
    expect(asked.mock.calls.length).toBeGreaterThan(turns)
    expect(asked.mock.calls.length).toBeLessThanOrEqual(3 * turns + parcels + 20)
    expect(asked.mock.calls.length).toBeLessThan(events.length / 5)
    expect(others.map(({ mock }) => mock.calls.length)).toEqual([0, 0, 0, 0])
    expect(lookups).toBe(0)
    vi.restoreAllMocks()
    const headers = [...(await headersIn(runtime, visits)).slice(0, events.length), ...(await headersIn(runtime, closed))]
    expect(headers.length).toBe(events.length + 100)
    expect(headers.filter((found) => found.has("traceparent") || found.has("tracestate"))).toEqual([])
  })

  test("X1: of ten thousand events of ten thousand producers no span has more than 128 links, sampled ones first", async () => {
    using sdk = installSdk()
    const runtime = await make()
    const sampledOneIn = 200
    {
      await using out = await publisher(runtime, visits)
      for (let index = 1; index <= 10_000; index++) {
        const producer = { traceId: hex(index, 32), spanId: hex(index, 16), traceFlags: index % sampledOneIn === 0 ? 1 : 0 }
        context.with(trace.setSpanContext(ROOT_CONTEXT, producer), () => void out.send(visit(`g${index % 10}`, index)))
      }
    }
    await runToEnd(counting("bounded"), runtime, { turnEventsMax: 20_000, turnBytesMax: 16_777_216 })
    const taken = sdk.named("process visits")
    for (const { attributes, links, droppedLinksCount, parentSpanContext } of taken) {
      const producers = attributes["keyfold.producers"] as number
      expect(producers).toBe(attributes["messaging.batch.message_count"])
      expect([links.length, droppedLinksCount]).toEqual([Math.min(producers, 128), 0])
      const flags = links.map(({ context: to }) => to.traceFlags)
      expect(flags).toEqual(flags.toSorted((left, right) => right - left))
      // Of several traces, some of them sampled: one of its own (X2).
      if (producers > 1) expect(parentSpanContext).toBeUndefined()
    }
    // Servers hand over what they have: it may be more than one turn, but not one without a great many producers.
    expect(Math.max(...taken.map(({ attributes }) => attributes["keyfold.producers"] as number))).toBeGreaterThan(1_000)
    const sampled = taken.flatMap(({ links }) =>
      links.filter(({ context: to }) => to.traceFlags === 1).map(({ context: to }) => to.traceId)
    )
    expect(sampled).toEqual(Array.from({ length: 10_000 / sampledOneIn }, (_, index) => hex((index + 1) * sampledOneIn, 32)))
  })

  test("X2, X6: what its publishers do not sample is not sampled, and its outputs say so", async () => {
    using sdk = installSdk()
    const runtime = await make()
    const unsampled = (index: number) => ({ traceparent: `00-${hex(index, 32)}-${hex(index, 16)}-00` })
    const events = [1, 2, 3].map((index) => ({ event: visit("a", index), headers: unsampled(index) }))
    await publishForeign(runtime, events)
    await runClosing("unsampled", runtime)
    expect(sdk.spans).toEqual([])
    const { traceId, flags } = partsOf(await onlyHeaders(runtime, closed))
    expect({ traceId, flags }).toEqual({ traceId: hex(1, 32), flags: "00" })
  })

  test("X2: under a sampler that takes nothing, outputs still carry a context, marked as not sampled", async () => {
    using sdk = installSdk(new AlwaysOffSampler())
    const runtime = await make()
    await publishAll(runtime, visits, [visit("a", 1)])
    await runClosing("off", runtime)
    expect(sdk.spans).toEqual([])
    expect(partsOf(await onlyHeaders(runtime, closed)).flags).toBe("00")
  })

  test("X6: what is no trace context is passed over, and no other header travels on", async () => {
    using sdk = installSdk()
    const runtime = await make()
    const valid = `00-${hex(7, 32)}-${hex(7, 16)}-01`
    const texts = [
      "",
      "garbage",
      `ff-${hex(8, 32)}-${hex(8, 16)}-01`,
      `00-${hex(0, 32)}-${hex(8, 16)}-01`,
      `00-${hex(8, 32)}-${hex(0, 16)}-01`,
      `00-${hex(8, 32)}-${hex(8, 16)}-01-more`,
      `00-${hex(8, 32).replace("8", "G")}-${hex(8, 16)}-01`,
      `00-${hex(0xabc, 32).toUpperCase()}-${hex(8, 16)}-01`
    ]
    const events = [
      ...texts.map((traceparent) => ({ event: visit("a", 10), headers: { traceparent } })),
      { event: visit("a", 10), headers: { traceparent: valid, tracestate: "vendor=1,other=2", "Nats-Trace-Dest": "spy", own: "x" } }
    ]
    await publishForeign(runtime, events)
    await runClosing("passed-over", runtime)
    const [taken] = sdk.named("process visits")
    expect(taken?.attributes).toMatchObject({ "keyfold.producers": 1, "keyfold.events": events.length })
    expect(taken?.links.map(({ context: to }) => to.spanId)).toEqual([hex(7, 16)])
    const headers = await onlyHeaders(runtime, closed)
    expect(partsOf(headers).traceId).toBe(hex(7, 32))
    expect(headers.get("tracestate")).toBe("vendor=1,other=2")
    for (const name of headers.keys()) expect(name).not.toMatch(/^(Nats-Trace|own)/i)
  })

  test("a turn that stops the query ends as an error with its code", async () => {
    using sdk = installSdk()
    const runtime = await make()
    await publishAll(runtime, visits, [visit("poison", 1)])
    const stopping = job("stopping", { onError: "stop" })
      .from(visits)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, () => {
        throw new TypeError("the message has the event: secret")
      })
      .to()
    await expect(runToEnd(stopping, runtime)).rejects.toMatchObject({ code: "function-failed" })
    const [taken] = sdk.named("process visits")
    expect(taken?.status).toEqual({ code: SpanStatusCode.ERROR, message: "function-failed" })
    expect(taken?.attributes["error.type"]).toBe("function-failed")
    expect(JSON.stringify([taken?.attributes, taken?.events])).not.toContain("secret")
  })

  test("X3: dead letters are counted, and carry the trace", async () => {
    using sdk = installSdk()
    const runtime = await make()
    const request = await underSpan("request", () => publishAll(runtime, visits, [visit("poison", 1), visit("fine", 2)]))
    await runToEnd(counting("deadly"), runtime)
    const [counted] = sdk.named(`process ${internal("deadly")}`)
    expect(counted?.attributes).toMatchObject({ "keyfold.dead_letters": 1, "keyfold.failed": 1, "keyfold.keys": 2 })
    expect(counted?.status.code).toBe(SpanStatusCode.UNSET)
    const dead = topic("deadly-dead", { codec: json<unknown>(), key: () => "", partitions: 1 })
    const { traceId, spanId } = partsOf(await onlyHeaders(runtime, dead))
    expect(traceId).toBe(request.traceId)
    expect(sdk.with(spanId).name).toBe("publish deadly-dead")
  })

  test("the turn's span is active in the state function, and whatever was active at the start is no parent", async () => {
    using sdk = installSdk()
    const runtime = await make()
    await publishAll(runtime, visits, [visit("a", 1)])
    const active: (string | undefined)[] = []
    const looking = job("looking")
      .from(visits)
      .groupByKey()
      .mapGroupsWithState({ state: json<number>() }, () => {
        active.push(trace.getActiveSpan()?.spanContext().spanId)
        return 1
      })
      .to()
    await underSpan("main", () => runToEnd(looking, runtime))
    const [taken] = sdk.named("process visits")
    expect(active).toEqual([taken?.spanContext().spanId])
    expect(taken?.parentSpanContext).toBeUndefined()
    expect(linkKindsOf(taken as ReadableSpan)).toEqual([])
  })

  test("X7: events of one tick carry each its own sender's span, and none where there is none", async () => {
    using _sdk = installSdk()
    const runtime = await make()
    const out = await publisher(runtime, visits)
    const spans = [
      await underSpan("one", async () => void out.send(visit("a", 1))),
      await underSpan("two", async () => void out.send(visit("a", 2)))
    ]
    void out.send(visit("a", 3))
    await out[Symbol.asyncDispose]()
    const headers = await headersIn(runtime, visits)
    expect(headers.slice(0, 2).map((found) => partsOf(found).spanId)).toEqual(spans.map(({ spanId }) => spanId))
    expect(headers[2]?.has("traceparent")).toBe(false)
  })
})

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0")

/** All that waits is closed, so that what was armed comes out. */
const runClosing = async (name: string, runtime: Runtime): Promise<void> => {
  const query = await start(counting(name), { runtime, trigger: "available-now", atEnd: "close" })
  await query.awaitTermination()
}
