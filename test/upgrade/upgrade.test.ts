// Goal: whatever format was released once, today's code goes on with it: exactly once, as if nothing had happened; and it refuses what is
// newer than itself without touching it.
// Method: what killed jobs of each format have left (fixtures/, made once by make-fixtures.ts and never changed) is opened, on real servers
// where it is a cluster's; the job goes on with further events, and must come to the results that are kept beside it. Then one number is
// raised at a time, and everything is compared byte by byte before and after.
import { createHash } from "node:crypto"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Redis } from "ioredis"
import { type KeyfoldError, publisher, type Runtime, read, start, topic } from "keyfold"
import { clustered } from "keyfold/clustered"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { memory } from "keyfold/testing"
import { describe, expect, test } from "vitest"
import { testOnOwnServers } from "../fixtures/cluster.ts"
import { freshDirectory } from "../fixtures/world.ts"
import { startNats } from "../servers/nats-server.ts"
import { startRedis } from "../servers/redis-server.ts"
import { canStart, natsVersions, redisVersions } from "../servers/versions.ts"
import { clusteredToday, embeddedToday, expectedLines, type FormatKind, fixtureFile, fixturesOf, formatsToday } from "./formats.ts"
import {
  bytesOf,
  type DumpedKey,
  type DumpedMessage,
  type DumpedStream,
  dumpNats,
  dumpRedis,
  loadNats,
  loadRedis,
  sealed,
  withCreated
} from "./server-dump.ts"
import { type Line, lines, lineTexts, staysJob, visits, visitsAfter, visitsBefore } from "./stays-job.ts"

const publish = async (runtime: Runtime, events: typeof visitsAfter): Promise<void> => {
  await using out = await publisher(runtime, visits)
  for (const visit of events) void out.send(visit)
  await out.flush()
}

const valuesOf = async <T>(runtime: Runtime, of: Parameters<typeof read<T, unknown>>[1]): Promise<T[]> => {
  const found: T[] = []
  for await (const { value } of read(runtime, of)) found.push(value)
  return found
}

/** The job goes on to its end. Answers what its sink was given. */
const goOn = async (runtime: Runtime): Promise<readonly Line[]> => {
  const mailed: Line[] = []
  const job = staysJob(async (found) => void mailed.push(...found))
  const query = await start(job, { runtime, trigger: "available-now", atEnd: "close" })
  await query.awaitTermination()
  return mailed
}

const dead = topic("stays-dead", { codec: json<{ readonly code: string }>(), key: () => "", partitions: 1 })

/** Every line once, in its topic and, because none of its calls was confirmed, in the sink. */
const expectDone = async (runtime: Runtime, fixture: string): Promise<void> => {
  await publish(runtime, visitsAfter)
  const mailed = await goOn(runtime)
  expect(lineTexts(await valuesOf(runtime, lines))).toEqual(expectedLines(fixture))
  expect(lineTexts(mailed)).toEqual(expectedLines(fixture))
  expect(await valuesOf(runtime, dead)).toEqual([])
}

const errorOf = (work: Promise<unknown>): Promise<{ readonly code: string; readonly message: string }> =>
  work.then(
    () => ({ code: "nothing was thrown", message: "" }),
    (thrown: KeyfoldError) => thrown
  )

test("the job of the fixtures comes to what is kept beside them", async () => {
  const runtime = memory()
  for (const portion of [...visitsBefore, visitsAfter]) await publish(runtime, portion)
  await goOn(runtime)
  for (const fixture of [...fixturesOf("embedded"), ...fixturesOf("clustered")]) {
    expect(lineTexts(await valuesOf(runtime, lines)), fixture).toEqual(expectedLines(fixture))
  }
})

// ---- fixtures, as they are

const restoredDirectory = (fixture: string): string => {
  const directory = freshDirectory()
  mkdirSync(directory)
  for (const name of ["keyfold.db", "keyfold.db-wal"]) writeFileSync(join(directory, name), fixtureFile(fixture, name))
  return directory
}

const dumpedKeys = (fixture: string): readonly DumpedKey[] => JSON.parse(fixtureFile(fixture, "redis.json").toString())

const dumpedStreams = (fixture: string): readonly DumpedStream[] => {
  const streams: (DumpedStream & { readonly messages: DumpedMessage[] })[] = []
  for (const line of fixtureFile(fixture, "streams.jsonl").toString().split("\n")) {
    const parsed = JSON.parse(line) as Omit<DumpedStream, "messages"> | DumpedMessage
    if ("config" in parsed) streams.push({ ...parsed, messages: [] })
    else streams.at(-1)?.messages.push(parsed)
  }
  return streams
}

/** Every number that the fixtures have, by what it is of: as it stands in their bytes. */
const numbersInFixtures = (): Readonly<Record<FormatKind, ReadonlySet<number>>> => {
  const numbers = { file: new Set<number>(), journal: new Set<number>(), entry: new Set<number>(), topic: new Set<number>() }
  for (const fixture of fixturesOf("embedded")) {
    const database = new DatabaseSync(join(restoredDirectory(fixture), "keyfold.db"))
    numbers.file.add(Number(database.prepare("PRAGMA user_version").get()?.["user_version"]))
    database.close()
  }
  for (const fixture of fixturesOf("clustered")) {
    for (const { key, pairs } of dumpedKeys(fixture)) {
      for (const [left, right] of pairs) {
        if (key.endsWith(":meta") && left === "format") numbers.journal.add(Number(right))
        if (/:(log|outbox)$/.test(key)) numbers.entry.add(bytesOf(right)[2] as number)
      }
    }
    for (const { config } of dumpedStreams(fixture)) numbers.topic.add(JSON.parse(String(config["description"])).keyfold.format)
  }
  return numbers
}

describe("every format has a fixture", () => {
  // Who raises a number runs test/upgrade/make-fixtures.ts, and removes none of the older ones.
  test.each(Object.entries(formatsToday))("%s, 1 to %i", (kind, newest) => {
    const found = numbersInFixtures()[kind as FormatKind]
    expect([...found].toSorted((left, right) => left - right)).toEqual(Array.from({ length: newest }, (_, index) => index + 1))
  })

  test("that is named after its numbers", () => {
    expect(fixturesOf("embedded")).toContain(embeddedToday)
    expect(fixturesOf("clustered")).toContain(clusteredToday)
  })

  test("with everything that a job may leave behind", () => {
    for (const fixture of fixturesOf("clustered")) {
      const kept = dumpedKeys(fixture).filter(({ pairs }) => pairs.length > 0)
      for (const part of ["meta", "log", "outbox", "state", "timeouts"]) expect(kept.some(({ key }) => key.endsWith(`:${part}`))).toBe(true)
    }
    for (const fixture of fixturesOf("embedded")) {
      const database = new DatabaseSync(join(restoredDirectory(fixture), "keyfold.db"))
      for (const table of ["state", "state WHERE timeout_at IS NOT NULL", "delivery", "writer", "journal"]) {
        expect(Number(database.prepare(`SELECT count(*) AS count FROM ${table}`).get()?.["count"]), table).toBeGreaterThan(0)
      }
      database.close()
    }
  })
})

// ---- a directory

describe.each(fixturesOf("embedded"))("a directory of the format %s", (fixture) => {
  test("goes on where it was killed", () => expectDone(embedded(restoredDirectory(fixture)), fixture))
})

const contentsOf = (directory: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    readdirSync(directory).map((name) => [
      name,
      createHash("sha256")
        .update(readFileSync(join(directory, name)))
        .digest("hex")
    ])
  )

test("a directory of a newer format is refused, and left as it is", async () => {
  const directory = restoredDirectory(embeddedToday)
  const database = new DatabaseSync(join(directory, "keyfold.db"))
  database.exec(`PRAGMA user_version = ${formatsToday.file + 1}`)
  database.close()
  const before = contentsOf(directory)
  const runtime = embedded(directory)
  const newer = { code: "format-newer", message: expect.stringContaining(`format ${formatsToday.file + 1}`) }
  expect(await errorOf(goOn(runtime))).toMatchObject(newer)
  expect(await errorOf(publish(runtime, visitsAfter))).toMatchObject(newer)
  expect(await errorOf(valuesOf(runtime, lines))).toMatchObject(newer)
  expect(contentsOf(directory)).toEqual(before)
})

// ---- servers

interface Loaded {
  readonly runtime: Runtime
  readonly redis: Redis
  readonly nats: NatsConnection
}

interface Versions {
  readonly nats: string
  readonly redis: string
}

interface Patch {
  readonly keys?: (dumped: readonly DumpedKey[]) => readonly DumpedKey[]
  readonly streams?: (dumped: readonly DumpedStream[]) => readonly DumpedStream[]
  /** Of what nobody may have touched; undefined: everything. */
  readonly isCompared?: (key: string) => boolean
}

/** Servers of their own that hold what a fixture says, but for a patch. */
const withLoaded = async (versions: Versions, fixture: string, patch: Patch, use: (loaded: Loaded) => Promise<void>): Promise<void> => {
  await using natsServer = await startNats({ version: versions.nats })
  await using redisServer = await startRedis({ version: versions.redis })
  const nats = await connect({ servers: natsServer.url })
  const redis = new Redis(redisServer.url)
  try {
    const streams = dumpedStreams(fixture)
    const created = await loadNats(nats, patch.streams?.(streams) ?? streams)
    const keys = withCreated(dumpedKeys(fixture), streams, created)
    await loadRedis(redis, patch.keys?.(keys) ?? keys)
    await use({ runtime: clustered({ nats: natsServer.url, redis: redisServer.url }), redis, nats })
  } finally {
    redis.disconnect()
    await nats.close()
  }
}

const places: readonly Versions[] =
  canStart("nats") && canStart("redis")
    ? natsVersions().map((nats, index) => ({
        nats,
        redis: redisVersions().at(index - natsVersions().length) ?? (redisVersions()[0] as string)
      }))
    : []

describe.each(fixturesOf("clustered"))("a journal and topics of the formats %s", (fixture) => {
  test.each(places)("go on where they were killed, on nats-server $nats and redis-server $redis", { timeout: 120_000 }, (versions) =>
    withLoaded(versions, fixture, {}, ({ runtime }) => expectDone(runtime, fixture))
  )
})

/** What a take-over writes, before it has read anything. */
const ownersFields = ["epoch", "token", "worker", "lease", "rev", "op"]

const journalsIn = async (redis: Redis): Promise<readonly DumpedKey[]> =>
  (await dumpRedis(redis, "kf:{stays/*")).map((one) => ({
    ...one,
    pairs: one.pairs.filter(([name]) => !one.key.endsWith(":meta") || !ownersFields.includes(name))
  }))

const inMeta = (change: (value: string) => string) => (dumped: readonly DumpedKey[]) =>
  dumped.map((one) => ({
    ...one,
    pairs: one.pairs.map(([name, value]) => [name, one.key.endsWith(":meta") && name === "format" ? change(value) : value] as const)
  }))

const inValues = (key: RegExp, change: (bytes: Buffer) => Buffer) => (dumped: readonly DumpedKey[]) =>
  dumped.map((one) => ({
    ...one,
    pairs: one.pairs.map(([name, value]) =>
      key.test(one.key) ? ([name, `base64:${change(bytesOf(value)).toString("base64")}`] as const) : ([name, value] as const)
    )
  }))

const withByte = (bytes: Buffer, at: number, value: number): Buffer => {
  bytes[at] = value
  return bytes
}

function withAnotherKey(dumped: readonly DumpedKey[]): readonly DumpedKey[] {
  const more = (key: string): DumpedKey["pairs"] => {
    if (/stay\/\d\}:state$/.test(key)) return [["another", `base64:${Buffer.of(4).toString("base64")}`]]
    return /stay\/\d\}:timeouts$/.test(key) ? [["another", "1"]] : []
  }
  return dumped.map((one) => ({ ...one, pairs: [...one.pairs, ...more(one.key)] }))
}

const newerBy: Readonly<Record<string, Patch>> = {
  "the layout of a journal": { keys: inMeta(() => String(formatsToday.journal + 1)) },
  "an entry of its log": { keys: inValues(/total\/\d\}:log$/, (entry) => sealed(withByte(entry, 2, formatsToday.entry + 1))) },
  "an entry of its outbox": { keys: inValues(/total\/\d\}:outbox$/, (entry) => sealed(withByte(entry, 2, formatsToday.entry + 1))) },
  // The first byte of a state: 1, 2 and 3 are known. It is met when its timeout is due; other partitions may have gone on by then.
  "the form of a state": { keys: withAnotherKey, isCompared: (key) => /stay\/\d\}:(state|timeouts)$/.test(key) },
  "a topic": {
    streams: (dumped) =>
      dumped.map((stream) => {
        const description = String(stream.config["description"]).replace(/"format":\d+/, `"format":${formatsToday.topic + 1}`)
        return { ...stream, config: { ...stream.config, description } }
      })
  }
}

testOnOwnServers.each(Object.keys(newerBy))("%s of a newer format is refused, and left as it is", { timeout: 120_000 }, async (what) => {
  const newest = places.at(-1) as Versions
  const patch = newerBy[what] as Patch
  await withLoaded(newest, clusteredToday, patch, async ({ runtime, redis, nats }) => {
    const { isCompared } = patch
    const everything = async () =>
      isCompared === undefined
        ? [await journalsIn(redis), await dumpNats(nats)]
        : (await journalsIn(redis)).filter(({ key }) => isCompared(key))
    const before = await everything()
    const error = await errorOf(goOn(runtime))
    expect(error).toMatchObject({ code: "format-newer", message: expect.stringMatching(/newer keyfold/) })
    expect(await everything()).toEqual(before)
  })
})
