/** The one file of an embedded directory, damaged in any way: by its adapters, and through the front door. */
import { ok } from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { read, start } from "keyfold"
import { embedded } from "keyfold/embedded"
import { KeyfoldError } from "../../src/errors.ts"
import { makeStoredJournal } from "../../src/journal/stored.ts"
import type { KeyImage } from "../../src/model/turn.ts"
import { makeStoredOwnership } from "../../src/partition/ownership-stored.ts"
import { decodeProgress } from "../../src/partition/progress.ts"
import { internalTopicName } from "../../src/plan.ts"
import { makeStoredOutlet } from "../../src/sink/stored.ts"
import { makeStoredSource } from "../../src/source/stored.ts"
import { type Database, openDatabase } from "../../src/storage/database.ts"
import { fixtureFile } from "../upgrade/formats.ts"
import { lines, staysJob } from "../upgrade/stays-job.ts"
import { settled } from "./settled.ts"
import type { Target } from "./target.ts"

/** In a directory of its own, gone afterwards. */
const inDirectory = async (files: Readonly<Record<string, Uint8Array>>, use: (directory: string) => Promise<void>): Promise<void> => {
  const directory = mkdtempSync(join(tmpdir(), "keyfold-fuzz-"))
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
    await use(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

const damaged = ["directory-damaged", "format-newer", "topic-mismatch", "source-gap", "schema-incompatible", "output-fate-unknown"] as const

/** Everything that is read by publishers, readers and queries. Half of them without the check that a query begins with. */
const database: Target = {
  name: "database",
  allowed: damaged,
  names: /keyfold\.db|visits|lines|stays/,
  words: ["\u0000\u0000\u0000", "fnv1a32", "visits", '[["', "{"],
  inputs: 50,
  isPlaced: true,
  isPacked: true,
  read: (input) =>
    inDirectory({ "keyfold.db": input }, (directory) =>
      settled(
        Effect.scoped(
          Effect.gen(function* () {
            const store = yield* openDatabase(directory)
            if (input.length % 2 === 0) yield* store.check()
            yield* readTopics(store)
            yield* readJournals(store)
          })
        )
      )
    )
}

const readTopics = Effect.fnUntraced(function* (store: Database) {
  const source = makeStoredSource(store)
  for (const name of topicNames) {
    const found = yield* source.find(name)
    if (found === undefined) continue
    for (let partition = 0; partition < found.partitions; partition++) {
      const of = { topic: name, partition }
      const end = yield* source.lastPosition(of)
      ok(Number.isSafeInteger(end) && end >= 0, `a position: ${end}`)
      yield* source.positionBefore(of, 1_000)
      const after = yield* source.resumeAfter(of, 0)
      const records = yield* source.read({ ...of, after, countMax: 1_000, bytesMax: 1_000_000 })
      for (const { payload, publishedAt, headers } of records) {
        ok(payload instanceof Uint8Array, "a payload is bytes")
        ok(typeof publishedAt === "number", "a time is a number")
        for (const [key, value] of headers) ok(typeof key === "string" && typeof value === "string", "headers are texts")
      }
      yield* source.check(of, { created: found.created[partition] as string, position: end, publishedAt: null })
    }
  }
})

const topicNames = ["visits", "lines", "stays-dead", ...["stay", "total"].map((stage) => internalTopicName("stays", stage))]

const readJournals = Effect.fnUntraced(function* (store: Database) {
  const journal = makeStoredJournal(store, makeStoredOutlet(store))
  const ownership = makeStoredOwnership(store)
  for (const stage of ["stay", "total"]) {
    const owner = yield* ownership.acquire({ query: "stays", stage, partition: 0 })
    const head = yield* journal
      .open(owner, stage === "stay" ? "json/1" : "avro/0000000000000000")
      .pipe(Effect.catch((failure) => (failure.code === "schema-incompatible" ? Effect.succeed(undefined) : Effect.fail(failure))))
    if (head === undefined) continue
    ok(Number.isSafeInteger(head.revision))
    for (const { outbox } of head.unpublished) {
      for (const { values } of outbox.deliveries) ok(values.every((value) => value instanceof Uint8Array))
    }
    const inputs = [{ topic: internalTopicName("stays", stage) }]
    const progress = head.progress === undefined ? undefined : decodeProgress(head.progress, inputs, "the journal of stays")
    if (progress instanceof KeyfoldError) return yield* Effect.fail(progress)
    const keys = yield* journal.keys(owner)
    const loaded = yield* journal.load(owner, [...keys.map(({ keyText }) => keyText), "x"])
    const due = yield* journal.due(owner, { before: Number.POSITIVE_INFINITY, countMax: 100 })
    for (const image of [...keys, ...loaded, ...due]) if (image !== undefined) checkImage(image)
    const timeouts = yield* journal.timeouts(owner)
    ok(timeouts === undefined || (typeof timeouts.first === "number" && typeof timeouts.last === "number"))
  }
})

const checkImage = ({ keyText, bytes, timeoutAt }: KeyImage): void => {
  ok(typeof keyText === "string", "a key is a text")
  ok(bytes === undefined || bytes instanceof Uint8Array, "a state is bytes")
  ok(timeoutAt === undefined || typeof timeoutAt === "number", "a timeout is a number")
}

/** A query over it, to its end, and a reader. */
const directory: Target = {
  name: "directory",
  allowed: [...damaged, "journal-behind-outputs", "decode-failed", "key-invalid"],
  names: database.names,
  words: database.words ?? [],
  inputs: 20,
  isPlaced: true,
  isPacked: true,
  read: (input) => inDirectory({ "keyfold.db": input }, runToEnd)
}

async function runToEnd(path: string): Promise<void> {
  const runtime = embedded(path)
  const job = staysJob(async () => undefined)
  const query = await start(job, { runtime, trigger: "available-now", atEnd: "close" })
  await query.awaitTermination()
  for await (const { value } of read(runtime, lines)) ok(value !== undefined)
}

/** What a killed process has left beside the file: its last commits. SQLite takes as many of them as are whole. */
const writeAheadLog: Target = {
  name: "write-ahead-log",
  allowed: directory.allowed,
  names: database.names,
  inputs: 20,
  isPlaced: true,
  isPacked: true,
  read: (input) => inDirectory({ "keyfold.db": fixtureFile("embedded-1", "keyfold.db"), "keyfold.db-wal": input }, runToEnd)
}

export const storageTargets: readonly Target[] = [database, directory, writeAheadLog]
