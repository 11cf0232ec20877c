// The journal and ownership of the laws over a real Redis; records go to a memory store, as they would go to JetStream.
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import type { Journal } from "../../src/journal/journal.ts"
import { makeStoredSink } from "../../src/sink/stored.ts"
import { makeStoredSource } from "../../src/source/stored.ts"
import { makeMemoryStore } from "../../src/storage/memory-store.ts"
import type { RedisLink } from "../../src/storage/redis-link.ts"
import { journalName } from "../../src/storage/store.ts"
import { startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { connectTo, type ProcessOptions, type RedisProcess, type Resumable, resumed, startProcess } from "./redis-process.ts"
import type { Adapter } from "./stores.ts"

const servers = new Map<string, Promise<Server>>()

const serverOf = (version: string): Promise<Server> => {
  const started = servers.get(version) ?? startRedis({ version })
  servers.set(version, started)
  return started
}

/** To be called by each test file that opens one of these. */
export const stopRedisServers = (): void =>
  afterAll(async () => {
    for (const server of servers.values()) await (await server).stop()
  })

let laws = 0

export const openRedis = (version: string, limits: ProcessLimits): Effect.Effect<Adapter, KeyfoldError, Scope.Scope> =>
  Effect.flatMap(
    Effect.flatMap(
      Effect.promise(() => serverOf(version)),
      ({ url }) => connectTo(url)
    ),
    (connection) => openOver(connection, limits)
  )

type ProcessLimits = NonNullable<ProcessOptions["limits"]>

/** Each law has keys of its own. */
export const openOver = (
  connection: Pick<RedisLink, "name" | "script" | "command">,
  limits: ProcessLimits
): Effect.Effect<Adapter, KeyfoldError, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const prefix = `law-${process.pid}-${++laws}`
    const store = makeMemoryStore()
    const records = { source: makeStoredSource(store), sink: makeStoredSink(store) }
    let others = 0
    const start = (worker: string) => startProcess(connection, { worker, prefix, leaseMs: leaseMsOfLaws, limits })

    const adapterOf = (own: RedisProcess, worker: string, ports: Journal["Service"]): Adapter => {
      const fingerprints = new Map<string, string>()
      const journal: Journal["Service"] = {
        ...ports,
        open: (owner, fingerprint) =>
          Effect.tap(ports.open(owner, fingerprint), () => Effect.sync(() => fingerprints.set(journalName(owner), fingerprint)))
      }
      const reopen = Effect.gen(function* () {
        const before = new Map<string, Resumable>(
          own.tenures.all().map(({ owner }) => [journalName(owner), { owner, fingerprint: fingerprints.get(journalName(owner)) ?? "" }])
        )
        yield* own.crash
        const again = yield* start(worker)
        return adapterOf(again, worker, yield* resumed(again, before))
      })
      return {
        ...records,
        journal,
        ownership: own.ownership,
        recordsWithCommit: false,
        reopen: Effect.provideService(reopen, Scope.Scope, scope),
        leases: {
          leaseMs: leaseMsOfLaws,
          other: Effect.provideService(
            Effect.suspend(() => {
              const name = `worker-${++others}`
              return Effect.map(start(name), (other) => adapterOf(other, name, other.journal))
            }),
            Scope.Scope,
            scope
          ),
          crash: own.crash,
          cut: (isCut) => {
            own.link.isCut = isCut
          }
        }
      }
    }
    const first = yield* start("worker")
    return adapterOf(first, "worker", first.journal)
  })

const leaseMsOfLaws = 800
