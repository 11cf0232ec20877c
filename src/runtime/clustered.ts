import { hostname } from "node:os"
import type { StreamConfig } from "@nats-io/jetstream"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import { randomName } from "../model/random-name.ts"
import type { Limits } from "../options.ts"
import { makeRuntime, type Ports, type Runtime, type TopicPorts } from "../ports.ts"
import { makeJetStreamSink, payloadBytesMaxOf } from "../sink/jetstream.ts"
import { makeJetStreamSource } from "../source/jetstream.ts"
import { clusteredPorts } from "./clustered-ports.ts"
import { type ClusteredOptions, type ClusteredSettings, clusteredSettings } from "./clustered-settings.ts"
import { checkNatsDurability, checkStreamDurability } from "./durability-nats.ts"
import { connectNats } from "./nats.ts"
import { openRedisLink } from "./redis-link.ts"

/**
 * The runtime on servers: topics are NATS JetStream streams, journals are in Redis, and any number of processes that start the same job
 * share its partitions. Workers may come, go and die at any time; a worker that has lost a partition can do no harm.
 *
 * Making one connects nothing. Throws `option-invalid`, all faults at once. Used, it fails with `unreachable`, `durability-refused`,
 * `topic-mismatch` or `format-newer`; docs/errors.md has the cures, docs/clustered.md the rest.
 */
export function clustered(to: ClusteredOptions): Runtime {
  const settings = clusteredSettings(to)
  return makeRuntime(`clustered(${settings.nats.name}, ${settings.redisName})`, {
    query: (limits) => connectQuery(settings, limits),
    client: connectTopics(settings)
  })
}

const connectTopics = Effect.fnUntraced(function* (settings: ClusteredSettings): Effect.fn.Return<TopicPorts, KeyfoldError, Scope.Scope> {
  const { replicas } = settings
  const { inboxPrefix, syncsAlways } = settings.nats
  const link = yield* connectNats(settings.nats)
  const demand = { ...settings.demand, replicas, syncsAlways }
  yield* checkNatsDurability(link, demand)
  const opened = (streams: readonly StreamConfig[]) => checkStreamDurability(link, streams, demand)
  return {
    source: yield* makeJetStreamSource(link.connection, { replicas, inboxPrefix, opened, warn: demand.warn }),
    sink: yield* makeJetStreamSink(link.connection, { inboxPrefix }),
    payloadBytesMax: payloadBytesMaxOf(link.connection),
    trouble: link.trouble
  }
})

/** Opened in this order and so closed in the other: partitions first, then leases, then what they are written with. */
const connectQuery = Effect.fnUntraced(function* (
  settings: ClusteredSettings,
  limits: Limits
): Effect.fn.Return<Ports, KeyfoldError, Scope.Scope> {
  const topics = yield* connectTopics(settings)
  const link = yield* openRedisLink(settings.redis, settings.demand)
  return yield* clusteredPorts({ topics, link, limits, worker: yield* workerName, leaseMs: settings.leaseMs })
})

/** Another one with every connect: what an earlier life has left is not ours (P1). For people it begins with where it is. */
const workerName = Effect.map(randomName(64), (name) => [hostname(), process.pid, name].join("-"))

export type { ClusteredOptions }
