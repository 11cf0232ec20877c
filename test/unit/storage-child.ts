// A process of its own for storage.test.ts: `node storage-child.ts <command> <directory> [argument]`. Says on stdout how far it is.
import { execFileSync } from "node:child_process"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../../src/errors.ts"
import { makeStoredJournal } from "../../src/journal/stored.ts"
import { type NewRecord, noHeaders } from "../../src/model/record.ts"
import { emptyOutbox, type TurnRecord } from "../../src/model/turn.ts"
import { makeStoredOwnership } from "../../src/partition/ownership-stored.ts"
import { makeStoredOutlet, makeStoredSink } from "../../src/sink/stored.ts"
import { makeStoredSource } from "../../src/source/stored.ts"
import { type Database, openDatabase } from "../../src/storage/database.ts"
import { lockForQueries } from "../../src/storage/lock.ts"

type Command = (database: Database, argument: string) => Effect.Effect<unknown, KeyfoldError, Scope.Scope>

const id = { query: "q", stage: "s", partition: 0 }

const say = (line: string): void => void process.stdout.write(`${line}\n`)

const recordOf = (payload: Uint8Array, number: number | undefined): NewRecord => ({
  topic: "clicks",
  partition: 0,
  publishedAt: 1,
  headers: noHeaders,
  payload,
  identity: number === undefined ? undefined : { writer: "w", number }
})

/** A turn that sets one key to its revision and puts out one record. */
const turnOf = (revision: number, payload: Uint8Array): TurnRecord => ({
  revision,
  progress: `${revision}`,
  changes: [{ keyText: "k", bytes: Buffer.from(`${revision}`), timeoutAt: revision }],
  outbox: { ...emptyOutbox, records: [recordOf(payload, revision)] }
})

const openJournal = Effect.fnUntraced(function* (database: Database) {
  yield* makeStoredSource(database).open("clicks", { partitions: 1, partitionsDefault: 1 })
  const journal = makeStoredJournal(database, makeStoredOutlet(database))
  const owner = yield* makeStoredOwnership(database).acquire(id)
  yield* journal.open(owner, "f")
  return { journal, owner }
})

const commands: Readonly<Record<string, Command>> = {
  open: () => Effect.sync(() => say("opened")),

  /** Holds the lock until it is killed. */
  hold: (database) =>
    lockForQueries(database).pipe(
      Effect.andThen(Effect.sync(() => say("held"))),
      Effect.andThen(Effect.sync(() => setInterval(() => undefined, 1_000))),
      Effect.andThen(Effect.never)
    ),

  publish: Effect.fnUntraced(function* (database: Database, count: string) {
    yield* makeStoredSource(database).open("clicks", { partitions: 1, partitionsDefault: 1 })
    for (let index = 0; index < Number(count); index++)
      yield* makeStoredSink(database).publish([recordOf(Buffer.from(`${index}`), undefined)])
    say("published")
  }),

  /** Commits turns until it is killed. */
  turns: Effect.fnUntraced(function* (database: Database) {
    const { journal, owner } = yield* openJournal(database)
    for (let revision = 1; ; revision++) {
      yield* journal.commit(owner, turnOf(revision, Buffer.from(`${revision}`)))
      say(`${revision}`)
    }
  }),

  /** Commits turns until the disk is full, looks what is there, has its limit lifted, and commits the same turn again. */
  fill: Effect.fnUntraced(function* (database: Database) {
    const { journal, owner } = yield* openJournal(database)
    let revision = 0
    let error: KeyfoldError | undefined
    while (error === undefined) {
      revision += 1
      const turn = turnOf(revision, Buffer.alloc(20_000, revision))
      error = yield* Effect.match(journal.commit(owner, turn), { onFailure: (failure) => failure, onSuccess: () => undefined })
    }
    const turn = turnOf(revision, Buffer.alloc(20_000, revision))
    const stored = yield* makeStoredSource(database).read({ topic: "clicks", partition: 0, after: 0, countMax: 1e6, bytesMax: 1e9 })
    const head = yield* journal.open(owner, "f")
    const again = yield* Effect.match(journal.commit(owner, turn), { onFailure: (failure) => failure.code, onSuccess: () => "success" })
    execFileSync("prlimit", ["--pid", `${process.pid}`, "--fsize=unlimited"])
    yield* journal.commit(owner, turn)
    say(JSON.stringify({ code: error.code, message: error.message, again, failed: revision, stored: stored.length, head: head.revision }))
  })
}

const [name = "", directory = "", argument = ""] = process.argv.slice(2)
const command = commands[name]
if (command === undefined) throw new Error(`no command ${name}`)
// Root may write everywhere: who tests permissions gives them up first.
if (argument === "nobody" && process.getuid?.() === 0) process.setuid?.(65_534)
await Effect.runPromise(
  Effect.scoped(Effect.flatMap(openDatabase(directory), (database) => command(database, argument))).pipe(
    Effect.catch((error) => Effect.sync(() => say(`${error.code}: ${error.message}`)))
  )
)
