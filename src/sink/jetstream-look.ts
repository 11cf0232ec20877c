/** Questions to the leader of a stream: what it holds of a writer, and from where to where it reaches (P4, P14). */
import type { Msg } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import { KeyfoldError, shown } from "../errors.ts"
import { numberHeader, streamOf, writerSubject } from "../model/jetstream-names.ts"
import type { TopicPartition } from "../model/record.ts"
import { errorCode, type Hitch, hitchError, hitchOf, isHitch, readReply, type ServerError, topicGone } from "./jetstream-answers.ts"
import type { JetStreamLink } from "./jetstream-publish.ts"

/** The last message of a writer in a stream. */
export interface LastMessage {
  readonly number: number
  readonly sequence: number
}

/** From where to where a stream reaches; the first is one behind the last when nothing is left in it. */
export interface StreamReach {
  readonly firstSequence: number
  readonly lastSequence: number
  /** When its first message was stored, by the server's clock; of an empty one its last. NaN when it never had any. */
  readonly sinceMs: number
}

/** What a look finds: the last message, or in its absence the stream's reach. */
export type Found = LastMessage | StreamReach

export const isMessage = (found: Found): found is LastMessage => "number" in found

export interface Asking {
  readonly link: JetStreamLink
  readonly apiPrefix: string
}

const backOffMs = 25
const backOffMsMax = 2_000
/** A stream that is not there all that time is deleted; a cluster that has just elected somebody may not know it at once. */
const missingTimesMax = 8

/** Waits longer each time. */
export const backOff = (attempt: number): Effect.Effect<void> =>
  Effect.sleep(Math.min(backOffMsMax, backOffMs * 2 ** Math.min(attempt, 16)))

/** By a read of the leader; a direct get may answer from a replica that lags behind. Waits while nobody answers. */
export const look = Effect.fnUntraced(function* (asking: Asking, of: TopicPartition, writer: string) {
  const request = { last_by_subj: writerSubject(of, writer) }
  const answer = yield* askStream<{ readonly message?: StoredMessage | null }>(asking, "MSG.GET", of, request)
  if (typeof answer.message === "object" && answer.message !== null) return yield* lastMessage(answer.message, of)
  return yield* reachOf(asking, of)
}) satisfies (asking: Asking, of: TopicPartition, writer: string) => Effect.Effect<Found, KeyfoldError>

/** Completes when the stream exists; fails with `topic-mismatch` when it does not. */
export const reachOf = (asking: Asking, of: TopicPartition): Effect.Effect<StreamReach, KeyfoldError> =>
  Effect.map(askStream<{ readonly state?: StreamState }>(asking, "INFO", of, {}), ({ state }) => {
    const lastSequence = state?.last_seq ?? 0
    const since: unknown = state?.messages === 0 ? state.last_ts : state?.first_ts
    const sinceMs = typeof since === "string" ? Date.parse(since) : Number.NaN
    return { firstSequence: state?.first_seq ?? 0, lastSequence, sinceMs: lastSequence === 0 ? Number.NaN : sinceMs }
  })

/** Asks until somebody answers. Of the errors, that there is no such message is an answer. */
const askStream = Effect.fnUntraced(function* <A extends object>(
  { link, apiPrefix }: Asking,
  what: string,
  of: TopicPartition,
  request: object
) {
  const stream = streamOf(of)
  const payload = Buffer.from(JSON.stringify(request))
  let missingTimes = 0
  for (let attempt = 0; ; attempt++) {
    yield* link.up
    const reply = understand<A>(yield* link.ask(`${apiPrefix}.STREAM.${what}.${stream}`, payload))
    if (!isHitch(reply)) return reply
    if (reply === missing) missingTimes += 1
    if (missingTimes >= missingTimesMax) return yield* Effect.fail(topicGone(stream))
    if (reply.kind === "refused") return yield* Effect.fail(hitchError(stream, reply))
    yield* backOff(attempt)
  }
})

const missing: Hitch = { kind: "nobody", maybeStored: false, reason: "there is no such stream" }

const understand = <A extends object>(message: Msg | Hitch): A | Hitch => {
  const reply = isHitch(message) ? message : readReply<A>(message)
  if (isHitch(reply)) return reply
  const error: ServerError | undefined = reply.error
  if (error === undefined || error.err_code === errorCode.noMessage) return reply
  return error.err_code === errorCode.streamNotFound ? missing : hitchOf(error)
}

interface StoredMessage {
  readonly seq: number
  /** Base64. */
  readonly hdrs?: string
}

interface StreamState {
  readonly messages: number
  readonly first_seq: number
  readonly last_seq: number
  readonly first_ts: string
  readonly last_ts: string
}

const numberLine = new RegExp(`^${numberHeader}: *([0-9]+) *$`, "m")

const lastMessage = ({ seq, hdrs }: StoredMessage, of: TopicPartition): Effect.Effect<LastMessage, KeyfoldError> => {
  const headers = Buffer.from(typeof hdrs === "string" ? hdrs : "", "base64").toString()
  const number = Number(numberLine.exec(headers.replaceAll("\r", ""))?.[1])
  if (Number.isSafeInteger(number) && number > 0 && Number.isSafeInteger(seq)) return Effect.succeed({ number, sequence: seq })
  const message =
    `message ${shown(seq)} of ${streamOf(of)} stands on a subject of keyfold's own, but was not written by it: outputs cannot be told from it. ` +
    "Keep others from publishing there, and start under another query name"
  return Effect.fail(new KeyfoldError("output-fate-unknown", message))
}
