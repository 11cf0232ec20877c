/**
 * Whether NATS is set up for the durability that was asked for: its servers when the runtime connects, the streams of a topic when it is
 * opened. What a power failure leaves of a server without replicas is up to its `sync_interval`, which no version tells its clients; so the
 * one who has set it says so (`syncsAlways`).
 */
import type { StreamConfig } from "@nats-io/jetstream"
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import { type DurabilityDemand, isBelow, settle } from "./durability.ts"
import type { NatsLink } from "./nats.ts"

export interface NatsDemand extends DurabilityDemand {
  /** Of each stream, at least. */
  readonly replicas: number
  /** The servers run with `sync_interval: always`. */
  readonly syncsAlways: boolean
}

const versionMin = [2, 9]
const versionOfSyncAlways = [2, 10]
const replicasForLoss = 3
/** Publishers that send again after a time-out do so within seconds; a window of hours is memory for every message of hours. */
const duplicateWindowMs = { min: 10_000, max: 3_600_000 }

/** Fails with `durability-refused` when strict and something is missing, and always on a server that is too old. */
export const checkNatsDurability = (
  { name, version, isClustered }: Pick<NatsLink, "name" | "version" | "isClustered">,
  demand: NatsDemand
): Effect.Effect<void, KeyfoldError> => {
  const numbers = version().split(".").map(Number)
  if (isBelow(numbers, versionMin)) return Effect.fail(tooOld(name, version()))
  const faults: string[] = []
  if (demand.replicas > 1 && !isClustered)
    faults.push(`is a single server, so topics cannot have ${demand.replicas} replicas: use a cluster`)
  if (demand.level === "replica" && demand.replicas < replicasForLoss) {
    faults.push(
      `is asked for topics with ${counted(demand.replicas)}: with durability for the loss of a machine set replicas to ${replicasForLoss}`
    )
  }
  if (demand.syncsAlways && isBelow(numbers, versionOfSyncAlways)) {
    faults.push(`is nats-server ${version()}, which knows no sync_interval: always (syncsAlways): use 2.10 or newer`)
  }
  return settle(
    demand,
    faults.map((fault) => `${name} ${fault}`)
  )
}

/** Of a topic, or of some. One message for all streams with the same fault. */
export const checkStreamDurability = (
  { name }: Pick<NatsLink, "name">,
  streams: readonly StreamConfig[],
  demand: NatsDemand
): Effect.Effect<void, KeyfoldError> => {
  const having = new Map<string, string[]>()
  for (const config of streams) {
    for (const fault of streamDurability(config, demand)) having.set(fault, [...(having.get(fault) ?? []), config.name])
  }
  return settle(
    demand,
    [...having].map(([fault, names]) => `${name}: the stream ${listed(names)} ${fault}`)
  )
}

/** What is missing, each with its cure, as the rest of a sentence about the stream. */
export const streamDurability = (config: StreamConfig, { level, replicas, syncsAlways }: NatsDemand): readonly string[] => {
  const faults: string[] = []
  if (config.storage === "memory") {
    faults.push("keeps its messages in memory, so a restart of the server loses them: move them to a stream with file storage")
  }
  if (config.persist_mode === "async") {
    faults.push("acknowledges messages before they are written (persist_mode async): move them to a stream without it")
  }
  if (config.no_ack === true) faults.push("acknowledges nothing (no_ack), so nobody knows what it has stored: set no_ack to false")
  const replicasMin = level === "replica" ? Math.max(replicas, replicasForLoss) : replicas
  if (config.num_replicas < replicasMin) {
    faults.push(`has ${counted(config.num_replicas)} and not ${replicasMin}: nats stream edit NAME --replicas ${replicasMin}`)
  }
  if (level === "machine" && config.num_replicas < replicasForLoss && !syncsAlways) {
    faults.push(
      `has ${counted(config.num_replicas)}, and no NATS server says whether it syncs each write (by default it does so every 2 minutes): set sync_interval: always and say so with nats: { syncsAlways: true }, or use ${replicasForLoss} replicas`
    )
  }
  faults.push(...windowFaults(config.duplicate_window / 1e6))
  return faults
}

const windowFaults = (windowMs: number): readonly string[] => {
  if (windowMs < duplicateWindowMs.min) {
    return [
      `forgets message ids after ${windowMs} ms (duplicate_window), so what a publisher sends again may count twice: set it to 2 minutes`
    ]
  }
  if (windowMs > duplicateWindowMs.max) {
    return [`remembers message ids for ${windowMs / 1_000} s (duplicate_window), each in the server's memory: set it to 2 minutes`]
  }
  return []
}

const counted = (replicas: number): string => `${replicas} replica${replicas === 1 ? "" : "s"}`

const listed = ([first, ...rest]: readonly string[]): string => (rest.length === 0 ? `${first}` : `${first}, like ${rest.length} more,`)

const tooOld = (name: string, version: string): KeyfoldError =>
  new KeyfoldError("durability-refused", `${name} is nats-server ${version}: keyfold needs ${versionMin.join(".")} or newer`)
