/**
 * Removal up to a position (I6). Of every writer the last message stays, however old it is: it is how a writer that takes over knows what it
 * has stored (the sink's O5, P4), and one that is quiet for long would not know it any more.
 */
import * as Effect from "effect/Effect"
import { writerOfSubject } from "../model/jetstream-names.ts"
import type { ApiFault, JetStreamApi } from "./jetstream-api.ts"

interface StreamState {
  readonly first_seq: number
  readonly last_seq: number
  /** How many messages each subject has. */
  readonly subjects?: Readonly<Record<string, number>>
}

interface Kept {
  readonly subject: string
  readonly position: number
}

const askedAtOnce = 16

/** A purge keeps `created` and the last sequence, but only within the stream: one beyond the end would move the end. */
export const trim = Effect.fnUntraced(function* (api: JetStreamApi, stream: string, upTo: number): Effect.fn.Return<void, ApiFault> {
  const { state } = yield* api.ask<{ readonly state: StreamState }>(`STREAM.INFO.${stream}`, { subjects_filter: ">" })
  const before = Math.min(upTo, state.last_seq) + 1
  if (before <= Math.max(1, state.first_seq)) return
  const subjects = Object.entries(state.subjects ?? {})
  const writers = subjects.map(([subject]) => subject).filter((subject) => writerOfSubject(subject) !== undefined)
  const lasts = yield* Effect.forEach(writers, (subject) => lastOf(api, stream, subject), { concurrency: askedAtOnce })
  const kept = new Map(lasts.filter(({ position }) => position < before).map(({ subject, position }) => [subject, position]))
  if (kept.size === 0) {
    yield* api.ask(`STREAM.PURGE.${stream}`, { seq: before })
    return
  }
  const purges = subjects.filter(([subject, count]) => count > 1 || !kept.has(subject))
  yield* Effect.forEach(purges, ([filter]) => api.ask(`STREAM.PURGE.${stream}`, { filter, seq: kept.get(filter) ?? before }), {
    concurrency: askedAtOnce,
    discard: true
  })
})

const lastOf = (api: JetStreamApi, stream: string, subject: string): Effect.Effect<Kept, ApiFault> =>
  Effect.map(api.message(stream, { last_by_subj: subject }), (message) => ({
    subject,
    position: message?.position ?? Number.POSITIVE_INFINITY
  }))
