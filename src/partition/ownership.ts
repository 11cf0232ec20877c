/**
 * Who may write a partition: the port. Its adapter for SQLite and memory is ownership-stored.ts.
 *
 * L1. Every `acquire` of a journal gives an epoch above all that were given before, also after a restart.
 * L2. From an `acquire` on, commits under an older epoch are refused (with J2).
 * L3. A journal that is owned in this process is not given a second time: `directory-in-use`.
 * L4. After the scope of an `acquire` has closed, the next one succeeds at once.
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
  }
>()("keyfold/Ownership") {}
