/**
 * The source over JetStream: a topic's partition is a stream, a position is its sequence.
 *
 *   open, find      jetstream-topics.ts
 *   read, arrival   jetstream-readers.ts, and jetstream-reader.ts for each partition
 *   check           jetstream-guard.ts
 *   the others      jetstream-positions.ts
 */
import type { NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { invariant, KeyfoldError } from "../errors.ts"
import type { StoredRecord, TopicPartition } from "../model/record.ts"
import { ArrivalBeat } from "./arrival-beat.ts"
import { type ApiFault, type ApiRefusal, JetStreamApi } from "./jetstream-api.ts"
import type { ReaderPlace } from "./jetstream-consumer.ts"
import { judged, look } from "./jetstream-guard.ts"
import { lastPosition, positionBefore, resumeAfter } from "./jetstream-positions.ts"
import { anyArrival, openReaders, readFrom } from "./jetstream-readers.ts"
import { type KnownTopic, type TopicOptions, Topics } from "./jetstream-topics.ts"
import { trim } from "./jetstream-trim.ts"
import type { ReadRequest, Source } from "./source.ts"

export interface JetStreamSourceOptions extends TopicOptions {
  /** What the reply inboxes begin with, as the connection was made with. Default `_INBOX`. */
  readonly inboxPrefix?: string | undefined
  /** Where JetStream answers. Default `$JS.API`. */
  readonly apiPrefix?: string
  /** Told once of each topic of which the server lets nothing be removed. */
  readonly warn?: ((message: string) => void) | undefined
}

/** Its readers end with the scope; the connection is whoever made it's to close. */
export const makeJetStreamSource = Effect.fnUntraced(function* (
  connection: NatsConnection,
  options: JetStreamSourceOptions
): Effect.fn.Return<Source["Service"], never, Scope.Scope> {
  const api = new JetStreamApi(connection, options.apiPrefix)
  const topics = new Topics(api, options)
  const readers = yield* openReaders(api, options.inboxPrefix)
  const beat = new ArrivalBeat()
  yield* Effect.forkScoped(beat.run)

  const grown = new Set<string>()
  /** Only what the server says no to makes it grow: in an outage nothing comes in either, and it passes. */
  const untrimmed = (place: ReaderPlace, fault: ApiFault): void => {
    const { topic } = place
    if (fault.kind === "silent" || grown.has(topic)) return
    grown.add(topic)
    const { message } = fault.kind === "api" ? refusal(place, fault) : fault.error
    options.warn?.(`rows of ${topic} that were read could not be removed, so it grows: ${message}. It is tried again`)
  }

  const placeOf = ({ topic, partition }: TopicPartition): Effect.Effect<ReaderPlace, KeyfoldError> =>
    Effect.map(knownTopic(topics, topic), (known) => placeIn(known, partition))

  const asking = <A>(of: TopicPartition, ask: (place: ReaderPlace, known: KnownTopic) => Effect.Effect<A, ApiFault | KeyfoldError>) =>
    Effect.flatMap(knownTopic(topics, of.topic), (known) => {
      const place = placeIn(known, of.partition)
      return api.patiently(ask(place, known), (fault) => refusal(place, fault))
    })

  const readerAt = (of: TopicPartition, after: number) => Effect.flatMap(placeOf(of), (place) => readers.at(place, after))

  const read = (request: ReadRequest): Effect.Effect<readonly StoredRecord[], KeyfoldError> =>
    Effect.flatMap(placeOf(request), (place) => readFrom(readers, place, request))

  return {
    open: (name, declared) => topics.open(name, declared),
    openStream: (name, subjects) => topics.openStream(name, subjects),
    find: (name) => topics.find(name),
    check: (of, at) => Effect.asVoid(judged(asking(of, (place) => look(api, place, at)))),
    read,
    lastPosition: (of) =>
      asking(of, ({ topic, stream }, { subjects }) =>
        Effect.tap(lastPosition(api, { stream, subjects, losesLast: topic === stream, reached: () => readers.reached(stream) }), (last) =>
          Effect.sync(() => readers.known(stream, last))
        )
      ),
    positionBefore: (of, timeMs) => asking(of, ({ stream }) => positionBefore(api, stream, timeMs)),
    resumeAfter: (of, after) => asking(of, ({ stream }) => resumeAfter(api, stream, after)),
    arrival: (behind) =>
      Effect.flatMap(
        Effect.forEach(behind, ({ after, ...of }) => Effect.map(readerAt(of, after), (reader) => ({ reader, after }))),
        (readersBehind) => anyArrival(readersBehind, beat)
      ),
    trim: (of, upTo) =>
      asking(of, (place) => Effect.tapError(trim(api, place.stream, upTo), (fault) => Effect.sync(() => untrimmed(place, fault))))
  }
})

/** Of a topic that nobody has opened here yet, it is looked up; it must be there. */
const knownTopic = (topics: Topics, name: string): Effect.Effect<KnownTopic, KeyfoldError> =>
  Effect.suspend(() => {
    const known = topics.known(name)
    if (known !== undefined) return Effect.succeed(known)
    return Effect.flatMap(topics.find(name), () => {
      const found = topics.known(name)
      return found === undefined ? Effect.fail(noTopic(name)) : Effect.succeed(found)
    })
  })

const placeIn = ({ places, description }: KnownTopic, partition: number): ReaderPlace => {
  const place = places[partition]
  invariant(place !== undefined, `I4: ${description.name} has no partition ${partition}`)
  return place
}

const noTopic = (name: string): KeyfoldError =>
  new KeyfoldError("source-gap", `the topic ${name} does not exist any more: its stream ${name}-0 was deleted. Restore it from a backup`)

const refusal = ({ topic, partition, stream }: ReaderPlace, { reason, errorCode }: ApiRefusal): KeyfoldError =>
  new KeyfoldError("unreachable", `${topic}/${partition}: the server answers "${reason}" (${errorCode}) about the stream ${stream}`)
