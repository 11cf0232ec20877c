/** Where a stream ends, and what was published when. The leader answers all of it. */
import * as Effect from "effect/Effect"
import type { ApiFault, JetStreamApi, StoredMessage } from "./jetstream-api.ts"

export interface ReadStream {
  readonly stream: string
  /** Of which subjects its messages are read; none: of all. */
  readonly subjects: readonly string[]
  /** Its last messages may be removed one by one, as in a stream that is not a topic. */
  readonly losesLast: boolean
  /** How far somebody has read for certain. */
  readonly reached: () => number
}

/** The last record's position; of a stream of which only some subjects are read, the last of those. */
export const lastPosition = (api: JetStreamApi, { stream, subjects, losesLast, reached }: ReadStream): Effect.Effect<number, ApiFault> => {
  if (subjects.length === 0) {
    const end = Effect.map(api.streamInfo(stream), ({ state }) => state.last_seq)
    return losesLast ? Effect.flatMap(end, (last) => lastThere(api, stream, last, reached)) : end
  }
  const lasts = subjects.map((subject) => api.message(stream, { last_by_subj: subject }))
  // I6: what has been read stays read, also when the stream's limits have removed it since.
  return Effect.map(Effect.all(lasts, { concurrency: "unbounded" }), (messages) =>
    Math.max(reached(), ...messages.map((message) => message?.position ?? 0))
  )
}

const lastThere = Effect.fnUntraced(function* (
  api: JetStreamApi,
  stream: string,
  end: number,
  reached: () => number
): Effect.fn.Return<number, ApiFault> {
  if (end === 0 || (yield* api.message(stream, { seq: end })) !== undefined) return end
  return Math.max(reached(), yield* positionBefore(api, stream, Number.POSITIVE_INFINITY))
})

/**
 * The position before the first record that is published at or after a time: a binary search over what is there, because servers before
 * 2.11 find a place by time only roughly when messages are missing. Servers stamp messages in order.
 */
export const positionBefore = Effect.fnUntraced(function* (
  api: JetStreamApi,
  stream: string,
  timeMs: number
): Effect.fn.Return<number, ApiFault> {
  const { state } = yield* api.streamInfo(stream)
  let low = Math.max(1, state.first_seq)
  let high = state.last_seq + 1
  // Everything before `low` is older; what is at `high`, or behind it, is not.
  while (low < high) {
    const middle = low + Math.floor((high - low) / 2)
    const message = yield* messageFrom(api, stream, middle)
    if (message === undefined || message.position >= high || message.publishedAt >= timeMs) high = middle
    else low = message.position + 1
  }
  return low - 1
})

/** The position before the first message that is there behind `after`, else the last. */
export const resumeAfter = Effect.fnUntraced(function* (
  api: JetStreamApi,
  stream: string,
  after: number
): Effect.fn.Return<number, ApiFault> {
  // Asked first: what is published in between lies behind it. The first of an empty stream is the one to come.
  const { state } = yield* api.streamInfo(stream)
  if (state.first_seq > after + 1) return state.first_seq - 1
  const next = yield* messageFrom(api, stream, after + 1)
  return next === undefined ? state.last_seq : next.position - 1
})

/** The message at a position, or the next one that is there. */
const messageFrom = (api: JetStreamApi, stream: string, position: number): Effect.Effect<StoredMessage | undefined, ApiFault> =>
  Effect.flatMap(api.message(stream, { seq: position }), (message) =>
    message === undefined ? api.message(stream, { seq: position, next_by_subj: ">" }) : Effect.succeed(message)
  )
