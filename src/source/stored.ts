/** The source over a store: topics in the directory's SQLite file, or in memory. */
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import type { ReadPosition, StoredRecord, TopicPartition } from "../model/record.ts"
import type { Store, StoredTopic } from "../storage/store.ts"
import type { ReadRequest, Source, TopicDescription } from "./source.ts"

export const makeStoredSource = (store: Store): Source["Service"] => ({
  open: (name, declared) => open(store, name, declared),
  openStream: (name) => open(store, name, { partitions: undefined, partitionsDefault: 1 }),
  find: (name) =>
    store.read(() => {
      const found = store.topics.find(name)
      return found && described(found)
    }),
  check: (of, at) =>
    Effect.flatMap(
      store.read(() => gapAt(store, of, at)),
      (gap) => (gap === undefined ? Effect.void : Effect.fail(gap))
    ),
  read: (request) => store.read(() => readDense(store, request)),
  lastPosition: (of) => store.read(() => store.topics.log(of.topic, of.partition).lastPosition()),
  positionBefore: (of, timeMs) => store.read(() => store.topics.log(of.topic, of.partition).positionBefore(timeMs)),
  resumeAfter: ({ topic, partition }, after) =>
    store.read(() => {
      const log = store.topics.log(topic, partition)
      const [next] = log.read({ after, countMax: 1, bytesMax: 1 })
      return next === undefined ? log.lastPosition() : next.position - 1
    }),
  arrival: (behind) =>
    Effect.suspend(() => {
      const logs = behind.map(({ topic, partition, after }) => ({ log: store.topics.log(topic, partition), after }))
      // A position beyond the end has arrived too: `read` says what is wrong with it.
      return store.until(
        logs.map(({ log }) => log.channel),
        () => logs.some(({ log, after }) => log.lastPosition() !== after)
      )
    }),
  trim: (of, upTo) =>
    Effect.gen(function* () {
      while (yield* store.write(() => store.topics.log(of.topic, of.partition).trim(upTo)));
    })
})

const open = Effect.fnUntraced(function* (
  store: Store,
  name: string,
  declared: { readonly partitions: number | undefined; readonly partitionsDefault: number }
): Effect.fn.Return<TopicDescription, KeyfoldError> {
  const find = store.read(() => store.topics.find(name))
  let found = yield* find
  while (found === undefined) {
    yield* store.write(() => store.topics.create(name, declared.partitions ?? declared.partitionsDefault))
    found = yield* find
  }
  const { partitions } = found
  if (declared.partitions !== undefined && declared.partitions !== partitions) {
    return yield* Effect.fail(topicMismatch(name, declared.partitions, partitions))
  }
  return described(found)
})

const described = ({ name, partitions, created }: StoredTopic): TopicDescription => ({
  name,
  partitions,
  created: new Array<string>(partitions).fill(created)
})

/** I7. A store loses the records of a log only together with the log, or at its end. */
const gapAt = (store: Store, { topic, partition }: TopicPartition, at: ReadPosition): KeyfoldError | undefined => {
  if (at.created !== store.topics.find(topic)?.created) return recreated(topic)
  const last = store.topics.log(topic, partition).lastPosition()
  return at.position > last ? sourceGap({ topic, partition, after: at.position }, undefined, last) : undefined
}

const recreated = (topic: string): KeyfoldError =>
  new KeyfoldError(
    "source-gap",
    `the topic ${topic} was deleted and created again since it was read: start under another query name to read the new one from its ` +
      "beginning, or with failOnDataLoss: false to go on with it"
  )

/** I1. Positions ascend, so n of them end n behind the position exactly when none is missing; without any, the position is the end. */
const readDense = (store: Store, request: ReadRequest): readonly StoredRecord[] => {
  const log = store.topics.log(request.topic, request.partition)
  let records = log.read(request)
  let last = records.at(-1)?.position ?? log.lastPosition()
  if (records.length === 0 && last > request.after) {
    // Another process has published between the two looks: what the second one saw is there for a third one.
    records = log.read(request)
    last = records.at(-1)?.position ?? last
  }
  if (last !== request.after + records.length) throw sourceGap(request, records[0]?.position, last)
  return records
}

const topicMismatch = (name: string, declared: number, partitions: number): KeyfoldError =>
  new KeyfoldError(
    "topic-mismatch",
    `the topic ${name} was created with ${partitions} partitions and is declared with ${declared}. ` +
      `Declare ${partitions}, or use another topic: the count never changes`
  )

const sourceGap = (
  { topic, partition, after }: TopicPartition & { readonly after: number },
  first: number | undefined,
  last: number
): KeyfoldError =>
  new KeyfoldError(
    "source-gap",
    first === undefined
      ? `${topic}/${partition} ends at position ${last}, but it was read up to ${after} before: records are gone, or the topic is another one`
      : `${topic}/${partition} was read up to position ${after}, and the next record there is ${first}: those between are gone`
  )
