/** Reading a topic from outside a job: `tail`, tests, services that want the results. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { asKeyfoldError, KeyfoldError } from "./errors.ts"
import type { FromOptions } from "./job.ts"
import type { RecordInfo, StoredRecord } from "./model/record.ts"
import type { Topic, TopicDefinition } from "./model/topic.ts"
import { topicDefinition } from "./plan-names.ts"
import { connectorOf, type Ports, type Runtime } from "./ports.ts"
import type { TopicDescription } from "./source/source.ts"

export interface ReadOptions extends FromOptions {
  /** Goes on when the end is reached, with what arrives then. Default false. */
  readonly follow?: boolean
}

/** A record that was read: its value and key, and where it came from. */
export interface ReadRecord<T, K> {
  readonly value: T
  readonly key: K
  readonly info: RecordInfo
}

/** A record whose value is not decoded yet. `decode` throws `decode-failed`. */
export interface RawRecord<T, K> {
  readonly info: StoredRecord
  readonly decode: () => { readonly value: T; readonly key: K }
}

const readCountMax = 1_024
const readBytesMax = 4 * 1_048_576

/**
 * Reads a topic, partition by partition, each in order, from `startAt` (default earliest) to the end as it is now; `follow` stays and goes
 * on with whatever arrives in any partition. Throws `topic-mismatch` for another partition count, `illegal-argument` for a topic that does
 * not exist, `decode-failed` for a record that the codec refuses.
 */
export async function* read<T, K>(
  runtime: Runtime,
  topic: Topic<T, K>,
  options: ReadOptions = {}
): AsyncGenerator<ReadRecord<T, K>, void, void> {
  for await (const record of readRaw(runtime, topic, options)) yield { ...record.decode(), info: record.info }
}

/** The same, leaving it to the reader what to do about a record that the codec refuses. */
export async function* readRaw<T, K>(
  runtime: Runtime,
  topic: Topic<T, K>,
  options: ReadOptions = {}
): AsyncGenerator<RawRecord<T, K>, void, void> {
  const connect = connectorOf(runtime)
  const defined = topicDefinition(topic)
  const scope = Scope.makeUnsafe()
  const run = <A>(effect: Effect.Effect<A, KeyfoldError>): Promise<A> => Effect.runPromise(effect)
  try {
    const ports = await run(Scope.provide(connect("client"), scope))
    const found = await run(findTopic(ports, defined))
    const positions = await run(startPositions(ports, found, options.startAt ?? "earliest"))
    for (;;) {
      for (let partition = 0; partition < found.partitions; partition++) {
        for (;;) {
          const after = positions[partition] as number
          const records = await run(
            ports.source.read({ topic: found.name, partition, after, countMax: readCountMax, bytesMax: readBytesMax })
          )
          for (const record of records) yield { info: record, decode: () => decodeRecord(defined, record) as { value: T; key: K } }
          if (records.length === 0) break
          positions[partition] = (records.at(-1) as StoredRecord).position
        }
      }
      if (options.follow !== true) return
      await run(ports.source.arrival(positions.map((after, partition) => ({ topic: found.name, partition, after }))))
    }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

const findTopic = Effect.fnUntraced(function* (ports: Ports, defined: TopicDefinition) {
  const found = yield* ports.source.find(defined.name)
  if (found === undefined) {
    const message = `the topic ${defined.name} does not exist here yet: a job that writes it, or a publisher, creates it`
    return yield* Effect.fail(new KeyfoldError("illegal-argument", message))
  }
  return yield* ports.source.open(defined.name, { partitions: defined.partitions, partitionsDefault: found.partitions })
})

const startPositions = Effect.fnUntraced(function* (
  ports: Ports,
  { name: topic, partitions }: TopicDescription,
  startAt: FromOptions["startAt"]
) {
  const positions: number[] = []
  for (let partition = 0; partition < partitions; partition++) {
    const of = { topic, partition }
    if (typeof startAt === "object") positions.push(yield* ports.source.positionBefore(of, startAt.time))
    else positions.push(startAt === "latest" ? yield* ports.source.lastPosition(of) : 0)
  }
  return positions
})

const decodeRecord = (defined: TopicDefinition, record: StoredRecord): { readonly value: unknown; readonly key: unknown } => {
  try {
    const value = defined.codec.decode(record.payload)
    return { value, key: defined.key(value) }
  } catch (thrown) {
    throw asKeyfoldError(
      thrown,
      "decode-failed",
      `the codec of ${record.topic} refuses position ${record.position} of partition ${record.partition}`
    )
  }
}
