// Goal: outputs reach a JetStream stream once and in order whatever happens on the way (PROTOCOL P12 to P16), on every server version.
// Method: the sink on real servers that are killed, paused and cut off behind a proxy; what is stored is read message by message.
import { jetstreamManager } from "@nats-io/jetstream"
import { connect, type NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { duplicateWindowMs, streamOf, streamSubjects } from "../../src/model/jetstream-names.ts"
import { type NewRecord, noHeaders } from "../../src/model/record.ts"
import { type JetStreamSinkOptions, makeJetStreamSink, payloadBytesMaxOf } from "../../src/sink/jetstream.ts"
import type { Sink } from "../../src/sink/sink.ts"
import { startNatsCluster } from "../servers/nats-cluster.ts"
import { startNats } from "../servers/nats-server.ts"
import { startProxy } from "../servers/proxy.ts"
import { type Server, sleep } from "../servers/server.ts"
import { restoreData, snapshotData } from "../servers/snapshot.ts"
import { canStart, natsVersions, natsVersionsForLong } from "../servers/versions.ts"

const waitMsMax = 60_000

/**
 * A topic of its own for each test. Servers of 2.10 and newer may bring the messages of a stream back that is deleted and created again at
 * once: its files are removed later.
 */
let topic = "out"
let topics = 0

/** Everything that a test opened, closed in the other order. */
class Opened implements AsyncDisposable {
  readonly #scope = Scope.makeUnsafe()
  readonly #connections: NatsConnection[] = []

  async connect(
    url: string | readonly string[],
    options: { readonly user?: string; readonly pass?: string } = {}
  ): Promise<NatsConnection> {
    const servers = typeof url === "string" ? [url] : [...url]
    const connection = await connect({
      servers,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
      noAsyncTraces: true,
      pingInterval: 500,
      ...options
    })
    this.#connections.push(connection)
    return connection
  }

  sink(connection: NatsConnection, options: JetStreamSinkOptions = {}): Promise<Sink["Service"]> {
    return run(Scope.provide(makeJetStreamSink(connection, { ackMsMax: 400, ...options }), this.#scope))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(Scope.close(this.#scope, Exit.void))
    for (const connection of this.#connections) await connection.close()
  }
}

const run = <A>(effect: Effect.Effect<A, KeyfoldError>): Promise<A> => Effect.runPromise(effect)

const failureOf = (effect: Effect.Effect<unknown, KeyfoldError>): Promise<KeyfoldError> => Effect.runPromise(Effect.flip(effect))

/** Output `number` of a writer, or a publisher's record. */
const output = (partition: number, number: number | undefined, text: string = `${number}`, writer = "w"): NewRecord => ({
  topic,
  partition,
  publishedAt: Date.now(),
  headers: noHeaders,
  payload: new Uint8Array(Buffer.from(text)),
  identity: number === undefined ? undefined : { writer, number }
})

const outputs = (from: number, to: number, partition = 0): NewRecord[] =>
  Array.from({ length: to - from + 1 }, (_, index) => output(partition, from + index))

const texts = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, index) => `${from + index}`)

const waitUntil = async (what: string, holds: () => Promise<boolean> | boolean): Promise<void> => {
  const endMs = performance.now() + waitMsMax
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`not within ${waitMsMax} ms: ${what}`)
    await sleep(10)
  }
}

interface StreamOptions {
  readonly replicas?: number
  readonly windowMs?: number
  readonly settings?: object
}

const createStream = async (connection: NatsConnection, partition = 0, options: StreamOptions = {}): Promise<void> => {
  const manager = await jetstreamManager(connection, { timeout: 20_000 })
  const of = { topic, partition }
  await manager.streams.add({
    name: streamOf(of),
    subjects: [...streamSubjects(of)],
    num_replicas: options.replicas ?? 1,
    duplicate_window: (options.windowMs ?? duplicateWindowMs) * 1_000_000,
    ...options.settings
  })
}

const stateOf = async (connection: NatsConnection, partition = 0) =>
  (await (await jetstreamManager(connection)).streams.info(streamOf({ topic, partition }))).state

/** What a partition holds, in order, from its first message to its last. */
const stored = async (connection: NatsConnection, partition = 0): Promise<string[]> => {
  const manager = await jetstreamManager(connection, { timeout: 20_000 })
  const stream = streamOf({ topic, partition })
  const { state } = await manager.streams.info(stream)
  const found: string[] = []
  for (let first = Math.max(1, state.first_seq); first <= state.last_seq; first += 200) {
    const sequences = Array.from({ length: Math.min(200, state.last_seq - first + 1) }, (_, index) => first + index)
    const messages = await Promise.all(sequences.map((seq) => manager.streams.getMessage(stream, { seq })))
    found.push(...messages.map((message) => message?.string() ?? "(removed)"))
  }
  return found
}

for (const version of natsVersions()) {
  describe(`nats ${version}`, () => {
    let server: Server
    beforeAll(async () => {
      server = await startNats({ version })
    })
    afterAll(() => server.stop())

    /** A connection, and fresh streams for the topic `out`. */
    const begin = async (opened: Opened, count = 1, options: StreamOptions = {}): Promise<NatsConnection> => {
      const connection = await opened.connect(server.url)
      topic = `out${++topics}`
      for (let partition = 0; partition < count; partition++) await createStream(connection, partition, options)
      return connection
    }

    test("P12 an output has its writer's subject, its number, its message id and its own headers", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      const headers = new Map([
        ["traceparent", "00-é"],
        ["Nats-Trace-Dest", "elsewhere"],
        ["kf-n", "77"]
      ])
      await run(sink.publish([{ ...output(0, 1), headers }, output(0, 2), output(0, undefined, "foreign")]))
      const manager = await jetstreamManager(connection)
      const messages = await Promise.all([1, 2, 3].map((seq) => manager.streams.getMessage(`${topic}-0`, { seq })))
      expect(messages.map((message) => message?.subject)).toEqual([`${topic}.0.w`, `${topic}.0.w`, `${topic}.0`])
      expect(Object.fromEntries(messages[0]?.header ?? [])).toEqual({
        "Nats-Msg-Id": ["w.1"],
        "kf-n": ["1"],
        "Nats-Expected-Last-Subject-Sequence": ["0"],
        traceparent: ["00-é"]
      })
      expect(messages[1]?.header.get("Nats-Expected-Last-Subject-Sequence")).toBe("1")
      expect(messages[2]?.header.get("kf-n")).toBe("")
    })

    test("P12 what a header cannot carry is refused and not altered", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      for (const [name, value] of [
        ["a b", "x"],
        ["a", "x\r\nkf-n: 9"],
        ["a", " x"],
        ["", "x"]
      ] as const) {
        for (const number of [1, undefined]) {
          const failure = await failureOf(sink.publish([{ ...output(0, number), headers: new Map([[name, value]]) }]))
          expect(failure.code).toBe("encode-failed")
        }
      }
      await run(sink.publish([output(0, 1), output(0, undefined, "foreign")]))
      expect(await stored(connection)).toEqual(["1", "foreign"])
    })

    test("P13 outputs go one after the other, to many streams at once", async () => {
      await using opened = new Opened()
      const connection = await begin(opened, 16)
      const sink = await opened.sink(connection)
      const mixed = texts(1, 50).flatMap((_, index) => Array.from({ length: 16 }, (_, partition) => output(partition, index + 1)))
      await run(sink.publish(mixed))
      for (let partition = 0; partition < 16; partition++) expect(await stored(connection, partition)).toEqual(texts(1, 50))
    })

    test("P14 an output whose acknowledgement is lost is stored once", async () => {
      await using opened = new Opened()
      const observer = await begin(opened)
      await using proxy = await startProxy({ to: server.port })
      const sink = await opened.sink(await opened.connect(`nats://127.0.0.1:${proxy.port}`))
      await run(sink.publish(outputs(1, 3)))
      for (let number = 4; number <= 8; number++) {
        proxy.delay(150) // time to act between storing and its acknowledgement
        const publishing = run(sink.publish(outputs(number, number + 1)))
        await waitUntil("the output is stored", async () => (await stateOf(observer)).last_seq === number)
        proxy.cut()
        proxy.delay(0)
        await publishing
        await run(sink.publish(outputs(number, number)))
        number += 1
      }
      expect(await stored(observer)).toEqual(texts(1, 9))
    })

    test("P14 an acknowledgement that comes too late is not waited for", async () => {
      await using opened = new Opened()
      const observer = await begin(opened)
      await using proxy = await startProxy({ to: server.port })
      const sink = await opened.sink(await opened.connect(`nats://127.0.0.1:${proxy.port}`), { ackMsMax: 200 })
      await run(sink.publish(outputs(1, 1)))
      proxy.hold(true)
      const publishing = run(sink.publish(outputs(2, 20)))
      await sleep(600) // more than one time of waiting, less than it takes to call the connection dead
      proxy.hold(false)
      await publishing
      expect(await stored(observer)).toEqual(texts(1, 20))
    })

    test("P14 a duplicate window shorter than the pause changes nothing", async () => {
      await using opened = new Opened()
      const observer = await begin(opened, 1, { windowMs: 100 })
      await using proxy = await startProxy({ to: server.port })
      const sink = await opened.sink(await opened.connect(`nats://127.0.0.1:${proxy.port}`))
      await run(sink.publish(outputs(1, 3)))
      proxy.delay(150)
      const publishing = run(sink.publish(outputs(4, 6)))
      await waitUntil("the output is stored", async () => (await stateOf(observer)).last_seq === 4)
      await proxy.refuse(true)
      proxy.cut()
      proxy.delay(0)
      await sleep(500) // the window has passed
      await proxy.refuse(false)
      await publishing
      expect(await stored(observer)).toEqual(texts(1, 6))
    })

    test("P14 two that publish the same outputs store each once, in order", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const zombie = await opened.sink(connection)
      const owner = await opened.sink(await opened.connect(server.url))
      await run(zombie.publish(outputs(1, 2)))
      await run(owner.publish(outputs(3, 4)))
      await run(zombie.publish(outputs(3, 4))) // behind
      await run(zombie.publish(outputs(5, 5)))
      await run(owner.publish(outputs(5, 6))) // one of them stored
      const both = Effect.all([zombie.publish(outputs(7, 400)), owner.publish(outputs(7, 400))], { concurrency: "unbounded" })
      await run(both)
      expect(await stored(connection)).toEqual(texts(1, 400))
    })

    test("P14 two that publish the same outputs store each once, without a duplicate window to help", async () => {
      await using opened = new Opened()
      const connection = await begin(opened, 1, { windowMs: 100 })
      const zombie = await opened.sink(connection)
      const owner = await opened.sink(await opened.connect(server.url))
      await run(owner.publish(outputs(1, 2)))
      await run(zombie.publish(outputs(3, 3)))
      await sleep(300)
      await run(owner.publish(outputs(3, 4)))
      await sleep(300)
      await run(zombie.publish(outputs(4, 5)))
      expect(await stored(connection)).toEqual(texts(1, 5))
    })

    test("P14 a zombie with a number beyond the next one stores nothing", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const zombie = await opened.sink(connection)
      await run(zombie.publish(outputs(1, 2)))
      expect((await failureOf(zombie.publish(outputs(4, 4)))).code).toBe("output-fate-unknown")
      expect(await stored(connection)).toEqual(texts(1, 2))
    })

    test("P14 outputs that limits have removed after they were acknowledged are not missed", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      await run(sink.publish([...outputs(1, 3), output(0, undefined, "foreign")]))
      await (await jetstreamManager(connection)).streams.purge(`${topic}-0`, { seq: 4 })
      await run(sink.publish(outputs(4, 5)))
      expect(await stored(connection)).toEqual(["foreign", "4", "5"])
      await (await jetstreamManager(connection)).streams.purge(`${topic}-0`)
      expect(await run(sink.lastNumber("w", { topic, partition: 0 }))).toBe(5)
      await run(sink.publish(outputs(5, 6)))
      expect(await stored(connection)).toEqual(["6"])
    })

    test("P14 acknowledged outputs that are gone otherwise stop the writer", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      const manager = await jetstreamManager(connection)
      await run(sink.publish([output(0, undefined, "foreign"), ...outputs(1, 3)]))
      await manager.streams.purge(`${topic}-0`, { filter: `${topic}.0.w` })
      expect((await failureOf(sink.publish(outputs(4, 4)))).code).toBe("output-fate-unknown")
      await recreateStream(connection)
      const failure = await failureOf(sink.publish(outputs(4, 4)))
      expect(failure.code).toBe("output-fate-unknown")
      expect(failure.message).toContain(`${topic}-0 has acknowledged output 3`)
      expect(await stored(connection)).toEqual([])
    })

    test("P14 an output that the server takes for a repetition of one that is gone is not taken for stored", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      const manager = await jetstreamManager(connection)
      await run(sink.publish(outputs(1, 3)))
      await manager.streams.deleteMessage(`${topic}-0`, 3)
      const again = await opened.sink(connection)
      expect((await failureOf(again.publish(outputs(3, 5)))).code).toBe("output-fate-unknown")
      expect((await stateOf(connection)).messages).toBe(2)
    })

    test("P14 a first output goes to a stream that has lost its beginning, when it cannot have been there", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const manager = await jetstreamManager(connection)
      const of = { topic, partition: 0 }
      const first = await opened.sink(connection)
      await run(first.publish(["a", "b", "c"].map((text) => output(0, undefined, text))))
      await manager.streams.purge(`${topic}-0`, { seq: 3 })
      // An owner looks before its first commit: nothing of it can have been there.
      expect(await run(first.lastNumber("w", of))).toBe(0)
      await run(first.publish([output(0, 1)]))
      // One that comes back with what an earlier one has committed: the stream still holds what is older.
      const late = { ...output(0, 1, "v", "v"), publishedAt: Date.now() + 3_600_000 }
      await run((await opened.sink(connection)).publish([late]))
      // And where it does not, nobody can tell.
      const early = { ...output(0, 1, "u", "u"), publishedAt: Date.now() - 3_600_000 }
      expect((await failureOf((await opened.sink(connection)).publish([early]))).code).toBe("output-fate-unknown")
      expect(await stored(connection)).toEqual(["c", "1", "v"])
    })

    test("P14 a message of somebody else on a writer's subject is not taken for an output", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      await connection.request(`${topic}.0.w`, "foreign")
      expect((await failureOf(sink.publish(outputs(1, 1)))).code).toBe("output-fate-unknown")
      expect((await failureOf(sink.lastNumber("w", { topic, partition: 0 }))).code).toBe("output-fate-unknown")
    })

    test("P15 a full stream is waited for by a job, and refused to a publisher", async () => {
      await using opened = new Opened()
      const connection = await begin(opened, 1, { settings: { max_msgs: 3, discard: "new" } })
      const sink = await opened.sink(connection, { patienceMs: 300 })
      const publishing = run(sink.publish(outputs(1, 5)))
      await waitUntil("the stream is full", async () => (await stateOf(connection)).messages === 3)
      const failure = await failureOf(sink.publish([output(0, undefined, "a"), output(0, undefined, "b")]))
      expect(failure.code).toBe("storage-full")
      expect(failure.message).toContain("maximum messages exceeded")
      const manager = await jetstreamManager(connection)
      await manager.streams.purge(`${topic}-0`, { seq: 3 })
      await publishing
      expect(await stored(connection)).toEqual(["3", "4", "5"])
      await manager.streams.purge(`${topic}-0`, { seq: 5 })
      await run(sink.publish([output(0, undefined, "a"), output(0, undefined, "b")]))
      expect(await stored(connection)).toEqual(["5", "a", "b"])
    })

    test("P15 a publish without rights fails and says which", async () => {
      topic = "out"
      const config = `authorization { users: [
        { user: all, password: a }
        { user: reads, password: r, permissions: { publish: ["$JS.API.>"], subscribe: [">"] } }
        { user: blind, password: b, permissions: { publish: [">"], subscribe: ["nothing"] } }
        { user: mute, password: m, permissions: { publish: ["out.>"], subscribe: [">"] } }
      ] }`
      await using guarded = await startNats({ version, config })
      await using opened = new Opened()
      await createStream(await opened.connect(guarded.url, { user: "all", pass: "a" }))
      for (const [user, pass, words] of [
        ["reads", "r", `${topic}.0`],
        ["blind", "b", "_INBOX"],
        ["mute", "m", `STREAM.MSG.GET.${topic}-0`]
      ] as const) {
        const sink = await opened.sink(await opened.connect(guarded.url, { user, pass }), { ackMsMax: 20_000 })
        const failure = await failureOf(sink.publish([output(0, 1)]))
        expect([failure.code, user]).toEqual(["unreachable", user])
        expect(failure.message).toContain(words)
        if (user === "mute") await run(sink.publish([output(0, undefined)]))
        else expect((await failureOf(sink.publish([output(0, undefined)]))).message).toContain(words)
      }
    })

    test("P15 a topic that was deleted is a clear error", { timeout: 120_000 }, async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      await run(sink.publish([...outputs(1, 2), output(0, undefined)]))
      await deleteStreams(connection)
      const failures = await Promise.all([failureOf(sink.publish(outputs(3, 3))), failureOf(sink.publish([output(0, undefined)]))])
      for (const failure of failures) {
        expect(failure.code).toBe("topic-mismatch")
        expect(failure.message).toContain(`${topic}-0`)
      }
    })

    test("P7 the largest record fits with its headers, and can be looked up; a larger one is refused", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const payload = new Uint8Array(payloadBytesMaxOf(connection)).fill(255)
      const headers = new Map([["traceparent", "x".repeat(500)]])
      await run(
        (await opened.sink(connection)).publish([
          { ...output(0, 1), payload, headers },
          { ...output(0, undefined), payload }
        ])
      )
      const sink = await opened.sink(connection)
      expect(await run(sink.lastNumber("w", { topic, partition: 0 }))).toBe(1)
      for (const number of [2, undefined]) {
        const record = { ...output(0, number), payload: new Uint8Array(payload.byteLength + 4_096) }
        expect((await failureOf(sink.publish([record]))).code).toBe("encode-failed")
      }
      await run(sink.publish([output(0, 2), output(0, undefined)]))
      expect((await stateOf(connection)).messages).toBe(4)
    })

    test("P11 an interrupted publish may be repeated", async () => {
      await using opened = new Opened()
      const connection = await begin(opened)
      const sink = await opened.sink(connection)
      for (let round = 0; round < 20; round++) {
        const fiber = Effect.runFork(sink.publish(outputs(1, 600)))
        await sleep(1 + (round % 5))
        await run(Fiber.interrupt(fiber))
      }
      await run(sink.publish(outputs(1, 600)))
      expect(await stored(connection)).toEqual(texts(1, 600))
    })

    test("O1 publishers' records keep their order while the connection breaks again and again", async () => {
      await using opened = new Opened()
      const observer = await begin(opened)
      await using proxy = await startProxy({ to: server.port })
      const sink = await opened.sink(await opened.connect(`nats://127.0.0.1:${proxy.port}`))
      let cuts = 0
      let published = 0
      const publish = () =>
        run(
          Effect.forEach(
            [1, 301],
            (from) => sink.publish(texts(published + from, published + from + 299).map((text) => output(0, undefined, text))),
            { concurrency: "unbounded" }
          )
        )
      for (; cuts < 15; cuts++) {
        proxy.delay(1 + (cuts % 3)) // some are under way, either way
        const publishing = publish()
        await sleep(cuts % 8)
        proxy.cut()
        await publishing
        published += 600
      }
      expect(await stored(observer)).toEqual(texts(1, published))
    })

    test("a closed connection fails what is published", async () => {
      await using opened = new Opened()
      await begin(opened)
      const connection = await opened.connect(server.url)
      const sink = await opened.sink(connection)
      await run(sink.publish(outputs(1, 1)))
      await connection.close()
      expect((await failureOf(sink.publish(outputs(2, 2)))).code).toBe("unreachable")
      expect((await failureOf(sink.publish([output(0, undefined)]))).code).toBe("unreachable")
    })

    test.runIf(canStart("nats"))(
      "P14 what a server has lost of a publish is sent again, what it lost before stops the writer",
      async () => {
        await using own = await startNats({ version })
        await using opened = new Opened()
        const connection = await opened.connect(own.url)
        await createStream(connection)
        const sink = await opened.sink(connection)
        await run(sink.publish(outputs(1, 3)))
        const early = snapshotData(own)
        await run(sink.publish(outputs(4, 6)))
        const late = snapshotData(own)
        const publishing = run(sink.publish(outputs(7, 3_000)))
        await waitUntil("it is on its way", async () => (await stateOf(connection)).last_seq >= 500)
        await restoreData(own, late)
        await publishing
        expect(await stored(connection)).toEqual(texts(1, 3_000))
        await restoreData(own, early)
        const failure = await failureOf(sink.publish(outputs(3_001, 3_002)))
        expect(failure.code).toBe("output-fate-unknown")
        expect(await stored(connection)).toEqual(texts(1, 3))
      }
    )

    test.runIf(canStart("nats"))(
      "P14 a server that is killed while it stores: each output once, in order",
      { timeout: 120_000 },
      async () => {
        await using own = await startNats({ version })
        await using opened = new Opened()
        const connection = await opened.connect(own.url)
        await createStream(connection, 0)
        await createStream(connection, 1)
        const sink = await opened.sink(connection)
        let published = 0
        let isOver = false
        const publishing = (async () => {
          while (!isOver) {
            const records = [...outputs(published + 1, published + 50), ...outputs(published + 1, published + 50, 1)]
            const foreign = texts(published + 1, published + 50).map((text) => output(2, undefined, text))
            await run(sink.publish(records))
            await run(sink.publish(foreign))
            published += 50
          }
        })()
        publishing.catch(() => undefined) // it is awaited below, when nothing else went wrong
        await createStream(connection, 2)
        for (let kill = 0; kill < 4; kill++) {
          const before = published
          await waitUntil("it goes on", () => published >= before + 200)
          await own.kill()
          await sleep(100 * kill)
          await own.start()
        }
        isOver = true
        await publishing
        for (const partition of [0, 1, 2]) expect(await stored(connection, partition)).toEqual(texts(1, published))
      }
    )
  })
}

const deleteStreams = async (connection: NatsConnection): Promise<void> => {
  const manager = await jetstreamManager(connection)
  for await (const name of manager.streams.names()) if (name.startsWith(`${topic}-`)) await manager.streams.delete(name)
}

const recreateStream = (connection: NatsConnection): Promise<void> =>
  waitUntil("it is empty again", async () => {
    await deleteStreams(connection)
    await createStream(connection)
    return (await stateOf(connection)).last_seq === 0
  })

describe.runIf(canStart("nats"))("three replicas", () => {
  for (const version of natsVersionsForLong()) {
    test(`nats ${version}: P14 leaders that are killed while they store: each output once, in order`, { timeout: 240_000 }, async () => {
      await using cluster = await startNatsCluster(3, { version })
      await using opened = new Opened()
      const connection = await opened.connect(cluster.urls)
      for (const partition of [0, 1, 2, 3]) await createStream(connection, partition, { replicas: 3 })
      const sink = await opened.sink(connection, { ackMsMax: 1_000 })
      let published = 0
      let isOver = false
      const publishing = (async () => {
        while (!isOver) {
          const records = [0, 1].flatMap((partition) => outputs(published + 1, published + 20, partition))
          const foreign = [2, 3].flatMap((partition) =>
            texts(published + 1, published + 20).map((text) => output(partition, undefined, text))
          )
          await run(Effect.all([sink.publish(records), sink.publish(foreign)], { concurrency: "unbounded" }))
          published += 20
        }
      })()
      publishing.catch(() => undefined) // it is awaited below, when nothing else went wrong
      const manager = await jetstreamManager(connection, { timeout: 20_000 })
      for (let round = 0; round < 3; round++) {
        const before = published
        await waitUntil("it goes on", () => published >= before + 100)
        const leader = (await manager.streams.info(streamOf({ topic, partition: round }))).cluster?.leader
        const node = cluster.nodeOf(leader as string)
        await node.kill()
        const then = published
        await waitUntil("it goes on with two", () => published >= then + 40)
        await node.start()
        await cluster.ready()
      }
      isOver = true
      await publishing
      for (const partition of [0, 1, 2, 3]) expect(await stored(connection, partition)).toEqual(texts(1, published))
    })
  }
})
