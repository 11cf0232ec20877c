/** A reader's consumer: what it is, and that it reads the stream that its reader has read so far, from there on (P3). */
import { createInbox } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { ReadPosition } from "../model/record.ts"
import type { ApiFault, JetStreamApi } from "./jetstream-api.ts"
import { deletedRecord, guard, nextThere, type StreamPlace } from "./jetstream-guard.ts"

export interface ReaderPlace extends StreamPlace {
  readonly created: string
  /** Whether records may be missing in the middle: the stream's own settings remove them one by one. */
  readonly hasHoles: boolean
  /** Which subjects count; undefined: all. */
  readonly accepts: ((subject: string) => boolean) | undefined
}

/** As much of a position as is known without asking the journal (P3). */
export type ReaderPosition = Pick<ReadPosition, "position" | "publishedAt">

export interface Consumer {
  readonly name: string
  /** The last position that it can bring as yet. */
  readonly last: number
}

/**
 * Makes a consumer and guards it. The guard comes last: only then is it sure that it is this stream that the consumer reads. `isMissing`:
 * records were jumped over, or did not come. Answers undefined when the stream was created again meanwhile.
 */
export const openConsumer = Effect.fnUntraced(function* (
  api: JetStreamApi,
  place: ReaderPlace,
  at: ReaderPosition,
  isMissing: boolean
): Effect.fn.Return<Consumer | undefined, ApiFault | KeyfoldError> {
  const { stream, created } = place
  const info = yield* guard(api, place, { created, ...at })
  const end = isMissing ? yield* checkMissing(api, place, at.position + 1) : undefined
  const inbox = createInbox()
  const name = `kf-${inbox.slice(inbox.lastIndexOf(".") + 1)}`
  yield* api.ask(`CONSUMER.CREATE.${stream}.${name}`, consumerOf(stream, name, at.position + 1))
  const again = yield* api.streamInfo(stream)
  if (again.created !== info.created) return undefined
  const last = again.state.last_seq
  return { name, last: last > info.state.last_seq ? last : (end ?? last) }
})

/** Does the stream's leader have what is missing? Answers where the stream really ends, when that is not where it says. */
const checkMissing = Effect.fnUntraced(function* (
  api: JetStreamApi,
  place: ReaderPlace,
  expected: number
): Effect.fn.Return<number | undefined, ApiFault | KeyfoldError> {
  const next = yield* nextThere(api, place.stream, expected)
  if (next === "to come" || next === expected || (next !== "none" && place.hasHoles)) return undefined
  // The last messages of a foreign stream may be removed one by one.
  if (next === "none" && place.topic === place.stream) return expected - 1
  return yield* Effect.fail(deletedRecord(place, expected, next))
})

const consumerKeptMs = 30_000
const nanosecondsPerMs = 1_000_000

const consumerOf = (stream: string, name: string, position: number): object => ({
  stream_name: stream,
  config: {
    name,
    deliver_policy: "by_start_sequence",
    opt_start_seq: position,
    ack_policy: "none",
    replay_policy: "instant",
    inactive_threshold: consumerKeptMs * nanosecondsPerMs,
    mem_storage: true,
    num_replicas: 1
  }
})
