// The adapters that the law suites run on, and how a law is run: each on a store of its own, which is closed and removed afterwards.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { describe, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import type { Journal } from "../../src/journal/journal.ts"
import { makeStoredJournal } from "../../src/journal/stored.ts"
import { type NewRecord, noHeaders } from "../../src/model/record.ts"
import type { Ownership } from "../../src/partition/ownership.ts"
import { makeStoredOwnership } from "../../src/partition/ownership-stored.ts"
import type { Sink } from "../../src/sink/sink.ts"
import { makeStoredOutlet, makeStoredSink } from "../../src/sink/stored.ts"
import type { Source } from "../../src/source/source.ts"
import { makeStoredSource } from "../../src/source/stored.ts"
import { openDatabase } from "../../src/storage/database.ts"
import { makeMemoryStore } from "../../src/storage/memory-store.ts"
import type { Store } from "../../src/storage/store.ts"
import { natsVersions, redisVersions } from "../servers/versions.ts"
import { openJetStream, stopNatsServers } from "./jetstream-store.ts"
import { openRedis, stopRedisServers } from "./redis-store.ts"
import { openSimulatedNats, openSimulatedRedis, simulated } from "./simulated-store.ts"

export interface Adapter {
  readonly source: Source["Service"]
  readonly sink: Sink["Service"]
  readonly journal: Journal["Service"]
  readonly ownership: Ownership["Service"]
  /** Whether a commit stores its records by itself; otherwise they are left to publish. */
  readonly recordsWithCommit: boolean
  /** Whether the time of a record is when the server stored it, whatever its publisher says. */
  readonly stampsRecords?: boolean
  /** The same data through new adapters, as after a restart. */
  readonly reopen: Effect.Effect<Adapter, KeyfoldError>
  /** Where several processes may own journals, each for the length of a lease; undefined where there is only one. */
  readonly leases?: {
    readonly leaseMs: number
    /** Another process on the same data. */
    readonly other: Effect.Effect<Adapter, KeyfoldError>
    /** This process does nothing more, and gives nothing back. */
    readonly crash: Effect.Effect<void>
    /** It reaches its server no more, or again. */
    readonly cut: (isCut: boolean) => void
  }
}

export type Law = (adapter: Adapter) => Effect.Effect<void, KeyfoldError, Scope.Scope>

type Port = "source" | "sink" | "journal" | "ownership"

interface Entry {
  /** Whose laws it keeps; the other ports are there for laws that need several. */
  readonly ports: readonly Port[]
  readonly hold: (law: Law) => Promise<void>
}

const opened = (ports: readonly Port[], open: Effect.Effect<Adapter, KeyfoldError, Scope.Scope>): Entry => ({
  ports,
  hold: (law) => Effect.runPromise(Effect.scoped(Effect.flatMap(open, law)))
})

const allPorts: readonly Port[] = ["source", "sink", "journal", "ownership"]

/** Every adapter, by name; a new one is a line here. */
const adapters: Readonly<Record<string, Entry>> = {
  memory: opened(
    allPorts,
    Effect.sync(() => {
      const store = makeMemoryStore()
      const adapter = (): Adapter => ({ ...portsOf(store), reopen: Effect.sync(adapter) })
      return adapter()
    })
  ),
  sqlite: opened(
    allPorts,
    Effect.suspend(() => Effect.flatMap(temporaryDirectory, openSqlite))
  ),
  "simulated redis": { ports: ["journal", "ownership"], hold: (law) => simulated(law, (machine) => openSimulatedRedis(machine, {})) },
  "simulated redis with a checkpoint always": {
    ports: ["journal"],
    hold: (law) => simulated(law, (machine) => openSimulatedRedis(machine, { checkpointEveryMs: 1, historyKeptMs: 0 }))
  },
  "simulated nats": { ports: ["source", "sink"], hold: (law) => simulated(law, openSimulatedNats) },
  ...Object.fromEntries(
    redisVersions().flatMap((version): [string, Entry][] => [
      [`redis ${version}`, opened(["journal", "ownership"], openRedis(version, {}))],
      [`redis ${version} with a checkpoint always`, opened(["journal"], openRedis(version, { checkpointEveryMs: 1, historyKeptMs: 0 }))]
    ])
  ),
  ...Object.fromEntries(
    natsVersions().map((version): [string, Entry] => [`nats ${version}`, opened(["source", "sink"], openJetStream(version))])
  )
}

export const runLaws = (port: Port, laws: Readonly<Record<string, Law>>): void => {
  stopRedisServers()
  stopNatsServers()
  for (const [name, { ports, hold }] of Object.entries(adapters)) {
    if (!ports.includes(port)) continue
    describe(`${name} ${port}`, () => {
      for (const [law, holds] of Object.entries(laws)) {
        test(`${name} ${port}: ${law}`, () => hold(holds))
      }
    })
  }
}

/** Removed when the scope closes. */
export const temporaryDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "keyfold-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** The code of the error that an effect fails with; "success" when it does not. */
export const codeOf = <A, R>(effect: Effect.Effect<A, KeyfoldError, R>): Effect.Effect<string, never, R> =>
  Effect.match(effect, { onFailure: (error) => error.code, onSuccess: () => "success" })

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

export const textOf = (payload: Uint8Array | undefined): string | undefined => payload && Buffer.from(payload).toString()

/** A record of a publisher, or with a number one of the writer "w". */
export const record = (topic: string, partition: number, text: string, number?: number): NewRecord => ({
  topic,
  partition,
  publishedAt: 1_000,
  headers: noHeaders,
  payload: bytes(text),
  identity: number === undefined ? undefined : { writer: "w", number }
})

/** All payloads of a partition, as texts: up to where it ends now (I1). */
export const textsOf = Effect.fnUntraced(function* (adapter: Adapter, topic: string, partition: number) {
  const end = yield* adapter.source.lastPosition({ topic, partition })
  const texts: (string | undefined)[] = []
  for (let after = 0; after < end; ) {
    const records = yield* adapter.source.read({ topic, partition, after, countMax: 1_000, bytesMax: 1_000_000 })
    texts.push(...records.map(({ payload }) => textOf(payload)))
    after = records.at(-1)?.position ?? after
  }
  return texts
})

const portsOf = (store: Store): Omit<Adapter, "reopen"> => ({
  source: makeStoredSource(store),
  sink: makeStoredSink(store),
  journal: makeStoredJournal(store, makeStoredOutlet(store)),
  ownership: makeStoredOwnership(store),
  recordsWithCommit: true
})

/** `reopen` closes the file for good first, whatever scope it was opened in. */
const openSqlite = (directory: string): Effect.Effect<Adapter, KeyfoldError, Scope.Scope> =>
  Effect.gen(function* () {
    const own = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    let current = yield* Scope.fork(own)
    const open: Effect.Effect<Adapter, KeyfoldError> = Effect.suspend(() =>
      Effect.provideService(openDatabase(directory), Scope.Scope, current)
    ).pipe(Effect.map((database) => ({ ...portsOf(database), reopen })))
    const reopen: Effect.Effect<Adapter, KeyfoldError> = Effect.suspend(() => Scope.close(current, Exit.void)).pipe(
      Effect.andThen(Scope.fork(own)),
      Effect.tap((fresh) => Effect.sync(() => (current = fresh))),
      Effect.andThen(open)
    )
    return yield* open
  })
