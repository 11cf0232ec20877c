/**
 * Where records come from: the port. Its adapters are stored.ts (SQLite and memory, see storage/store.ts) and jetstream.ts.
 *
 * I1. `read` answers records right after a position, in order, dense: none skipped, none twice. Records that are gone, and a position
 *     beyond the end, fail with `source-gap`. Up to what `lastPosition` has answered it waits for records; what is newer it may answer.
 * I2. Reading changes nothing: the same read answers the same records. Positions live in the journal, never here.
 * I3. `read` answers at most `countMax` records, and beyond the first at most `bytesMax` bytes of payload.
 * I4. The first to open a topic creates it; its partition count and hash never change, and a declaration that differs is refused.
 * I5. `arrival` completes when a record may have arrived behind one of the positions: sometimes for nothing, never too late for ever.
 * I6. `trim` removes records up to a position and nothing behind it (a writer's very last may stay); `lastPosition` never goes back, but in a
 *     foreign stream whose last messages are removed one by one.
 * I7. `check` fails with `source-gap` when the log is not the one that a position was read from, or has lost records around it (P3).
 * I8. A source that cannot be reached answers nothing new: `read` comes back empty, `arrival` waits. The other questions wait, or fail
 *     with `unreachable`.
 * I9. `resumeAfter` answers from where reading can go on behind a position, past whatever is gone: the position before the first record
 *     that is there behind it, else the last position.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { ReadPosition, StoredRecord, TopicPartition } from "../model/record.ts"

/** A topic as it was created. */
export interface TopicDescription {
  readonly name: string
  readonly partitions: number
  /** Of each partition; differs when it was deleted and created again (P3). */
  readonly created: readonly string[]
}

export interface ReadRequest extends TopicPartition {
  readonly after: number
  readonly countMax: number
  readonly bytesMax: number
}

export class Source extends Context.Service<
  Source,
  {
    /** Finds a topic or creates it. `partitions` undefined: as it is, or `partitionsDefault` when it is new. Fails with `topic-mismatch`. */
    readonly open: (
      name: string,
      declared: { readonly partitions: number | undefined; readonly partitionsDefault: number }
    ) => Effect.Effect<TopicDescription, KeyfoldError>
    /** Finds a NATS stream that keyfold did not create, to be read like a topic of one partition. `subjects` empty: all. */
    readonly openStream: (name: string, subjects: readonly string[]) => Effect.Effect<TopicDescription, KeyfoldError>
    readonly find: (name: string) => Effect.Effect<TopicDescription | undefined, KeyfoldError>
    readonly check: (of: TopicPartition, at: ReadPosition) => Effect.Effect<void, KeyfoldError>
    readonly read: (request: ReadRequest) => Effect.Effect<readonly StoredRecord[], KeyfoldError>
    readonly lastPosition: (of: TopicPartition) => Effect.Effect<number, KeyfoldError>
    /** The position before the first record published at or after `timeMs`. */
    readonly positionBefore: (of: TopicPartition, timeMs: number) => Effect.Effect<number, KeyfoldError>
    readonly resumeAfter: (of: TopicPartition, after: number) => Effect.Effect<number, KeyfoldError>
    readonly arrival: (behind: readonly (TopicPartition & { readonly after: number })[]) => Effect.Effect<void, KeyfoldError>
    readonly trim: (of: TopicPartition, upTo: number) => Effect.Effect<void, KeyfoldError>
  }
>()("keyfold/Source") {}
