// Goal: the SQLite store refuses what is not its own without touching it, loses nothing when a process or the disk fails, and shares
// commits without sharing failures.
// Method: real files that are damaged on purpose, and real processes (storage-child.ts) that are killed or run into a limit.
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { DatabaseSync } from "node:sqlite"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { describe, expect, test, vi } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { makeStoredSink } from "../../src/sink/stored.ts"
import { makeStoredSource } from "../../src/source/stored.ts"
import { ChangePoll } from "../../src/storage/change-poll.ts"
import { openDatabase } from "../../src/storage/database.ts"
import { lockForQueries } from "../../src/storage/lock.ts"
import { makeMemoryStore } from "../../src/storage/memory-store.ts"
import type { Store } from "../../src/storage/store.ts"
import { codeOf, record, temporaryDirectory } from "../law/stores.ts"

const clicks = { topic: "clicks", partition: 0 }
const one = { partitions: 1, partitionsDefault: 1 }
const child = join(import.meta.dirname, "storage-child.ts")
const nodeArguments = ["--conditions=keyfold-source", child]

interface Child {
  readonly process: ChildProcess
  readonly nextLine: Effect.Effect<string>
  readonly kill: Effect.Effect<void>
}

/** Runs storage-child.ts; killed when the scope closes. */
const start = (command: string, args: readonly string[]): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const started = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] })
      const lines = createInterface({ input: started.stdout })[Symbol.asyncIterator]()
      const exited = once(started, "exit")
      return {
        process: started,
        nextLine: Effect.promise(async () => String((await lines.next()).value)),
        kill: Effect.promise(async () => {
          started.kill("SIGKILL")
          await exited
        })
      }
    }),
    ({ kill }) => kill
  )

const startChild = (...args: readonly string[]) => start(process.execPath, [...nodeArguments, ...args])

const inDirectory = (name: string, run: (directory: string) => Effect.Effect<void, KeyfoldError, Scope.Scope>): void =>
  test(name, () => Effect.runPromise(Effect.scoped(Effect.flatMap(temporaryDirectory, run))))

const databaseOf = (directory: string): string => join(directory, "keyfold.db")

/** Every file of a directory with its bytes. */
const filesOf = (directory: string): Readonly<Record<string, string>> =>
  Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name)).toString("base64")]))

const errorOf = <A, R>(effect: Effect.Effect<A, KeyfoldError, R>): Effect.Effect<KeyfoldError, never, R> =>
  Effect.flip(effect).pipe(Effect.catch(() => Effect.die("it should have failed")))

const openError = (directory: string) => errorOf(Effect.scoped(openDatabase(directory)))

/** A directory with `count` records of 1,000 bytes, closed again. */
const fill = (directory: string, count: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* openDatabase(directory)
      yield* makeStoredSource(store).open("clicks", one)
      yield* makeStoredSink(store).publish(Array.from({ length: count }, () => record("clicks", 0, "x".repeat(1_000))))
    })
  )

describe("opening", () => {
  inDirectory("a directory is created, and opened by many at once as one", (parent) =>
    Effect.gen(function* () {
      const directory = join(parent, "a", "b")
      const [first, second] = yield* Effect.all([openDatabase(directory), openDatabase(`${directory}/../b`)])
      expect(first).toBe(second)
      expect(first.name).toBe(databaseOf(first.directory))
    })
  )

  inDirectory("who closes does not close for others, and the last one leaves a single file", (directory) =>
    Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          const store = yield* openDatabase(directory)
          yield* Effect.scoped(openDatabase(directory))
          yield* makeStoredSource(store).open("clicks", one)
        })
      )
      expect(readdirSync(directory)).toEqual(["keyfold.db"])
      yield* openDatabase(directory)
    })
  )

  inDirectory("processes that create one directory at once all write to the same database", (directory) =>
    Effect.gen(function* () {
      const children = yield* Effect.all(Array.from({ length: 4 }, () => startChild("publish", directory, "5")))
      for (const { nextLine } of children) expect(yield* nextLine).toBe("published")
      const store = yield* openDatabase(directory)
      expect(yield* makeStoredSource(store).lastPosition(clicks)).toBe(20)
    })
  )
})

inDirectory("who creates a topic that exists leaves it as it is", (directory) =>
  Effect.gen(function* () {
    for (const store of [makeMemoryStore(), yield* openDatabase(directory)]) {
      yield* store.write(() => store.topics.create("clicks", 2))
      const created = yield* store.read(() => store.topics.find("clicks"))
      yield* store.write(() => store.topics.create("clicks", 4))
      expect(yield* store.read(() => store.topics.find("clicks"))).toEqual(created)
    }
  })
)

describe("files that are not ours stay as they are", () => {
  const foreign: Readonly<Record<string, (directory: string) => void>> = {
    "a text": (directory) => writeFileSync(databaseOf(directory), "these are notes, not a database. ".repeat(500)),
    "an empty file": (directory) => writeFileSync(databaseOf(directory), ""),
    "another program's database": (directory) => {
      const database = new DatabaseSync(databaseOf(directory))
      database.exec("PRAGMA journal_mode = WAL; CREATE TABLE notes(text)")
      database.close()
    }
  }
  for (const [what, write] of Object.entries(foreign)) {
    inDirectory(`${what} is directory-damaged`, (directory) =>
      Effect.gen(function* () {
        write(directory)
        const before = filesOf(directory)
        const error = yield* openError(directory)
        expect(error.code).toBe("directory-damaged")
        expect(error.message).toContain(databaseOf(directory))
        expect(filesOf(directory)).toEqual(before)
      })
    )
  }

  inDirectory("a newer format is format-newer", (directory) =>
    Effect.gen(function* () {
      yield* fill(directory, 10)
      const newer = new DatabaseSync(databaseOf(directory))
      newer.exec("PRAGMA user_version = 2")
      newer.close()
      const before = filesOf(directory)
      const error = yield* openError(directory)
      expect(error.code).toBe("format-newer")
      expect(error.message).toMatch(/keyfold\.db has format 2.*up to 1/)
      expect(filesOf(directory)).toEqual(before)
    })
  )

  inDirectory("a newer format in use by its own process is format-newer, and keeps what is in its log", (directory) =>
    Effect.gen(function* () {
      yield* fill(directory, 10)
      const newer = new DatabaseSync(databaseOf(directory))
      newer.exec("PRAGMA user_version = 2; CREATE TABLE fresh(a)")
      // Not through fs: to close a file would free the locks that this process holds on it.
      const logBytes = statSync(`${databaseOf(directory)}-wal`).size
      expect((yield* openError(directory)).code).toBe("format-newer")
      expect(statSync(`${databaseOf(directory)}-wal`).size).toBe(logBytes)
      expect(newer.prepare("SELECT count(*) AS count FROM fresh").get()).toMatchObject({ count: 0 })
      newer.close()
    })
  )
})

inDirectory("a newer format that was left by a crash keeps its log", (parent) =>
  Effect.gen(function* () {
    const [running, crashed] = [join(parent, "running"), join(parent, "crashed")]
    mkdirSync(crashed)
    yield* fill(running, 10)
    const newer = new DatabaseSync(databaseOf(running))
    newer.exec("PRAGMA user_version = 2; CREATE TABLE fresh(a)")
    for (const name of ["keyfold.db", "keyfold.db-wal"]) copyFileSync(join(running, name), join(crashed, name))
    newer.close()
    const before = filesOf(crashed)
    expect((yield* openError(crashed)).code).toBe("format-newer")
    expect(filesOf(crashed)).toMatchObject(before)
  })
)

describe("damage", () => {
  inDirectory("a file that was cut off is directory-damaged", (directory) =>
    Effect.gen(function* () {
      yield* fill(directory, 500)
      truncateSync(databaseOf(directory), statSync(databaseOf(directory)).size / 2)
      const error = yield* openError(directory)
      expect(error.code).toBe("directory-damaged")
      expect(error.message).toMatch(/keyfold\.db is damaged.*Restore the directory from a backup/)
    })
  )

  inDirectory("pages that were overwritten are found when a query starts, and when they are read", (directory) =>
    Effect.gen(function* () {
      yield* fill(directory, 2_000)
      const content = readFileSync(databaseOf(directory))
      content.fill(0xa5, content.length / 2, content.length / 2 + 200_000)
      writeFileSync(databaseOf(directory), content)
      const store = yield* openDatabase(directory)
      expect(yield* codeOf(lockForQueries(store))).toBe("directory-damaged")
      const source = makeStoredSource(store)
      const everything = { ...clicks, after: 0, countMax: 10_000, bytesMax: 1e9 }
      expect(yield* codeOf(source.read(everything))).toBe("directory-damaged")
      const log = yield* store.read(() => store.topics.log("clicks", 0))
      expect(yield* codeOf(store.write(() => log.read(everything)))).toBe("directory-damaged")
      expect(yield* store.write(() => "the next group is none the worse")).toBe("the next group is none the worse")
    })
  )

  inDirectory("a refused start gives the lock back", (directory) =>
    Effect.gen(function* () {
      yield* fill(directory, 2_000)
      const whole = readFileSync(databaseOf(directory))
      writeFileSync(databaseOf(directory), Buffer.from(whole).fill(0xa5, whole.length / 2, whole.length / 2 + 200_000))
      yield* Effect.scoped(Effect.flatMap(openDatabase(directory), (store) => codeOf(Effect.scoped(lockForQueries(store)))))
      writeFileSync(databaseOf(directory), whole)
      const other = yield* startChild("hold", directory)
      expect(yield* other.nextLine).toBe("held")
    })
  )
})

describe("paths", () => {
  inDirectory("a path below a file is unreachable", (directory) =>
    Effect.gen(function* () {
      writeFileSync(join(directory, "file"), "")
      for (const path of [join(directory, "file"), join(directory, "file", "below")]) {
        const error = yield* openError(path)
        expect(error.code).toBe("unreachable")
        expect(error.message).toMatch(new RegExp(`^${path} .*Check that the path is a directory`))
      }
    })
  )

  for (const existing of [false, true]) {
    inDirectory(`a directory that may not be written is unreachable (database ${existing ? "there" : "not there"})`, (parent) =>
      Effect.gen(function* () {
        const directory = join(parent, "locked")
        mkdirSync(directory)
        if (existing) yield* fill(directory, 1)
        chmodSync(parent, 0o755)
        chmodSync(directory, 0o555)
        const { nextLine } = yield* startChild("open", directory, "nobody")
        expect(yield* nextLine).toMatch(/^unreachable: .*locked.*this user may write/)
        chmodSync(directory, 0o755)
      })
    )
  }
})

describe("the lock of running queries", () => {
  inDirectory("a second process is told who has it and since when; publishing goes on beside; kill -9 frees it", (directory) =>
    Effect.gen(function* () {
      const holder = yield* startChild("hold", directory)
      expect(yield* holder.nextLine).toBe("held")
      const store = yield* openDatabase(directory)
      const error = yield* errorOf(Effect.scoped(lockForQueries(store)))
      expect(error.code).toBe("directory-in-use")
      expect(error.message).toContain(`process ${holder.process.pid} on ${hostname()}`)
      expect(error.message).toMatch(
        /since 20\d\d-\d\d-\d\dT[\d:.]+Z \(keyfold \d+\.\d+\.\d+\)\. Stop that process, or give this one another directory/
      )
      yield* makeStoredSource(store).open("clicks", one)
      yield* makeStoredSink(store).publish([record("clicks", 0, "a")])
      yield* holder.kill
      yield* lockForQueries(store)
    })
  )

  inDirectory("queries of one process share it, and the last one frees it", (directory) =>
    Effect.gen(function* () {
      const store = yield* openDatabase(directory)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* lockForQueries(store)
          yield* Effect.scoped(lockForQueries(store))
          const refused = yield* startChild("hold", directory)
          expect(yield* refused.nextLine).toContain(`directory-in-use: ${store.directory} is in use: process ${process.pid}`)
          // Who has it is for the message only: a file that does not say it, whatever else it holds, changes nothing.
          for (const owner of ["null", "", "5"]) {
            writeFileSync(join(directory, "owner.json"), owner)
            const unnamed = yield* startChild("hold", directory)
            expect(yield* unnamed.nextLine).toContain(`directory-in-use: ${store.directory} is in use: another process`)
          }
        })
      )
      const next = yield* startChild("hold", directory)
      expect(yield* next.nextLine).toBe("held")
    })
  )
})

describe("failures while writing", () => {
  inDirectory("a killed process leaves whole turns: state, progress and outputs agree, and nothing acknowledged is gone", (directory) =>
    Effect.gen(function* () {
      const worker = yield* startChild("turns", directory)
      let acknowledged = 0
      while (acknowledged < 50) acknowledged = Number(yield* worker.nextLine)
      yield* worker.kill
      const store = yield* openDatabase(directory)
      const stored = yield* store.read(() => {
        const journal = store.journals.find({ query: "q", stage: "s", partition: 0 })
        return { state: journal?.state(), keys: journal?.keys(), outputs: store.topics.log("clicks", 0).lastPosition() }
      })
      const revision = stored.state?.revision ?? 0
      expect(revision).toBeGreaterThanOrEqual(acknowledged)
      expect(stored).toMatchObject({
        state: { progress: `${revision}` },
        keys: [{ bytes: new Uint8Array(Buffer.from(`${revision}`)), timeoutAt: revision }],
        outputs: revision
      })
    })
  )

  inDirectory(
    "a full disk is storage-full; what was committed can be read, and the same commit succeeds when there is space",
    (directory) =>
      Effect.gen(function* () {
        const limited = yield* start("bash", [
          "-c",
          'ulimit -S -f 3000; exec "$@"',
          "bash",
          process.execPath,
          ...nodeArguments,
          "fill",
          directory
        ])
        const said = JSON.parse(yield* limited.nextLine) as Readonly<Record<string, unknown>>
        expect(said).toMatchObject({ code: "storage-full", again: "storage-full" })
        expect(said.message).toMatch(/keyfold\.db cannot grow .*Free some space/)
        const failed = Number(said.failed)
        expect(failed).toBeGreaterThan(10)
        expect(said).toMatchObject({ stored: failed - 1, head: failed - 1 })
        const store = yield* openDatabase(directory)
        expect(yield* makeStoredSource(store).lastPosition(clicks)).toBe(failed)
        yield* store.check()
      })
  )
})

describe("group commit", () => {
  /** Commits in the write-ahead log: frames that say how large the database is after them (sqlite.org/fileformat2.html). */
  const commitsOf = (directory: string): number => {
    const log = readFileSync(`${databaseOf(directory)}-wal`)
    const frameBytes = 24 + log.readUInt32BE(8)
    let commits = 0
    for (let at = 32; at + frameBytes <= log.length; at += frameBytes) if (log.readUInt32BE(at + 4) !== 0) commits += 1
    return commits
  }

  const append = (store: Store, text: string) =>
    store.write(() => store.topics.log("clicks", 0).append([record("clicks", 0, text)], new Map()))

  const opened = (directory: string) => Effect.tap(openDatabase(directory), (store) => makeStoredSource(store).open("clicks", one))

  const texts = (store: Store) =>
    store.read(() =>
      store.topics
        .log("clicks", 0)
        .read({ after: 0, countMax: 100, bytesMax: 1e6 })
        .map(({ payload }) => Buffer.from(payload).toString())
    )

  inDirectory("writes that are waiting at once share one transaction, in their order", (directory) =>
    Effect.gen(function* () {
      const store = yield* opened(directory)
      const before = commitsOf(directory)
      const names = Array.from({ length: 16 }, (_, index) => `${index}`)
      yield* Effect.all(
        names.map((name) => append(store, name)),
        { concurrency: "unbounded" }
      )
      expect(commitsOf(directory) - before).toBe(1)
      yield* append(store, "16")
      expect(commitsOf(directory) - before).toBe(2)
      expect(yield* texts(store)).toEqual([...names, "16"])
    })
  )

  inDirectory("work that fails takes back what it wrote, and nobody else's", (directory) =>
    Effect.gen(function* () {
      const store = yield* opened(directory)
      const failing = (thrown: unknown) =>
        store.write(() => {
          store.topics.log("clicks", 0).append([record("clicks", 0, "bad")], new Map([["w", 1]]))
          throw thrown
        })
      const outcome = (effect: Effect.Effect<unknown, KeyfoldError>) =>
        effect.pipe(
          Effect.as("written"),
          Effect.catch((error) => Effect.succeed(error.code)),
          Effect.catchDefect((defect) => Effect.succeed(defect))
        )
      const bug = new TypeError("our own mistake")
      const writes = [
        append(store, "a"),
        failing(new KeyfoldError("fenced", "stale")),
        append(store, "b"),
        failing(bug),
        append(store, "c")
      ]
      expect(yield* Effect.all(writes.map(outcome), { concurrency: "unbounded" })).toEqual(["written", "fenced", "written", bug, "written"])
      expect(yield* texts(store)).toEqual(["a", "b", "c"])
      expect(yield* store.read(() => store.topics.log("clicks", 0).lastNumber("w"))).toBe(0)
    })
  )

  inDirectory("a topic whose creation was taken back can be created again", (directory) =>
    Effect.gen(function* () {
      const store = yield* openDatabase(directory)
      const taken = store.write(() => {
        store.topics.create("clicks", 4)
        store.topics.log("clicks", 3)
        throw new KeyfoldError("fenced", "stale")
      })
      expect(yield* codeOf(taken)).toBe("fenced")
      expect(yield* makeStoredSource(store).open("clicks", one)).toMatchObject({ partitions: 1 })
      yield* append(store, "a")
      expect(yield* texts(store)).toEqual(["a"])
    })
  )

  inDirectory("an interrupted write never happens, and the others do", (directory) =>
    Effect.gen(function* () {
      const store = yield* opened(directory)
      const [first, interrupted, last] = yield* Effect.all(
        ["a", "b", "c"].map((text) => Effect.forkChild(append(store, text), { startImmediately: true }))
      )
      if (first === undefined || interrupted === undefined || last === undefined) throw new Error("three fibers")
      yield* Fiber.interrupt(interrupted)
      yield* Fiber.join(first)
      yield* Fiber.join(last)
      expect(yield* texts(store)).toEqual(["a", "c"])
    })
  )

  inDirectory("what is queued when the last user leaves is committed", (directory) =>
    Effect.gen(function* () {
      const pending = yield* Effect.scoped(
        Effect.flatMap(opened(directory), (store) => Effect.forkDetach(append(store, "a"), { startImmediately: true }))
      )
      yield* Fiber.join(pending)
      expect(yield* texts(yield* openDatabase(directory))).toEqual(["a"])
    })
  )
})

describe("change notice", () => {
  inDirectory("a record of another process arrives", (directory) =>
    Effect.gen(function* () {
      const store = yield* openDatabase(directory)
      const source = makeStoredSource(store)
      yield* source.open("clicks", one)
      for (const after of [0, 1]) {
        const waiting = yield* Effect.forkChild(source.arrival([{ ...clicks, after }]), { startImmediately: true })
        const publisher = yield* startChild("publish", directory, "1")
        yield* Fiber.join(waiting)
        expect(yield* source.lastPosition(clicks)).toBe(after + 1)
        expect(yield* publisher.nextLine).toBe("published")
      }
    })
  )

  inDirectory("a record of this process arrives without polling", (directory) =>
    Effect.gen(function* () {
      const store = yield* openDatabase(directory)
      const source = makeStoredSource(store)
      yield* source.open("clicks", one)
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.useRealTimers()))
      const waiting = yield* Effect.forkChild(source.arrival([{ ...clicks, after: 0 }]), { startImmediately: true })
      yield* makeStoredSink(store).publish([record("clicks", 0, "a")])
      yield* Fiber.join(waiting)
    })
  )

  test("polling is quick while things move, slow when idle, and ends when nobody waits", () => {
    vi.useFakeTimers()
    try {
      let version = 1
      let polls = 0
      let changes = 0
      const poll = new ChangePoll(() => {
        polls += 1
        return version
      })
      const during = (ms: number): number => {
        const before = polls
        vi.advanceTimersByTime(ms)
        return polls - before
      }
      poll.start(() => (changes += 1))
      during(5)
      expect(changes).toBe(1)
      during(2_000)
      expect(during(1_000)).toBeLessThanOrEqual(20)
      version += 1
      during(50)
      expect(changes).toBe(2)
      expect(during(50)).toBeGreaterThanOrEqual(6)
      poll.stop()
      expect(vi.getTimerCount()).toBe(0)
      expect(during(1_000)).toBe(0)
      version += 1
      poll.start(() => (changes += 1))
      during(50)
      expect(changes).toBe(3)
      poll.stop()
    } finally {
      vi.useRealTimers()
    }
  })
})
