/** What a trial has put out: the values of topics, and whether every writer's messages are in its streams once and in their order. */

import { partitionOf } from "../model/hash.ts"
import { numberHeader, publisherSubject, streamOf, writerOfSubject } from "../model/jetstream-names.ts"
import { keyText } from "../model/key.ts"
import type { TopicDefinition } from "../model/topic.ts"
import type { SimulatedCluster } from "./cluster.ts"
import type { SimulatedStream } from "./nats-stream.ts"
import type { TrialEvent } from "./trial.ts"

/** An event as a publisher would send it. */
export const eventOf = (topic: TopicDefinition, partitions: number, value: unknown): Omit<TrialEvent, "atMs"> => {
  const of = { topic: topic.name, partition: partitionOf(keyText(topic.key(value)), partitions) }
  return { stream: streamOf(of), subject: publisherSubject(of), data: new Uint8Array(topic.codec.encode(value)) }
}

/** All values of a topic, partition by partition, in the order of each. */
export const valuesIn = (
  { nats }: SimulatedCluster,
  topic: { readonly name: string; readonly codec: Pick<TopicDefinition["codec"], "decode"> }
): readonly unknown[] => {
  const values: unknown[] = []
  for (let partition = 0; ; partition++) {
    const stream = nats.stream(streamOf({ topic: topic.name, partition }))
    if (stream === undefined) return values
    for (const { data } of stream.messages) values.push(topic.codec.decode(new Uint8Array(data)))
  }
}

/** P12, P17: the first writer whose numbers in a stream are not 1, 2, 3 and so on; undefined when all are. */
export const misnumbered = ({ nats }: SimulatedCluster): string | undefined => {
  for (const stream of nats.streams) {
    const fault = misnumberedIn(stream)
    if (fault !== undefined) return fault
  }
  return undefined
}

const misnumberedIn = ({ config, messages, isPurged, copies }: SimulatedStream): string | undefined => {
  const last = new Map<string, number>()
  for (const { sequence, subject, headers } of messages) {
    const writer = writerOfSubject(subject)
    if (writer === undefined || copies.has(sequence)) continue
    const number = Number(new RegExp(`^${numberHeader}: *(\\d+)\\r?$`, "m").exec(Buffer.from(headers).toString())?.[1])
    const before = last.get(writer)
    const isNext = before === undefined ? number === 1 || isPurged : number === before + 1
    if (!isNext) return `${config.name} has output ${number} of ${writer} at ${sequence}, behind its output ${before ?? "none"}`
    last.set(writer, number)
  }
  return undefined
}
