/**
 * Writes the fixtures of today's formats, to be kept for ever:
 *
 *   node --conditions=keyfold-source test/upgrade/make-fixtures.ts [--force]
 *
 * A job with two hops (stays-job.ts) runs in a process of its own, on a directory and on real servers. It is killed with open stays, armed
 * timeouts, rows on their way between its stages, and outputs that are not confirmed, some of which never got out; then what it has left is
 * copied. Events and results are always the same; ids and times are the servers'. A fixture that exists is left as it is: a format that was
 * released does not change. `--force` writes it again, for a format that nobody has yet.
 */
import { spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { gzipSync } from "node:zlib"
import { connect } from "@nats-io/transport-node"
import { Redis } from "ioredis"
import { publisher, type Runtime, read, start } from "keyfold"
import { memory } from "keyfold/testing"
import { runtimeAt, serverPlace } from "../fixtures/place.ts"
import { until } from "../fixtures/waiting.ts"
import { startNats } from "../servers/nats-server.ts"
import { provision } from "../servers/provision.ts"
import { startRedis } from "../servers/redis-server.ts"
import { natsVersions, redisVersions } from "../servers/versions.ts"
import { clusteredToday, embeddedToday, fixtureFolder } from "./formats.ts"
import { bytesOf, type DumpedKey, type DumpedStream, dumpNats, dumpRedis } from "./server-dump.ts"
import { type Line, lines, lineTexts, staysJob, type Visit, visits, visitsAfter, visitsBefore } from "./stays-job.ts"

/** Lines that are out when the portions before the kill have been read. */
const linesBefore = [6, 18]

const publish = async (runtime: Runtime, portion: readonly Visit[]): Promise<void> => {
  await using out = await publisher(runtime, visits)
  for (const visit of portion) void out.send(visit)
  await out.flush()
}

const linesIn = async (runtime: Runtime): Promise<readonly Line[]> => {
  const found: Line[] = []
  for await (const { value } of read(runtime, lines)) found.push(value)
  return found
}

/** Runs the job on a place until each portion has come to its lines and is `ready`, then kills it. */
const runUntilKilled = async (place: string, committed: () => Promise<number>, ready: (portion: number) => boolean | Promise<boolean>) => {
  const runtime = runtimeAt(place)
  const words = ["--conditions=keyfold-source", join(import.meta.dirname, "run-stays.ts"), place]
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] })
  const ended = new Promise((done) => child.once("exit", done))
  try {
    await new Promise((done) => child.stdout.once("data", done))
    for (const [index, portion] of visitsBefore.entries()) {
      await publish(runtime, portion)
      await until(`portion ${index} is read`, async () => (await committed()) >= (linesBefore[index] ?? 0) && ready(index))
    }
  } finally {
    child.kill("SIGKILL")
    await ended
  }
}

const write = (fixture: string, files: Readonly<Record<string, Uint8Array | string>>): void => {
  const folder = fixtureFolder(fixture)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, `${name}.gz`), gzipSync(content, { level: 9 }))
  writeFileSync(join(folder, "expected.jsonl"), `${expected.join("\n")}\n`)
  process.stdout.write(`${folder}\n`)
}

// ---- a directory

const makeEmbedded = async (): Promise<void> => {
  const parent = mkdtempSync(join(tmpdir(), "keyfold-fixture-"))
  const directory = join(parent, "data")
  const file = join(directory, "keyfold.db")
  try {
    const shrink = (portion: number): boolean => {
      // What the first portion has left is in the file, the rest in its log.
      if (portion === 0) asDatabase(file, (database) => database.exec("PRAGMA wal_checkpoint(TRUNCATE)"))
      return true
    }
    await runUntilKilled(directory, async () => (await linesIn(runtimeAt(directory))).length, shrink)
    const copied = { "keyfold.db": readFileSync(file), "keyfold.db-wal": readFileSync(`${file}-wal`) }
    const counts = ["state", "delivery", "journal WHERE progress IS NOT NULL", "state WHERE timeout_at IS NOT NULL"].map((table) =>
      asDatabase(file, (database) => Number(database.prepare(`SELECT count(*) AS count FROM ${table}`).get()?.["count"]))
    )
    if (counts.some((count) => count === 0) || copied["keyfold.db-wal"].length === 0)
      throw new Error(`it has too little (${counts}): try again`)
    write(embeddedToday, copied)
  } finally {
    rmSync(parent, { recursive: true, force: true })
  }
}

const asDatabase = <A>(file: string, use: (database: DatabaseSync) => A): A => {
  const database = new DatabaseSync(file)
  try {
    return use(database)
  } finally {
    database.close()
  }
}

// ---- servers

const makeClustered = async (): Promise<void> => {
  // The oldest: what it has, all others take.
  await using natsServer = await startNats({ version: natsVersions()[0] as string })
  await using redisServer = await startRedis({ version: redisVersions()[0] as string })
  const nats = await connect({ servers: natsServer.url })
  const redis = new Redis(redisServer.url)
  try {
    const journals = (): Promise<readonly DumpedKey[]> => dumpRedis(redis, "kf:{stays/*")
    // Nothing is confirmed, so the outbox has all of them. What goes to the sink is no JSON.
    const committed = async (): Promise<number> => {
      const outboxes = (await journals()).filter(({ key }) => key.endsWith(":outbox"))
      const entries = outboxes.flatMap(({ pairs }) => pairs.map(([, entry]) => bytesOf(entry).toString("latin1")))
      return entries.join("").match(/"kind":"stay"/g)?.length ?? 0
    }
    const isCheckpointed = async (portion: number): Promise<boolean> => {
      const keys = (await journals()).map(({ key }) => key)
      return portion > 0 || ["stay", "total"].every((stage) => keys.some((key) => key.includes(`/${stage}/`) && key.endsWith(":state")))
    }
    await runUntilKilled(serverPlace({ nats: natsServer.url, redis: redisServer.url }), committed, isCheckpointed)
    const dumped = await journals()
    for (const part of ["meta", "log", "outbox", "state", "timeouts"]) {
      if (!dumped.some(({ key, pairs }) => key.endsWith(`:${part}`) && pairs.length > 0))
        throw new Error(`no journal has ${part}: try again`)
    }
    const streams = (await dumpNats(nats)).map(withoutLast)
    // Journals are told other times in their place (server-dump.ts), which must not be longer.
    if (streams.some(({ created }) => created.length < timeLength)) throw new Error("a time ends in 0: try again")
    write(clusteredToday, { "redis.json": JSON.stringify(dumped.map(anonymous), undefined, 1), "streams.jsonl": jsonLines(streams) })
  } finally {
    redis.disconnect()
    await nats.close()
  }
}

const timeLength = "2026-01-01T00:00:00.000000000Z".length

/** As if the process had been killed before its last results were out: they are in the outbox alone. */
const withoutLast = (stream: DumpedStream): DumpedStream =>
  stream.config.name.startsWith("lines-") ? { ...stream, messages: stream.messages.slice(0, -2) } : stream

/** Without the name of the machine. */
const anonymous = (one: DumpedKey): DumpedKey => ({
  ...one,
  pairs: one.pairs.map(([name, value]) => (one.key.endsWith(":meta") && name === "worker" ? [name, "a worker"] : [name, value]))
})

/** A line for each stream, and one for each of its messages behind it. */
const jsonLines = (streams: readonly DumpedStream[]): string =>
  streams.flatMap(({ messages, ...stream }) => [stream, ...messages].map((line) => JSON.stringify(line))).join("\n")

// ---- what it comes to

const expectedResults = async (): Promise<readonly string[]> => {
  const runtime = memory()
  for (const portion of [...visitsBefore, visitsAfter]) await publish(runtime, portion)
  const query = await start(
    staysJob(async () => undefined),
    { runtime, trigger: "available-now", atEnd: "close" }
  )
  await query.awaitTermination()
  return lineTexts(await linesIn(runtime))
}

/** What is left depends on when the kill came. */
const untilMade = async (make: () => Promise<void>): Promise<void> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await make()
    } catch (thrown) {
      if (attempt === attemptsMax || !String(thrown).includes("try again")) throw thrown
    }
  }
}

const attemptsMax = 20

const isForced = process.argv.includes("--force")
const wanted = [
  [embeddedToday, makeEmbedded],
  [clusteredToday, makeClustered]
] as const
const expected = await expectedResults()
await provision()
for (const [fixture, make] of wanted) {
  if (!isForced && existsSync(fixtureFolder(fixture))) process.stdout.write(`${fixture} is there already, and stays as it is (--force)\n`)
  else await untilMade(make)
}
process.exit(0)
