/**
 * Who may write a partition: the port. Its adapters are ownership-stored.ts (SQLite and memory) and ownership-redis.ts (leases).
 *
 * L1. Every `acquire` of a journal gives an epoch above all that were given before, also after a restart.
 * L2. From an `acquire` on, commits under an older epoch are refused (with J2).
 * L3. A journal that is owned is not given a second time: `directory-in-use` by a store that one process has to itself, `fenced` while the
 *     lease of another owner may still be running. A lease that has run out is given to the next who asks.
 * L4. After the scope of an `acquire` has closed, the next one succeeds at once; a scope that closes with a failure may leave the lease
 *     to run out (P21).
 * L5. `lost` completes when the owner may no longer count on its partition, before another can have acquired it unless this process was
 *     stopped meanwhile; from then on its commits fail with `fenced`, also those that are waiting for an answer (P10, P21).
 * L6. `confirm` completes when nobody has acquired the journal since, and it has all that its owner knows of; else it fails with `fenced`.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import type { JournalId, JournalOwner } from "../model/turn.ts"

export class Ownership extends Context.Service<
  Ownership,
  {
    readonly acquire: (id: JournalId) => Effect.Effect<JournalOwner, KeyfoldError, Scope.Scope>
    readonly lost: (owner: JournalOwner) => Effect.Effect<void>
    readonly confirm: (owner: JournalOwner) => Effect.Effect<void, KeyfoldError>
  }
>()("keyfold/Ownership") {}
