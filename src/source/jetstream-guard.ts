/**
 * P3: is a stream still the one that a position was read from, and is what follows the position still there? Servers say nothing when it
 * is not: they begin a consumer elsewhere. Every fault is a `source-gap` that names what is missing and what to do.
 */
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import type { ReadPosition, TopicPartition } from "../model/record.ts"
import { type ApiFault, isStreamMissing, type JetStreamApi, type StreamInfo } from "./jetstream-api.ts"

/** One partition's stream. */
export interface StreamPlace extends TopicPartition {
  readonly stream: string
}

/** A leader that was deposed may not know it yet, and answer what was: among several, what is unbelievable is asked again, for 5 seconds. */
const looksMax = 8
const lookAgainMs = { least: 100, most: 1_000 }

/** Asks the leader, again and again when it must be. Answers the stream as it is, or fails with the gap. */
export const guard = (api: JetStreamApi, of: StreamPlace, at: ReadPosition): Effect.Effect<StreamInfo, ApiFault | KeyfoldError> =>
  judged(look(api, of, at))

/** What a look means when it is repeated for as long as it cannot be believed. */
export const judged = <E>(looked: Effect.Effect<Look, E>): Effect.Effect<StreamInfo, E | KeyfoldError> =>
  Effect.flatMap(
    believed(looked, ({ gap, isReplicated }) => gap === undefined || !isReplicated),
    ({ info, gap }) => (gap === undefined ? Effect.succeed(info as StreamInfo) : Effect.fail(gap))
  )

/** Looks again and again until what it sees can be believed; the last look is believed in any case. */
const believed = <Seen, E>(looked: Effect.Effect<Seen, E>, isBelievable: (seen: Seen) => boolean): Effect.Effect<Seen, E> => {
  const again = (times: number): Effect.Effect<Seen, E> =>
    Effect.flatMap(looked, (seen) => {
      if (isBelievable(seen) || times === looksMax) return Effect.succeed(seen)
      const waitMs = Math.min(lookAgainMs.most, lookAgainMs.least * 2 ** times)
      return Effect.andThen(Effect.sleep(waitMs), again(times + 1))
    })
  return again(0)
}

export interface Look {
  readonly info: StreamInfo | undefined
  readonly gap: KeyfoldError | undefined
  /** Whether there are several who may lead the stream; also of one that is not there. */
  readonly isReplicated: boolean
}

/** Asks the leader once. */
export const look = Effect.fnUntraced(function* (
  api: JetStreamApi,
  of: StreamPlace,
  at: ReadPosition
): Effect.fn.Return<Look, ApiFault | KeyfoldError> {
  const info = yield* Effect.catch(api.streamInfo(of.stream), (fault) =>
    isStreamMissing(fault) ? Effect.succeed(undefined) : Effect.fail(fault)
  )
  if (info === undefined) {
    return { info, gap: streamGone(of, at.position), isReplicated: api.connection.info?.cluster !== undefined }
  }
  const isReplicated = isOfSeveral(info)
  const gap = gapIn(of, at, info)
  const { first_seq: first } = info.state
  if (gap !== undefined || at.publishedAt === null || at.position < Math.max(first, 1)) return { info, gap, isReplicated }
  const message = yield* api.message(of.stream, { seq: at.position })
  const isOther = message !== undefined && message.publishedAt !== at.publishedAt
  return { info, gap: isOther ? otherMessage(of, at.position, message.publishedAt) : undefined, isReplicated }
})

/**
 * What is there from a position on: the position of the first message; "to come" when the stream ends before; "none" when it ends behind, and
 * all from there on are gone.
 */
export const nextThere = (api: JetStreamApi, stream: string, from: number): Effect.Effect<number | "to come" | "none", ApiFault> => {
  const looked = Effect.flatMap(api.streamInfo(stream), (info) =>
    Effect.map(api.message(stream, { seq: from, next_by_subj: ">" }), (message) => ({
      next: message?.position ?? (info.state.last_seq < from ? ("to come" as const) : ("none" as const)),
      isReplicated: isOfSeveral(info)
    }))
  )
  return Effect.map(
    believed(looked, (seen) => seen.next !== "none" || !seen.isReplicated),
    ({ next }) => next
  )
}

const isOfSeveral = (info: StreamInfo): boolean => (info.cluster?.replicas?.length ?? 0) > 0

/**
 * What the stream's own numbers say. Pure.
 *
 * Where a stream keeps so many messages of each subject (or lets messages replace others, or expire), its beginning also moves when the oldest
 * are replaced. Its numbers are then those after a purge, and nobody can tell which it was: a message that was replaced leaves no trace. So
 * that is a gap too, at a restart as well as while it is read: doubt stops (P3), and `failOnDataLoss: false` goes on. A record that is missing
 * behind the beginning is another matter: limits and purges take from the front.
 */
export const gapIn = (of: StreamPlace, { created, position }: ReadPosition, info: StreamInfo): KeyfoldError | undefined => {
  const { first_seq: first, last_seq: last } = info.state
  if (info.created !== created) return recreated(of, info.created)
  if (first > position + 1) return removed(of, position, first)
  return last < position ? endsBefore(of, position, last) : undefined
}

const gap = (message: string): KeyfoldError => new KeyfoldError("source-gap", message)

const place = ({ topic, partition, stream }: StreamPlace): string =>
  topic === stream ? `the stream ${stream}` : `${topic}/${partition} (the stream ${stream})`

const onward = "start with failOnDataLoss: false to go on without them"

const streamGone = (of: StreamPlace, position: number): KeyfoldError =>
  gap(
    `${place(of)} was read up to position ${position} and does not exist any more. Restore it from a backup; or delete what is left of it, ` +
      "publish anew, and start with failOnDataLoss: false"
  )

const recreated = (of: StreamPlace, created: string): KeyfoldError =>
  gap(
    `${place(of)} was deleted and created again (at ${created}) since it was read: start under another query name to read the new one from ` +
      "its beginning, or with failOnDataLoss: false to go on with it"
  )

const removed = (of: StreamPlace, position: number, first: number): KeyfoldError =>
  gap(
    `${place(of)} was read up to position ${position}, and the next record there is ${first}: those between were purged, or the stream's ` +
      `limits removed them before they were read. Raise the limits; ${onward}`
  )

const endsBefore = (of: StreamPlace, position: number, last: number): KeyfoldError =>
  gap(
    `${place(of)} ends at position ${last}, but it was read up to ${position}: the server has lost its last records (see sync_interval and ` +
      `replicas). Restore them; ${onward}`
  )

const otherMessage = (of: StreamPlace, position: number, publishedAt: number): KeyfoldError =>
  gap(
    `${place(of)} holds another record at position ${position} than the one that was read (now of ${new Date(publishedAt).toISOString()}): ` +
      `the server has lost its last records and took new ones in their place. Restore them; ${onward}`
  )

/** Of a record that neither limits nor a purge of the whole stream remove: in the middle, or the last. */
export const deletedRecord = (of: StreamPlace, position: number, next: number | "none"): KeyfoldError => {
  const what = next === "none" ? `what followed from ${position} on was` : `the next record there is ${next}: those between were`
  return gap(`${place(of)} was read up to position ${position - 1}, and ${what} deleted one by one. Restore them from a backup; ${onward}`)
}
