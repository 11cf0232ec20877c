// The source and sink of the laws over a real NATS; the journal is in memory and leaves its records to publish, as Redis does.
import { connect, type NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { makeStoredJournal } from "../../src/journal/stored.ts"
import { makeStoredOwnership } from "../../src/partition/ownership-stored.ts"
import { makeJetStreamSink } from "../../src/sink/jetstream.ts"
import { makeJetStreamSource } from "../../src/source/jetstream.ts"
import { makeMemoryStore } from "../../src/storage/memory-store.ts"
import { startNats } from "../servers/nats-server.ts"
import { type Server, sleep } from "../servers/server.ts"
import type { Adapter } from "./stores.ts"

const servers = new Map<string, Promise<Server>>()

const serverOf = (version: string): Promise<Server> => {
  const started = servers.get(version) ?? startNats({ version })
  servers.set(version, started)
  return started
}

/** To be called by each test file that opens one of these. */
export const stopNatsServers = (): void =>
  afterAll(async () => {
    for (const server of servers.values()) await (await server).stop()
  })

export const natsClient = (url: string): Promise<NatsConnection> =>
  connect({ servers: url, noAsyncTraces: true, maxReconnectAttempts: -1, reconnectTimeWait: 20, pingInterval: 500 })

/** Closed with the scope. */
export const connectedTo = (url: string): Effect.Effect<NatsConnection, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => natsClient(url)),
    (connection) => Effect.promise(() => connection.close())
  )

/** The topics that laws use. */
const lawStreams = /^(clicks|late|out)-\d+$/

/** Laws find their topics missing: each begins on a server without them. */
const forgetTopics = async (connection: NatsConnection): Promise<void> => {
  const names = await connection.request("$JS.API.STREAM.NAMES", "{}")
  const { streams } = names.json<{ readonly streams: readonly string[] | null }>()
  for (const stream of (streams ?? []).filter((name) => lawStreams.test(name))) await deleteForGood(connection, stream)
}

/**
 * From 2.10 on a server removes the files of a deleted stream later, and a stream of that name that is created before finds the old messages
 * in it. So one is created until it is empty.
 */
const deleteForGood = async (connection: NatsConnection, stream: string): Promise<void> => {
  for (;;) {
    await connection.request(`$JS.API.STREAM.DELETE.${stream}`)
    const config = JSON.stringify({ name: stream, subjects: [`${stream}.unused`] })
    const created = (await connection.request(`$JS.API.STREAM.CREATE.${stream}`, config)).json<{
      /** Absent while the old one is still being removed. */
      readonly state?: { readonly last_seq: number }
    }>()
    await connection.request(`$JS.API.STREAM.DELETE.${stream}`)
    if (created.state?.last_seq === 0) return
    await sleep(20)
  }
}

export const openJetStream = (version: string): Effect.Effect<Adapter, KeyfoldError, Scope.Scope> =>
  Effect.gen(function* () {
    const { url } = yield* Effect.promise(() => serverOf(version))
    yield* Effect.flatMap(connectedTo(url), (connection) => Effect.promise(() => forgetTopics(connection)))
    return yield* openOver(connectedTo(url))
  })

export const openOver = (connected: Effect.Effect<NatsConnection, never, Scope.Scope>): Effect.Effect<Adapter, KeyfoldError, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const store = makeMemoryStore()
    const stored = makeStoredJournal(store, { append: () => undefined })
    const journal: Adapter["journal"] = {
      ...stored,
      commit: (owner, turn) => Effect.map(stored.commit(owner, turn), (left) => ({ ...left, records: turn.outbox.records }))
    }
    const open: Effect.Effect<Adapter, KeyfoldError> = Effect.provideService(
      Effect.gen(function* () {
        const connection = yield* connected
        return {
          source: yield* makeJetStreamSource(connection, { replicas: 1 }),
          sink: yield* makeJetStreamSink(connection),
          journal,
          ownership: makeStoredOwnership(store),
          recordsWithCommit: false,
          stampsRecords: true,
          reopen: Effect.suspend(() => open)
        }
      }),
      Scope.Scope,
      scope
    )
    return yield* open
  })
