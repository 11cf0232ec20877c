/**
 * Who works on a query, and whose each partition should be: the port. Its adapters are alone.ts (one process, which owns everything) and
 * membership-redis.ts.
 *
 * M1. All of it is advice. Two members may believe for a while that a partition is theirs: ownership lets one of them write (P1).
 * M2. Members with the same view come to the same assignment: every partition is somebody's, a stage's partitions are shared out evenly,
 *     and one that has an owner moves only when evenness or a death asks for it.
 * M3. A member that has said nothing for the length of a lease is gone for the others; one that leaves is gone at once.
 * M4. `changed` completes when the assignment or the news may have changed since the call: sometimes for nothing, never too late for ever.
 * M5. What a member posts of its partitions the others have after a moment; of a partition nobody speaks for, the last word stays.
 * M6. A member whose server cannot be reached keeps its last view.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import type { SiblingClock } from "../model/event-clock.ts"
import type { JournalId } from "../model/turn.ts"

/** How far a partition has come in a bounded run, in the order in which it happens. */
export type RunPhase = "reading" | "read" | "rested" | "closed"

/** What the owner of a partition tells the other members about it. */
export interface PartitionNews {
  readonly own: SiblingClock
  /** Of a `withWatermark` behind the stage. */
  readonly outgoing: SiblingClock
  /** Of each input, as committed. */
  readonly positions: readonly number[]
  readonly phase: RunPhase
}

/** A process that works on a query. */
export interface Member {
  readonly isOurs: (partition: JournalId) => boolean
  readonly changed: Effect.Effect<void>
  /** What there is to tell of a partition that this member holds; the first time also says that it does. */
  readonly post: (partition: JournalId, news: PartitionNews) => void
  /** The partition is no longer held here: whose it is now may take it. */
  readonly gone: (partition: JournalId) => void
  /** The last word on every partition of a stage that is not ours. `fresh`: said since this member joined. */
  readonly news: (stage: string) => ReadonlyMap<number, { readonly news: PartitionNews; readonly fresh: boolean }>
}

export class Membership extends Context.Service<
  Membership,
  {
    /** Takes part until the scope closes. `partitions`: all that the query has. */
    readonly join: (query: string, partitions: readonly JournalId[]) => Effect.Effect<Member, KeyfoldError, Scope.Scope>
  }
>()("keyfold/Membership") {}
