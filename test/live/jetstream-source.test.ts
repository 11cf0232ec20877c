// Goal: whatever happens to a stream, its server and the connection, the JetStream source answers every record once and in order, or says
// that records are gone (P3, I1); nothing is skipped in silence. Each trap of the servers has its test.
// Method: real servers of every version; streams are deleted, purged and overtaken behind the source's back, servers killed and put back,
// connections cut. What is read is held against what was published. Waits are for conditions.
import { connect, headers, type NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { describe, expect, onTestFinished, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import type { StoredRecord, TopicPartition } from "../../src/model/record.ts"
import { nothingSeen, screen } from "../../src/model/seen.ts"
import { type JetStreamSourceOptions, makeJetStreamSource } from "../../src/source/jetstream.ts"
import type { Source } from "../../src/source/source.ts"
import { seedOr, sleep, until } from "../fixtures/world.ts"
import { startNatsCluster } from "../servers/nats-cluster.ts"
import { type NatsOptions, startNats } from "../servers/nats-server.ts"
import { startProxy } from "../servers/proxy.ts"
import type { Server } from "../servers/server.ts"
import { restoreData, snapshotData } from "../servers/snapshot.ts"
import { canStart, natsVersions, natsVersionsForLong, running } from "../servers/versions.ts"

type JetStream = Source["Service"]

const versions = natsVersions().filter((version) => version !== running)
const clicks: TopicPartition = { topic: "clicks", partition: 0 }
const one = { partitions: 1, partitionsDefault: 1 }
const bounds = { countMax: 1_000, bytesMax: 1_000_000 }

const run = <A>(effect: Effect.Effect<A, KeyfoldError>): Promise<A> => Effect.runPromise(effect)

const failure = async (effect: Effect.Effect<unknown, KeyfoldError>): Promise<KeyfoldError> => {
  const exit = await Effect.runPromise(Effect.result(effect))
  if (exit._tag === "Success") throw new Error(`it did not fail, but answered ${JSON.stringify(exit.success)}`)
  return exit.failure
}

const client = async (url: string | string[], options: object = {}): Promise<NatsConnection> => {
  const connection = await connect({
    servers: url,
    noAsyncTraces: true,
    maxReconnectAttempts: -1,
    timeout: 2_000,
    reconnectTimeWait: 20,
    reconnectJitter: 10,
    pingInterval: 500,
    ...options
  })
  onTestFinished(() => connection.close())
  return connection
}

const nats = async (options: NatsOptions): Promise<Server> => {
  const server = await startNats(options)
  onTestFinished(() => server.stop())
  return server
}

const sourceOver = async (connection: NatsConnection, options: Partial<JetStreamSourceOptions> = {}): Promise<JetStream> => {
  const scope = Scope.makeUnsafe()
  onTestFinished(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return Effect.runPromise(Effect.provideService(makeJetStreamSource(connection, { replicas: 1, ...options }), Scope.Scope, scope))
}

/** JetStream's interface, as an operator's tool uses it. */
const ask = async (connection: NatsConnection, subject: string, body: object = {}): Promise<Record<string, unknown>> =>
  (await connection.request(`$JS.API.${subject}`, JSON.stringify(body), { timeout: 10_000 })).json()

const publish = async (connection: NatsConnection, subject: string, ...texts: readonly string[]): Promise<void> => {
  for (const text of texts) {
    const answer = (await connection.request(subject, text, { timeout: 1_000 })).json<{ readonly error?: object }>()
    if (answer.error !== undefined) throw new Error(JSON.stringify(answer.error))
  }
}

/** Pings that are under way when a connection is lost fail. */
const isConnected = (connection: NatsConnection): Promise<boolean> =>
  Promise.race([connection.rtt().then(Boolean, () => false), sleep(100).then(() => false)])

const numbers = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, index) => String(from + index))

const textsOf = (records: readonly StoredRecord[]): string[] => records.map(({ payload }) => Buffer.from(payload).toString())

/** Reads what comes behind a position until there are so many; fails as the source does. */
const follow = (source: JetStream, of: TopicPartition, from: number, count: number): Effect.Effect<StoredRecord[], KeyfoldError> =>
  Effect.gen(function* () {
    const all: StoredRecord[] = []
    let after = from
    while (all.length < count) {
      yield* source.arrival([{ ...of, after }])
      const records = yield* source.read({ ...of, after, ...bounds })
      all.push(...records)
      after = records.at(-1)?.position ?? after
    }
    return all
  })

/** Publishes 100 large records, and reads none: answers how many of them the source has asked for, once it asks for no more. */
const fullBuffer = async (
  admin: NatsConnection,
  source: JetStream,
  of: TopicPartition,
  subject: string | ((number: number) => string)
): Promise<number> => {
  const payload = new Uint8Array(100_000)
  for (let number = 1; number <= 100; number++) await admin.request(typeof subject === "string" ? subject : subject(number), payload)
  await run(source.arrival([{ ...of, after: 0 }]))
  const stream = of.topic === "clicks" ? "clicks-0" : of.topic
  let delivered = -1
  // What was delivered may lie in a socket for a while, and a request for more follow when it is taken.
  let looksAtRest = 0
  await until("it asks for no more", async () => {
    const { consumers } = (await ask(admin, `CONSUMER.LIST.${stream}`)) as {
      consumers: { delivered: { stream_seq: number }; num_waiting: number }[]
    }
    const now = consumers[0]?.delivered.stream_seq ?? 0
    const rests = now === delivered && now > 0 && consumers[0]?.num_waiting === 0
    delivered = now
    looksAtRest = rests ? looksAtRest + 1 : 0
    return looksAtRest > 50
  })
  expect(delivered).toBeLessThan(90)
  return delivered
}

/** Publishes to `l.*` of a stream that keeps the last of each subject, so that every other message is missing. Answers what is left. */
const publishHoles = async (admin: NatsConnection): Promise<string[]> => {
  await publish(admin, "l.first", "kept")
  const subjectOf = (number: string): string => (Number(number) % 2 === 0 ? `l.own${number}` : "l.shared")
  for (let from = 1; from < 20_000; from += 500) {
    await Promise.all(numbers(from, from + 499).map((number) => publish(admin, subjectOf(number), number)))
  }
  return ["kept", ...numbers(1, 20_000).filter((number) => Number(number) % 2 === 0 || number === "19999")]
}

/** What is read from the beginning, and why there is no more. */
const untilFault = async (source: JetStream, of: TopicPartition): Promise<{ records: StoredRecord[]; error: KeyfoldError }> => {
  const records: StoredRecord[] = []
  const reading = Effect.gen(function* () {
    for (;;) records.push(...(yield* follow(source, of, records.at(-1)?.position ?? 0, 1)))
  })
  const error = await failure(reading)
  return { records, error }
}

/** A topic with records 1 ... count, and a source over it. */
const world = async (version: string, count: number) => {
  const server = await nats({ version })
  const admin = await client(server.url)
  const source = await sourceOver(await client(server.url))
  const { created } = await run(source.open("clicks", one))
  await publish(admin, "clicks.0", ...numbers(1, count))
  return { server, admin, source, created: created[0] as string }
}

describe.skipIf(!canStart("nats")).each(versions)("the source on nats-server %s:", (version) => {
  // ---- P3: the traps

  test("P3 a stream that is deleted under a reader is a gap that names it", async () => {
    const { admin, source, created } = await world(version, 3)
    await run(follow(source, clicks, 0, 3))
    const waiting = failure(follow(source, clicks, 3, 1))
    await ask(admin, "STREAM.DELETE.clicks-0")
    const error = await waiting
    expect(error.code).toBe("source-gap")
    expect(error.message).toMatch(/clicks-0.*position 3.*does not exist/)
    expect((await failure(source.check(clicks, { created, position: 3, publishedAt: null }))).code).toBe("source-gap")
  })

  for (const count of [0, 1, 3, 8]) {
    test(`P3 a stream that is deleted and created again with ${count} records under a reader is a gap`, async () => {
      const { admin, source, created } = await world(version, 3)
      await run(follow(source, clicks, 0, 3))
      const waiting = failure(follow(source, clicks, 3, 100))
      await ask(admin, "STREAM.DELETE.clicks-0")
      const other = await sourceOver(admin)
      await run(other.open("clicks", one))
      await publish(admin, "clicks.0", ...numbers(1, count))
      const error = await waiting
      expect(error.code).toBe("source-gap")
      expect(error.message).toMatch(/clicks-0.*failOnDataLoss/)
      expect((await failure(source.check(clicks, { created, position: 3, publishedAt: null }))).message).toMatch(/created again/)
      expect((await run(source.open("clicks", one))).created).not.toEqual([created])
    })
  }

  test("P3 a purge below the position disturbs nobody, one beyond it is a gap", async () => {
    const { admin, source, created } = await world(version, 10)
    expect((await run(source.read({ ...clicks, after: 0, countMax: 5, bytesMax: 1_000 }))).at(-1)?.position).toBe(5)
    await ask(admin, "STREAM.PURGE.clicks-0", { seq: 6 })
    await run(source.check(clicks, { created, position: 5, publishedAt: null }))
    const fresh = await sourceOver(admin)
    expect(textsOf(await run(follow(fresh, clicks, 5, 5)))).toEqual(numbers(6, 10))
    await ask(admin, "STREAM.PURGE.clicks-0", { seq: 8 })
    for (const gap of [
      source.check(clicks, { created, position: 5, publishedAt: null }),
      (await sourceOver(admin)).read({ ...clicks, after: 5, ...bounds })
    ]) {
      const error = await failure(gap)
      expect(error.code).toBe("source-gap")
      expect(error.message).toMatch(/position 5.*next record there is 8/)
    }
    expect(textsOf(await run(follow(await sourceOver(admin), clicks, 7, 3)))).toEqual(numbers(8, 10))
  })

  test("P3 everything purged, and a stream that is still empty, can be read on from", async () => {
    const { admin, source, created } = await world(version, 3)
    await ask(admin, "STREAM.PURGE.clicks-0")
    await run(source.check(clicks, { created, position: 3, publishedAt: null }))
    expect(await run(source.read({ ...clicks, after: 3, ...bounds }))).toEqual([])
    expect(await run(source.lastPosition(clicks))).toBe(3)
    await publish(admin, "clicks.0", "4")
    expect(textsOf(await run(follow(source, clicks, 3, 1)))).toEqual(["4"])
    const { created: empty } = await run(source.open("late", one))
    await run(source.check({ topic: "late", partition: 0 }, { created: empty[0] as string, position: 0, publishedAt: null }))
  })

  test("P3 limits that overtake a reader which is cut off are a gap", async () => {
    const { server, admin } = await world(version, 5)
    await using proxy = await startProxy({ to: server.port })
    const source = await sourceOver(await client(`nats://127.0.0.1:${proxy.port}`))
    expect(textsOf(await run(follow(source, clicks, 0, 5)))).toEqual(numbers(1, 5))
    const waiting = failure(follow(source, clicks, 5, 1_000))
    await proxy.refuse(true)
    proxy.cut()
    const { config } = await ask(admin, "STREAM.INFO.clicks-0")
    await ask(admin, "STREAM.UPDATE.clicks-0", { ...(config as object), max_msgs: 10 })
    await publish(admin, "clicks.0", ...numbers(6, 40))
    await proxy.refuse(false)
    const error = await waiting
    expect(error.code).toBe("source-gap")
    expect(error.message).toMatch(/position 5.*next record there is 31/)
  })

  test("P3 a position beyond the end is a gap, also when the stream grows past it", async () => {
    const { admin, source, created } = await world(version, 3)
    expect((await failure(source.read({ ...clicks, after: 7, ...bounds }))).message).toMatch(/ends at position 3.*read up to 7/)
    expect((await failure(source.check(clicks, { created, position: 7, publishedAt: 1 }))).code).toBe("source-gap")
    await publish(admin, "clicks.0", ...numbers(4, 10))
    expect((await failure(source.check(clicks, { created, position: 7, publishedAt: 1 }))).message).toMatch(/another record at position 7/)
    const [seventh] = await run(source.read({ ...clicks, after: 6, countMax: 1, bytesMax: 1 }))
    await run(source.check(clicks, { created, position: 7, publishedAt: seventh?.publishedAt as number }))
  })

  for (const regrown of [1, 2, 6]) {
    test(`P3 a server that has lost its last records and took ${regrown} others is a gap`, async () => {
      const { server, admin, source } = await world(version, 3)
      const snapshot = snapshotData(server)
      await publish(admin, "clicks.0", "4", "5")
      expect(textsOf(await run(follow(source, clicks, 0, 5)))).toEqual(numbers(1, 5))
      const proxy = await startProxy({ to: server.port })
      onTestFinished(() => proxy.stop())
      const behind = await sourceOver(await client(`nats://127.0.0.1:${proxy.port}`))
      expect(await run(follow(behind, clicks, 0, 5))).toHaveLength(5)
      await proxy.refuse(true)
      proxy.cut()
      const waiting = failure(follow(behind, clicks, 5, 100))
      await restoreData(server, snapshot)
      await until("the operator is back", () =>
        publish(admin, "clicks.0", ...numbers(101, 100 + regrown)).then(
          () => true,
          () => false
        )
      )
      await proxy.refuse(false)
      const error = await waiting
      expect(error.code).toBe("source-gap")
      expect(error.message).toMatch(regrown < 2 ? /ends at position/ : /another record at position 5/)
    })
  }

  test("I1 a record that is deleted in the middle is a gap, and not passed over", async () => {
    const { admin, source } = await world(version, 6)
    await ask(admin, "STREAM.MSG.DELETE.clicks-0", { seq: 4 })
    expect(textsOf(await run(follow(source, clicks, 0, 3)))).toEqual(numbers(1, 3))
    const error = await failure(follow(source, clicks, 3, 1))
    expect(error.code).toBe("source-gap")
    expect(error.message).toMatch(/position 3.*next record there is 5.*one by one/)
    expect(textsOf(await run(follow(source, clicks, 4, 2)))).toEqual(["5", "6"])
  })

  // ---- I1, I8: outages

  test("I1 a consumer that somebody deletes is made again, and nothing is missing", async () => {
    const { admin, source } = await world(version, 3)
    await run(follow(source, clicks, 0, 3))
    const reading = run(follow(source, clicks, 3, 3))
    for (let round = 0; round < 3; round++) {
      const consumers = async (): Promise<string[]> =>
        ((await ask(admin, "CONSUMER.NAMES.clicks-0")) as { consumers: string[] | null }).consumers ?? []
      await until("there is a consumer", async () => (await consumers()).length > 0)
      for (const name of await consumers()) await ask(admin, `CONSUMER.DELETE.clicks-0.${name}`)
      await publish(admin, "clicks.0", String(4 + round))
    }
    expect(textsOf(await reading)).toEqual(numbers(4, 6))
  })

  test("I1 a server that is killed and started again during reading costs no record and repeats none", async () => {
    const { server, admin, source } = await world(version, 1)
    const reading = run(follow(source, clicks, 0, 400))
    const stored: string[] = ["1"]
    const publishing = (async () => {
      for (let number = 2; stored.length < 400; number++) {
        // What was not acknowledged may be stored or not: it is published under another number.
        await publish(admin, "clicks.0", String(number)).then(
          () => stored.push(String(number)),
          () => sleep(20)
        )
        await sleep(1)
      }
    })()
    for (let round = 1; round <= 3; round++) {
      await until("some are stored", () => stored.length > round * 60)
      await server.kill()
      await server.start()
    }
    await publishing
    const records = await reading
    expect(records.map(({ position }) => position)).toEqual(records.map((_, index) => index + 1))
    const texts = textsOf(records)
    expect(new Set(texts).size).toBe(texts.length)
    const last = Number(texts.at(-1))
    expect(stored.filter((text) => Number(text) <= last && !texts.includes(text))).toEqual([])
  })

  test("I1 connections that are cut again and again during reading cost no record and repeat none", async () => {
    const { server, admin } = await world(version, 0)
    await using proxy = await startProxy({ to: server.port })
    const connection = await client(`nats://127.0.0.1:${proxy.port}`)
    const source = await sourceOver(connection)
    await run(source.find("clicks"))
    const reading = run(follow(source, clicks, 0, 2_000))
    for (let batch = 0; batch < 20; batch++) {
      const publishing = numbers(batch * 100 + 1, batch * 100 + 100).map((text) => publish(admin, "clicks.0", text))
      await until("it is connected", () => isConnected(connection))
      proxy.cut()
      await Promise.all(publishing)
    }
    const texts = textsOf(await reading)
    expect(texts.toSorted((a, b) => Number(a) - Number(b))).toEqual(numbers(1, 2_000))
  })

  test("I1 a connection that swallows everything is noticed, and reading goes on from where it was", async () => {
    const { server, admin } = await world(version, 3)
    await using proxy = await startProxy({ to: server.port })
    const source = await sourceOver(await client(`nats://127.0.0.1:${proxy.port}`))
    await run(follow(source, clicks, 0, 3))
    const reading = run(follow(source, clicks, 3, 5))
    proxy.swallow(true)
    await publish(admin, "clicks.0", ...numbers(4, 8))
    await sleep(200)
    proxy.swallow(false)
    expect(textsOf(await reading)).toEqual(numbers(4, 8))
  })

  test("I8 while the server is away reading comes back empty and arrival waits; questions fail, naming the server", async () => {
    const { server, admin, source } = await world(version, 3)
    await run(follow(source, clicks, 0, 3))
    await server.kill()
    const waiting = run(follow(source, clicks, 3, 1))
    expect(await run(source.read({ ...clicks, after: 3, ...bounds }))).toEqual([])
    expect(textsOf(await run(source.read({ ...clicks, after: 0, ...bounds })))).toEqual([])
    const errors = await Promise.all([
      failure(source.lastPosition(clicks)),
      failure(source.find("other")),
      failure(source.open("new", one))
    ])
    for (const error of errors) {
      expect(error.code).toBe("unreachable")
      expect(error.message).toContain(`127.0.0.1:${server.port}`)
    }
    await server.start()
    await until("the operator is back", () =>
      publish(admin, "clicks.0", "4").then(
        () => true,
        () => false
      )
    )
    expect(textsOf(await waiting)[0]).toBe("4")
  }, 60_000)

  test("I8 a question that is asked during a short outage waits and is answered", async () => {
    const { server, source, created } = await world(version, 3)
    await server.kill()
    const answers = Promise.all([
      run(source.lastPosition(clicks)),
      run(source.open("late", one)),
      run(source.check(clicks, { created, position: 3, publishedAt: null }))
    ])
    await server.start()
    expect((await answers)[0]).toBe(3)
  })

  if (natsVersionsForLong().includes(version)) {
    test("I1 the leader of three replicas is killed again and again, and no record is lost or repeated", async () => {
      const cluster = await startNatsCluster(3, { version })
      onTestFinished(() => cluster.stop())
      const admin = await client([...cluster.urls])
      const source = await sourceOver(await client([...cluster.urls]), { replicas: 3 })
      await run(source.open("clicks", one))
      const reading = run(follow(source, clicks, 0, 300))
      const stored: string[] = []
      const publishing = (async () => {
        for (let number = 1; stored.length < 300; number++) {
          await publish(admin, "clicks.0", String(number)).then(
            () => stored.push(String(number)),
            () => sleep(50)
          )
        }
      })()
      for (let round = 1; round <= 2; round++) {
        await until("some are stored", () => stored.length > round * 80, 60_000)
        const { cluster: group } = (await ask(admin, "STREAM.INFO.clicks-0")) as { cluster: { leader: string } }
        const leader = cluster.nodeOf(group.leader)
        await leader.kill()
        await until(
          "another leads",
          () =>
            publish(admin, "clicks.0", `round ${round}`).then(
              () => true,
              () => false
            ),
          60_000
        )
        await leader.start()
        await cluster.ready()
      }
      await publishing
      const records = await reading
      expect(records.map(({ position }) => position)).toEqual(records.map((_, index) => index + 1))
      const texts = textsOf(records)
      const last = stored.findLastIndex((text) => texts.includes(text))
      expect(stored.slice(0, last + 1).filter((text) => !texts.includes(text))).toEqual([])
    }, 180_000)

    // ---- I1-I3: what is read

    test("I2 two who read at different places do not disturb each other, and the same read answers the same", async () => {
      const { source } = await world(version, 200)
      const few = { countMax: 7, bytesMax: 1_000 }
      const readAll = (from: number, step: number) =>
        Effect.gen(function* () {
          const texts: string[] = []
          for (let after = from; after < 200; ) {
            const first = yield* source.read({ ...clicks, after, ...few, countMax: step })
            const again = yield* source.read({ ...clicks, after, ...few, countMax: step })
            expect(textsOf(again).slice(0, first.length)).toEqual(textsOf(first))
            texts.push(...textsOf(first))
            after = first.at(-1)?.position ?? after
          }
          return texts
        })
      const [all, half, tail] = await run(Effect.all([readAll(0, 7), readAll(100, 3), readAll(150, 5)], { concurrency: "unbounded" }))
      expect(all).toEqual(numbers(1, 200))
      expect(half).toEqual(numbers(101, 200))
      expect(tail).toEqual(numbers(151, 200))
    })
  }

  test("I3 messages larger than a request's bytes come all the same, and those of exactly its bytes", async () => {
    const server = await nats({ version, config: "max_payload: 8MB" })
    const admin = await client(server.url)
    const source = await sourceOver(await client(server.url))
    await run(source.open("clicks", one))
    const mebibyte = 1_048_576
    // Subject and reply count too: one of these is exactly 1 MiB.
    const sizes = [10, 5 * mebibyte, 20, ...Array.from({ length: 90 }, (_, index) => mebibyte - 130 + index), 3 * mebibyte, 7]
    for (const size of sizes) await admin.request("clicks.0", new Uint8Array(size))
    const started = performance.now()
    const records = await run(follow(source, clicks, 0, sizes.length))
    expect(records.map(({ payload }) => payload.byteLength)).toEqual(sizes)
    expect(performance.now() - started).toBeLessThan(15_000)
    expect(await run(source.read({ ...clicks, after: 1, countMax: 9, bytesMax: 30 }))).toHaveLength(1)
  })

  test("I3 what nobody reads does not fill the memory: the server is asked for a bounded part", async () => {
    const { admin, source } = await world(version, 0)
    const payload = new Uint8Array(1_000)
    for (let batch = 0; batch < 60; batch++) await Promise.all(Array.from({ length: 500 }, () => admin.request("clicks.0", payload)))
    await run(source.arrival([{ ...clicks, after: 0 }]))
    const delivered = async (): Promise<number> => {
      const { consumers } = (await ask(admin, "CONSUMER.LIST.clicks-0")) as { consumers: { delivered: { stream_seq: number } }[] }
      return consumers[0]?.delivered.stream_seq ?? 0
    }
    let before = -1
    await until("it asks for no more", async () => {
      const now = await delivered()
      const rests = now === before && now > 0
      before = now
      await sleep(100)
      return rests
    })
    expect(await delivered()).toBeLessThan(10_000)
    expect((await run(follow(source, clicks, 0, 30_000))).map(({ position }) => position)).toEqual(
      Array.from({ length: 30_000 }, (_, index) => index + 1)
    )
  })

  test("P17 an output carries its writer and number, whatever else is in its headers; internal headers do not show", async () => {
    const { admin, source } = await world(version, 0)
    const send = async (subject: string, entries: readonly (readonly [string, string])[]): Promise<void> => {
      const own = headers()
      for (const [name, value] of entries) own.append(name, value)
      await admin.request(subject, "x", { headers: own, timeout: 1_000 })
    }
    await send("clicks.0.w1", [
      ["Nats-Msg-Id", "w1.3"],
      ["kf-n", "3"],
      ["TraceParent", "00-1"]
    ])
    await send("clicks.0", [
      ["kf-n", "4"],
      ["X-A", "1"],
      ["x-a", "2"]
    ])
    await send("clicks.0.w1", [["kf-n", "no number"]])
    await publish(admin, "clicks.0.w2", "y")
    const records = await run(follow(source, clicks, 0, 4))
    expect(records.map(({ identity }) => identity)).toEqual([{ writer: "w1", number: 3 }, undefined, undefined, undefined])
    expect(records.map((record) => Object.fromEntries(record.headers))).toEqual([{ traceparent: "00-1" }, { "x-a": "1, 2" }, {}, {}])
  })

  test("positionBefore finds times between records that are left, and beyond both ends", async () => {
    const { admin, source } = await world(version, 0)
    for (const text of numbers(1, 30)) {
      await publish(admin, "clicks.0", text)
      if (Number(text) % 5 === 0) await sleep(4)
    }
    const records = await run(follow(source, clicks, 0, 30))
    for (const seq of [6, 7, 8, 15, 16, 30]) await ask(admin, "STREAM.MSG.DELETE.clicks-0", { seq })
    await ask(admin, "STREAM.PURGE.clicks-0", { seq: 3 })
    const left = records.filter(({ position }) => position >= 3 && ![6, 7, 8, 15, 16, 30].includes(position))
    for (const timeMs of [
      0,
      ...records.map(({ publishedAt }) => publishedAt),
      ...records.map(({ publishedAt }) => publishedAt + 1),
      Date.now() + 60_000
    ]) {
      const first = left.find(({ publishedAt }) => publishedAt >= timeMs)
      const position = await run(source.positionBefore(clicks, timeMs))
      const before = left.findLast((record) => first === undefined || record.position < first.position)?.position ?? 2
      expect(position).toBeGreaterThanOrEqual(before)
      expect(position).toBeLessThan(first?.position ?? 31)
    }
    expect(await run(source.positionBefore(clicks, Number.NEGATIVE_INFINITY))).toBe(2)
  })

  test("I6 trim beyond the end does not move the end, and trim of nothing removes nothing", async () => {
    const { admin, source, created } = await world(version, 3)
    await run(source.trim(clicks, 0))
    expect(textsOf(await run(follow(source, clicks, 0, 3)))).toEqual(numbers(1, 3))
    await run(source.trim(clicks, 1_000))
    expect(await run(source.lastPosition(clicks))).toBe(3)
    await publish(admin, "clicks.0", "4")
    expect((await run(follow(source, clicks, 3, 1)))[0]?.position).toBe(4)
    await run(source.check(clicks, { created, position: 3, publishedAt: 1 }))
  })

  // ---- I4: topics

  test("I4 a topic is not taken for another whose name begins with it", async () => {
    const { source } = await world(version, 0)
    await run(source.open("a-0", { ...one, partitions: 2 }))
    expect(await run(source.find("a"))).toBeUndefined()
    await run(source.open("a", { ...one, partitions: 3 }))
    expect((await run(source.find("a-0")))?.partitions).toBe(2)
    expect((await run(source.find("a")))?.partitions).toBe(3)
  })

  test("I4 workers that create a topic at the same time all get it", { timeout: 120_000 }, async () => {
    const { url } = await nats({ version })
    const sources = await Promise.all(Array.from({ length: 4 }, async () => sourceOver(await client(url))))
    for (let round = 0; round < 60; round++) {
      const opened = await Promise.all(sources.map((source) => run(source.open(`topic${round}`, { partitions: 8, partitionsDefault: 8 }))))
      expect(new Set(opened.map(({ created }) => created.join())).size).toBe(1)
    }
  })

  test("I4 a topic that was created half is completed, by what its first partition says", async () => {
    const { admin, source } = await world(version, 0)
    await run(source.open("half", { ...one, partitions: 4 }))
    for (const partition of [1, 3]) await ask(admin, `STREAM.DELETE.half-${partition}`)
    const other = await sourceOver(admin)
    expect((await run(other.open("half", { partitions: undefined, partitionsDefault: 9 }))).created).toHaveLength(4)
    await publish(admin, "half.3", "x")
    expect(textsOf(await run(follow(other, { topic: "half", partition: 3 }, 0, 1)))).toEqual(["x"])
  })

  test("I4 a topic that was deleted in part is refused when it is created with another count", async () => {
    const { admin, source } = await world(version, 0)
    await run(source.open("part", { ...one, partitions: 4 }))
    await ask(admin, "STREAM.DELETE.part-0")
    const error = await failure((await sourceOver(admin)).open("part", { ...one, partitions: 2 }))
    expect([error.code, error.message]).toEqual(["topic-mismatch", expect.stringMatching(/part-1.*4.*deleted in part/)])
  })

  test("I4 a stream of somebody else is never taken for a topic, nor its subjects taken away", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.theirs-0", { name: "theirs-0", subjects: ["other"] })
    await ask(admin, "STREAM.CREATE.All", { name: "All", subjects: ["taken.>"] })
    for (const [name, pattern] of [
      ["theirs", /theirs-0.*not created by keyfold/],
      ["taken", /another stream takes its subjects/]
    ] as const) {
      const error = await failure(source.open(name, one))
      expect([error.code, error.message]).toEqual(["topic-mismatch", expect.stringMatching(pattern)])
    }
    expect((await failure(source.find("theirs"))).code).toBe("topic-mismatch")
  })

  test("I4 more replicas than there are servers is an error that says so", async () => {
    const { server } = await world(version, 0)
    const error = await failure((await sourceOver(await client(server.url), { replicas: 3 })).open("three", one))
    expect([error.code, error.message]).toEqual(["durability-refused", expect.stringMatching(/three.*3 replicas/)])
  })

  // ---- foreign streams

  test("I1 of a foreign stream the subjects that were named are read, wherever the others lie", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.Orders", { name: "Orders", subjects: ["o.>"] })
    const { created } = await run(source.openStream("Orders", ["o.eu.*", "o.us"]))
    const orders = { topic: "Orders", partition: 0 }
    expect(await run(source.lastPosition(orders))).toBe(0)
    for (let round = 1; round <= 50; round++) {
      await publish(admin, "o.eu.de", `de ${round}`)
      await publish(admin, "o.asia", "no")
      await publish(admin, "o.us", `us ${round}`)
      await publish(admin, "o.us.east", "no")
    }
    expect(await run(source.lastPosition(orders))).toBe(199)
    const records = await run(follow(source, orders, 0, 100))
    expect(textsOf(records)).toEqual(numbers(1, 50).flatMap((round) => [`de ${round}`, `us ${round}`]))
    expect(records.at(-1)).toMatchObject({ topic: "Orders", partition: 0, position: 199, identity: undefined })
    expect(await run(source.read({ ...orders, after: 199, ...bounds }))).toEqual([])
    await run(source.check(orders, { created: created[0] as string, position: 199, publishedAt: records.at(-1)?.publishedAt as number }))
    await ask(admin, "STREAM.PURGE.Orders")
    expect(await run(source.lastPosition(orders))).toBe(199)
  })

  test("I1 of a foreign stream that keeps the last messages of each subject, those that are left are read", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.Latest", { name: "Latest", subjects: ["l.*"], max_msgs_per_subject: 1 })
    await publish(admin, "l.first", "kept")
    for (const text of numbers(1, 20)) await publish(admin, `l.${Number(text) % 3}`, text)
    await run(source.openStream("Latest", []))
    const latest = { topic: "Latest", partition: 0 }
    expect(textsOf(await run(follow(source, latest, 0, 4)))).toEqual(["kept", "18", "19", "20"])
  })

  test("P26 what may not be removed is said, once: a topic that grows in silence fills the disk", async () => {
    const users = `{ user: "u", password: "p", permissions: { publish: { deny: ["$JS.API.STREAM.PURGE.>"] } } }`
    const { url } = await nats({ version, config: `authorization { users: [${users}] }` })
    const connection = await client(url, { user: "u", pass: "p" })
    const warnings: string[] = []
    const source = await sourceOver(connection, { warn: (message) => warnings.push(message) })
    await run(source.open("clicks", one))
    await publish(connection, "clicks.0", ...numbers(1, 10))
    for (let times = 0; times < 2; times++) expect((await failure(source.trim(clicks, 5))).message).toContain("STREAM.PURGE.clicks-0")
    expect(warnings).toEqual([
      expect.stringMatching(/^rows of clicks that were read could not be removed, so it grows: .*PURGE.*It is tried again$/)
    ])
  })

  // Symptom: a job that could not get on for a while read on behind what the stream's limits had removed meanwhile, without a word; a restart
  // would have said it. Cause: where records may be missing in the middle, a jump was taken for such a hole, whatever had made it.
  const withHoles = { max_msgs_per_subject: { max_msgs_per_subject: 1_000 }, "roll-ups": { allow_rollup_hdrs: true } }
  const removals: Readonly<Record<string, (admin: NatsConnection, config: object) => Promise<unknown>>> = {
    max_msgs: (admin, config) => ask(admin, "STREAM.UPDATE.Mixed", { ...config, max_msgs: 10 }),
    "a purge": (admin) => ask(admin, "STREAM.PURGE.Mixed", { seq: 91 })
  }
  for (const [kind, settings] of Object.entries(withHoles)) {
    for (const [name, remove] of Object.entries(removals)) {
      test(`P3 in a stream with ${kind}, ${name} that overtakes a reader whose buffer is full is the gap that a restart finds`, async () => {
        const { admin, source } = await world(version, 0)
        const config = { name: "Mixed", subjects: ["m.*"], ...settings }
        await ask(admin, "STREAM.CREATE.Mixed", config)
        const { created } = await run(source.openStream("Mixed", []))
        const mixed = { topic: "Mixed", partition: 0 }
        const reached = await fullBuffer(admin, source, mixed, "m.1")
        await remove(admin, config)
        const { records, error } = await untilFault(source, mixed)
        expect(records.map(({ position }) => position)).toEqual(numbers(1, reached).map(Number))
        expect(error.code).toBe("source-gap")
        expect(error.message).toMatch(new RegExp(`stream Mixed.*position ${reached}.*next record there is 91`))
        const restarted = await failure(source.check(mixed, { created: created[0] as string, position: reached, publishedAt: null }))
        expect(restarted.message).toBe(error.message)
        expect(await run(source.resumeAfter(mixed, reached))).toBe(90)
        expect(await run(follow(source, mixed, 90, 10))).toHaveLength(10)
      })
    }
  }

  test("P3 when newer messages have replaced all that a stream began with, a reader says what a restart says", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.Mixed", { name: "Mixed", subjects: ["m.*"], max_msgs_per_subject: 1 })
    const { created } = await run(source.openStream("Mixed", []))
    const mixed = { topic: "Mixed", partition: 0 }
    const reached = await fullBuffer(admin, source, mixed, (number) => `m.${number}`)
    for (const number of numbers(1, 100)) await publish(admin, `m.${number}`, number)
    const { records, error } = await untilFault(source, mixed)
    expect(records.map(({ position }) => position)).toEqual(numbers(1, reached).map(Number))
    expect(error.message).toMatch(new RegExp(`position ${reached}.*next record there is 101`))
    const restarted = await failure(source.check(mixed, { created: created[0] as string, position: reached, publishedAt: null }))
    expect(restarted.message).toBe(error.message)
  })

  test("I1 of a stream full of holes all that is left is read, in order, and its leader is asked far less often than there are holes", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.Latest", { name: "Latest", subjects: ["l.*"], max_msgs_per_subject: 1 })
    const left = await publishHoles(admin)
    let asked = 0
    admin.subscribe("$JS.API.STREAM.INFO.Latest", { callback: () => void asked++ })
    await run(source.openStream("Latest", []))
    const records = await run(follow(source, { topic: "Latest", partition: 0 }, 0, 10_002))
    expect(textsOf(records)).toEqual(left)
    await admin.flush()
    expect(asked).toBeGreaterThan(3)
    expect(asked).toBeLessThan(1_000)
  })

  test("I1 of a stream full of holes all that is left is read once, in order, though the connection is cut again and again", async () => {
    const { server, admin } = await world(version, 0)
    await using proxy = await startProxy({ to: server.port })
    const connection = await client(`nats://127.0.0.1:${proxy.port}`)
    const source = await sourceOver(connection)
    await ask(admin, "STREAM.CREATE.Latest", { name: "Latest", subjects: ["l.*"], max_msgs_per_subject: 1 })
    const left = await publishHoles(admin)
    await run(source.openStream("Latest", []))
    const records: StoredRecord[] = []
    while (records.length < left.length) {
      const after = records.at(-1)?.position ?? 0
      records.push(...(await run(source.read({ topic: "Latest", partition: 0, after, countMax: 700, bytesMax: 1_000_000 }))))
      await until("it is connected", () => isConnected(connection))
      proxy.cut()
    }
    expect(textsOf(records)).toEqual(left)
  })

  for (const [name, remove, says] of [
    ["deleted", (admin: NatsConnection) => ask(admin, "STREAM.MSG.DELETE.clicks-0", { seq: 100 }), /read up to position 99.*100.*deleted/],
    [
      "purged with all others",
      (admin: NatsConnection) => ask(admin, "STREAM.PURGE.clicks-0"),
      /read up to position \d+.*next record there is 101/
    ]
  ] as const) {
    // Symptom: a bounded run never ended. The end of the stream stays where it is, and no later record shows that one is missing.
    test(`P3 a last record that is ${name} before it was read is a gap, though nothing comes behind it`, async () => {
      const { admin, source } = await world(version, 0)
      await fullBuffer(admin, source, clicks, "clicks.0")
      await remove(admin)
      expect(await run(source.lastPosition(clicks))).toBe(100)
      const { records, error } = await untilFault(source, clicks)
      expect(records.map(({ position }) => position)).toEqual(records.map((_, index) => index + 1))
      expect(error.code).toBe("source-gap")
      expect(error.message).toMatch(says)
      expect(await run(source.resumeAfter(clicks, 99))).toBe(100)
    })
  }

  // Otherwise a bounded run would wait for ever for a message that is gone.
  test("I6 a foreign stream whose last messages were removed one by one ends with the last that is there", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.Worn", { name: "Worn", subjects: ["w"] })
    await publish(admin, "w", ...numbers(1, 10))
    await run(source.openStream("Worn", []))
    const worn = { topic: "Worn", partition: 0 }
    expect(await run(source.lastPosition(worn))).toBe(10)
    for (const seq of [10, 9, 7]) await ask(admin, "STREAM.MSG.DELETE.Worn", { seq })
    expect(await run(source.lastPosition(worn))).toBe(8)
    await publish(admin, "w", "11")
    expect(await run(source.lastPosition(worn))).toBe(11)
    await ask(admin, "STREAM.PURGE.Worn")
    expect(await run(source.lastPosition(worn))).toBe(11)
  })

  test("I6 a foreign stream whose last message was removed before it was read is not waited for, and read on when more comes", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.Worn", { name: "Worn", subjects: ["w"], allow_rollup_hdrs: true })
    await run(source.openStream("Worn", []))
    const worn = { topic: "Worn", partition: 0 }
    await fullBuffer(admin, source, worn, "w")
    expect(await run(source.lastPosition(worn))).toBe(100)
    await ask(admin, "STREAM.MSG.DELETE.Worn", { seq: 100 })
    expect(await run(follow(source, worn, 0, 99))).toHaveLength(99)
    await until("nothing more is expected", async () => {
      const began = performance.now()
      expect(await run(source.read({ ...worn, after: 99, ...bounds }))).toEqual([])
      return performance.now() - began < 500
    })
    await publish(admin, "w", "more")
    expect((await run(follow(source, worn, 99, 1)))[0]?.position).toBe(101)
  })

  // A writer numbers each partition by itself. Taken for one writer's, the outputs of the second partition would look like repetitions of the
  // first one's, and be dropped in silence.
  test("P17 a foreign stream that gathers the partitions of a topic tells their outputs apart", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.All", { name: "All", subjects: ["alerts.>"] })
    for (const [subject, number] of [
      ["alerts.0.w", "1"],
      ["alerts.1.w", "1"],
      ["alerts.0.w", "2"],
      ["alerts.1.w", "2"]
    ] as const) {
      const own = headers()
      own.append("kf-n", number)
      await admin.request(subject, `${subject} ${number}`, { headers: own, timeout: 1_000 })
    }
    await run(source.openStream("All", []))
    const records = await run(follow(source, { topic: "All", partition: 0 }, 0, 4))
    const { records: taken, repeated, gap } = screen(records, nothingSeen)
    expect(textsOf(taken)).toEqual(["alerts.0.w 1", "alerts.1.w 1", "alerts.0.w 2", "alerts.1.w 2"])
    expect({ repeated, gap }).toEqual({ repeated: 0, gap: undefined })
  })

  test("a foreign stream that is missing, or that consumers empty, is refused with its name and the cure", async () => {
    const { admin, source } = await world(version, 0)
    await ask(admin, "STREAM.CREATE.Work", { name: "Work", subjects: ["work"], retention: "workqueue" })
    expect((await failure(source.openStream("Missing", []))).message).toMatch(/no stream Missing.*create it/)
    expect((await failure(source.openStream("Work", []))).message).toMatch(/Work.*workqueue.*limits/)
    expect((await failure(source.openStream("no.name", []))).code).toBe("option-invalid")
  })

  // ---- permissions

  test("what the server's permissions refuse is an error that names the subject and no secret", async () => {
    const permissions = (denied: string): string => `permissions { publish { deny: ["${denied}"] } }`
    const users = ["$JS.API.STREAM.CREATE.>", "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.STREAM.INFO.>"]
    const lines = users.map((denied, index) => `{ user: u${index}, password: s3cret, ${permissions(denied)} }`)
    const server = await nats({ version, config: `authorization { users = [ { user: admin, password: s3cret }, ${lines.join(", ")} ] }` })
    const as = (user: string): Promise<NatsConnection> => client(server.url, { user, pass: "s3cret" })
    const admin = await as("admin")
    await run((await sourceOver(admin)).open("clicks", one))
    await publish(admin, "clicks.0", "1")
    const failures = [
      (await sourceOver(await as("u0"))).open("new", one),
      (await sourceOver(await as("u1"))).read({ ...clicks, after: 0, ...bounds }),
      follow(await sourceOver(await as("u2")), clicks, 0, 1),
      (await sourceOver(await as("u3"))).find("clicks")
    ]
    for (const [index, effect] of failures.entries()) {
      const error = await failure(effect)
      expect(error.code).toBe("unreachable")
      expect(error.message).toContain((users[index] as string).replace(".>", "."))
      expect(error.message).not.toContain("s3cret")
    }
  })

  test("a server without JetStream for the account says how to enable it", async () => {
    const server = await nats({ version, config: "accounts { A { users = [ { user: a, password: a } ] } }" })
    const source = await sourceOver(await client(server.url, { user: "a", pass: "a" }))
    const error = await failure(source.open("clicks", one))
    expect([error.code, error.message]).toEqual(["unreachable", expect.stringMatching(/JetStream/)])
    expect(error.message).toMatch(/[Ee]nable/)
  })

  test("the source takes its consumers with it when it is closed", async () => {
    const { server, admin } = await world(version, 1)
    const scope = Scope.makeUnsafe()
    const source = await Effect.runPromise(
      Effect.provideService(makeJetStreamSource(await client(server.url), { replicas: 1 }), Scope.Scope, scope)
    )
    await run(follow(source, clicks, 0, 1))
    const consumers = async (): Promise<number> => ((await ask(admin, "CONSUMER.NAMES.clicks-0")) as { total: number }).total
    expect(await consumers()).toBe(1)
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await until("no consumer is left", async () => (await consumers()) === 0, 5_000)
  })

  test(`I1 a seeded world of cuts, kills, purges below and reads of all sizes loses and repeats nothing (SEED=${seedOr(7)})`, async () => {
    const { server, admin } = await world(version, 0)
    await using proxy = await startProxy({ to: server.port })
    const source = await sourceOver(await client(`nats://127.0.0.1:${proxy.port}`))
    let state = seedOr(7)
    const below = (count: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
      return Math.floor((state / 2 ** 32) * count)
    }
    let published = 0
    let after = 0
    const texts: string[] = []
    for (let round = 0; round < 120 || after < published; round++) {
      const act = below(12)
      if (act < 5 && round < 120) {
        for (let left = below(40); left > 0; left--) {
          published += 1
          // Asked again until it is stored: the id keeps it from being stored twice.
          const own = headers()
          own.set("Nats-Msg-Id", String(published))
          await until("it is stored", () =>
            admin.request("clicks.0", String(published), { headers: own, timeout: 1_000 }).then(
              () => true,
              () => false
            )
          )
        }
      } else if (act === 5) proxy.cut()
      else if (act === 6 && below(6) === 0) {
        await server.terminate()
        await server.start()
      } else if (act === 7) {
        await until("it is trimmed", () =>
          run(source.trim(clicks, below(after + 1))).then(
            () => true,
            () => false
          )
        )
      } else {
        const records = await run(source.read({ ...clicks, after, countMax: 1 + below(50), bytesMax: 1 + below(200) }))
        texts.push(...textsOf(records))
        after = records.at(-1)?.position ?? after
        // A turn that was given up reads the same again.
        if (below(4) === 0 && records.length > 1) {
          after = (records[0] as StoredRecord).position
          texts.splice(texts.length - records.length + 1)
        }
      }
    }
    expect(texts).toEqual(numbers(1, published))
  })
})
