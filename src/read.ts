/** Reading a topic from outside a job: `tail`, tests, services that want the results. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { asKeyfoldError, failWithFaults, KeyfoldError, shown } from "./errors.ts"
import type { FromOptions } from "./job.ts"
import type { RecordInfo, StoredRecord } from "./model/record.ts"
import { nothingSeen, type SeenNumbers, screen } from "./model/seen.ts"
import type { StartAt } from "./model/stage.ts"
import type { Topic, TopicDefinition } from "./model/topic.ts"
import { topicDefinition } from "./plan-names.ts"
import { connectorOf, type Runtime, type TopicPorts } from "./ports.ts"
import type { TopicDescription } from "./source/source.ts"
import { startPosition } from "./source/start-position.ts"

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
const askMsEvery = 250

/**
 * Reads a topic, partition by partition, each in order, from `startAt` (default earliest) to the end as it is at the start; `follow` stays
 * and goes on with whatever arrives in any partition. Throws `topic-mismatch` for another partition count, `illegal-argument` for a topic
 * that does not exist, `option-invalid` for options that mean nothing, `decode-failed` for a record that the codec refuses.
 */
export function read<T, K>(runtime: Runtime, topic: Topic<T, K>, options: ReadOptions = {}): AsyncIterable<ReadRecord<T, K>> {
  const records = readRaw(runtime, topic, options)
  return {
    [Symbol.asyncIterator]() {
      const raw = records[Symbol.asyncIterator]()
      return {
        async next() {
          const { done, value } = await raw.next()
          if (done === true) return { done, value: undefined }
          try {
            return { done: false, value: { ...value.decode(), info: value.info } }
          } catch (thrown) {
            await raw.return?.()
            throw thrown
          }
        },
        async return() {
          await raw.return?.()
          return { done: true, value: undefined }
        }
      }
    }
  }
}

/** The same, leaving it to the reader what to do about a record that the codec refuses. */
export const readRaw = <T, K>(runtime: Runtime, topic: Topic<T, K>, options: ReadOptions = {}): AsyncIterable<RawRecord<T, K>> => ({
  [Symbol.asyncIterator]() {
    const closed = Deferred.makeUnsafe<void>()
    const records = generate(runtime, topic as unknown as Topic<unknown>, options, closed) as AsyncGenerator<RawRecord<T, K>, void, void>
    return {
      next: () => records.next(),
      // A generator that waits for an arrival would not hear `return` before the arrival.
      async return() {
        await Effect.runPromise(Deferred.succeed(closed, undefined))
        return records.return()
      }
    }
  }
})

const readOptionNames = ["startAt", "follow"]

const checkOptions = (options: ReadOptions): void => {
  const { startAt = "earliest" } = options
  const faults = Object.keys(options)
    .filter((name) => !readOptionNames.includes(name))
    .map((name) => `there is no option called ${name}: the options are ${readOptionNames.join(", ")}`)
  const time = (startAt as { readonly time?: unknown }).time
  if (startAt !== "earliest" && startAt !== "latest" && !(typeof time === "number" && Number.isFinite(time))) {
    faults.push(`startAt must be "earliest", "latest" or { time: milliseconds }, got ${shown(startAt)}`)
  }
  failWithFaults(
    "option-invalid",
    "read",
    faults.map((message) => ({ code: "option-invalid", message }))
  )
}

async function* generate(
  runtime: Runtime,
  topic: Topic<unknown>,
  options: ReadOptions,
  closed: Deferred.Deferred<void>
): AsyncGenerator<RawRecord<unknown, unknown>, void, void> {
  checkOptions(options)
  const connect = connectorOf(runtime)
  const defined = topicDefinition(topic)
  const scope = Scope.makeUnsafe()
  const run = <A>(effect: Effect.Effect<A, KeyfoldError>): Promise<A> => Effect.runPromise(effect)
  try {
    const ports = await run(Scope.provide(connect.client, scope))
    const found = await run(findTopic(ports, defined))
    const positions = await run(startPositions(ports, found, options.startAt ?? "earliest"))
    const seen = positions.map(() => nothingSeen)
    const over = Effect.as(Deferred.await(closed), undefined)
    const ask = <A>(question: Effect.Effect<A, KeyfoldError>): Promise<A | undefined> =>
      run(options.follow === true ? Effect.raceFirst(untilReached(question), over) : question)
    for (;;) {
      const ends = await ask(startPositions(ports, found, "latest"))
      if (ends === undefined) return
      for (let partition = 0; partition < found.partitions; partition++) {
        const end = ends[partition] as number
        for (let after = positions[partition] as number; after < end; after = positions[partition] as number) {
          const countMax = Math.min(readCountMax, end - after)
          const records = await run(ports.source.read({ topic: found.name, partition, after, countMax, bytesMax: readBytesMax }))
          const screened = screen(records, seen[partition] as SeenNumbers)
          for (const record of screened.records) yield { info: record, decode: () => decodeRecord(defined, record) }
          if (screened.gap !== undefined) throw screened.gap
          seen[partition] = screened.seen
          positions[partition] = records.at(-1)?.position ?? after
          // I8: nothing, though there is more: the server is away. This question waits for it, or says so.
          if (records.length === 0 && (await ask(ports.source.lastPosition({ topic: found.name, partition }))) === undefined) return
        }
      }
      if (options.follow !== true) return
      const arrival = ports.source.arrival(positions.map((after, partition) => ({ topic: found.name, partition, after })))
      await run(Effect.raceFirst(arrival, Deferred.await(closed)))
      if (Deferred.isDoneUnsafe(closed)) return
    }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

/** Who follows waits for servers that are away, as workers do. */
const untilReached = <A>(question: Effect.Effect<A, KeyfoldError>): Effect.Effect<A, KeyfoldError> =>
  Effect.catch(question, (failure) =>
    failure.code === "unreachable" ? Effect.andThen(Effect.sleep(askMsEvery), untilReached(question)) : Effect.fail(failure)
  )

const findTopic = Effect.fnUntraced(function* (ports: TopicPorts, defined: TopicDefinition) {
  const found = yield* ports.source.find(defined.name)
  if (found === undefined) {
    const message = `the topic ${defined.name} does not exist here yet: a job that writes it, or a publisher, creates it`
    return yield* Effect.fail(new KeyfoldError("illegal-argument", message))
  }
  return yield* ports.source.open(defined.name, { partitions: defined.partitions, partitionsDefault: found.partitions })
})

const startPositions = ({ source }: TopicPorts, { name: topic, partitions }: TopicDescription, startAt: StartAt) =>
  Effect.forEach(Array.from({ length: partitions }).keys(), (partition) => startPosition(source, startAt, { topic, partition }))

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
