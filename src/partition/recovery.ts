/** How a partition comes to what it goes on from: out of its journal, or by beginning one. Owns nothing; nothing is remembered here. */
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import type { TopicPartition } from "../model/record.ts"
import { emptyOutbox } from "../model/turn.ts"
import { checkOutputs, streamOf } from "./outbox.ts"
import type { PartitionParts } from "./ports.ts"
import { decodeProgress, encodeProgress, freshProgress, type Progress } from "./progress.ts"

export interface Recovered {
  readonly revision: number
  readonly progress: Progress
  /** No armed timeout is earlier. */
  readonly nextDueMs: number
}

/** The parts that there are before the first turn. */
type RecoveryParts = Pick<PartitionParts, "query" | "stage" | "partition" | "inputs" | "journal" | "publisher" | "outputs" | "acceptLoss">

const looksAtOnce = 64
const publishMsMax = 10_000

/** P1-P5. Positions of a first start are fixed here, whatever happens next. */
export const recover = Effect.fnUntraced(function* (parts: RecoveryParts, clockMs: number): Effect.fn.Return<Recovered, KeyfoldError> {
  const { journal, publisher } = parts
  const head = yield* journal.open()
  const known = head.progress === undefined ? undefined : decodeProgress(head.progress, parts.inputs, nameOf(parts))
  if (known instanceof KeyfoldError) return yield* Effect.fail(known)
  const progress = known ?? (yield* begin(parts, head.revision + 1, clockMs))
  for (const { revision, outbox } of head.unpublished) yield* publisher.publish(revision, outbox)
  if (head.unpublished.some(({ outbox }) => outbox.records.length > 0)) {
    yield* Effect.timeoutOrElse(publisher.settled(), { duration: publishMsMax, orElse: () => Effect.fail(stuckOutputs(nameOf(parts))) })
  }
  return {
    revision: known === undefined ? head.revision + 1 : head.revision,
    progress: yield* checked(parts, progress),
    nextDueMs: (yield* journal.timeouts())?.first ?? Number.POSITIVE_INFINITY
  }
})

const begin = Effect.fnUntraced(function* ({ inputs, journal }: RecoveryParts, revision: number, clockMs: number) {
  const starts: { topic: string; created: string; upstreamCount: number; position: number }[] = []
  for (const input of inputs) starts.push({ ...input, position: yield* input.startPosition() })
  const progress = { ...freshProgress(starts), nowMs: clockMs }
  yield* journal.commit({ revision, progress: encodeProgress(progress), changes: [], outbox: emptyOutbox })
  return progress
})

/** P4, over everything that the stage may write: a journal that lost its first turns knows of none of it. */
const checked = Effect.fnUntraced(function* ({ publisher, outputs, acceptLoss }: RecoveryParts, progress: Progress) {
  const { numbers } = progress
  const look = (of: TopicPartition) => {
    const stream = streamOf(of.topic, of.partition)
    return Effect.map(publisher.lastNumber(of, numbers[stream] ?? 0), (stored) => [stream, stored] as const)
  }
  const found = yield* Effect.forEach(outputs, look, { concurrency: looksAtOnce })
  const accepted: Record<string, number> = {}
  for (const [stream, stored] of found) {
    const behind = checkOutputs(stream, numbers[stream] ?? 0, stored)
    if (behind === undefined) continue
    if (!acceptLoss || behind.code !== "journal-behind-outputs") return yield* Effect.fail(behind)
    accepted[stream] = stored
  }
  return { ...progress, numbers: { ...numbers, ...accepted } }
})

const nameOf = ({ query, stage, partition }: RecoveryParts): string => `the journal of ${query}/${stage.name}/${partition}`

const stuckOutputs = (name: string): KeyfoldError =>
  new KeyfoldError(
    "unreachable",
    `the outputs that ${name} has committed do not get out: nobody confirmed them within ${publishMsMax / 1_000} s. It is tried again; look whether the servers are well`
  )
