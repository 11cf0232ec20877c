/**
 * Makes turns durable: the port. Its adapters are stored.ts (SQLite and memory, see storage/store.ts) and redis.ts.
 *
 * J1. A turn commits whole or not at all: state, timeouts, positions, clock and outputs together (G22).
 * J2. A commit by an owner that is not the newest fails with `fenced` and writes nothing.
 * J3. Committing the same revision twice has the effect of committing it once.
 * J4. `load`, `due`, `timeouts` and `keys` answer as of the last commit.
 * J5. `due` answers in order of `timeoutAt`, then key bytes (T4), strictly before the bound (G8).
 * J6. A key without state and timeout leaves nothing behind.
 * J7. `open` answers what the last commit left, with everything that is committed but not confirmed as published, oldest first.
 * J8. State written with another codec is refused at `open` with `schema-incompatible`, unless the declared one says that it reads what
 *     that one wrote; nothing is written.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { KeyText } from "../model/key.ts"
import type { JournalHead, JournalId, JournalOwner, KeyImage, Outbox, TurnRecord } from "../model/turn.ts"

export class Journal extends Context.Service<
  Journal,
  {
    /** `fingerprint` is the state codec's; it is stored with the first commit's journal. */
    readonly open: (owner: JournalOwner, fingerprint: string) => Effect.Effect<JournalHead, KeyfoldError>
    readonly load: (id: JournalId, keys: readonly KeyText[]) => Effect.Effect<readonly (KeyImage | undefined)[], KeyfoldError>
    readonly due: (
      id: JournalId,
      bound: { readonly before: number; readonly countMax: number }
    ) => Effect.Effect<readonly KeyImage[], KeyfoldError>
    /** The first and last armed timeout; undefined when none is. */
    readonly timeouts: (id: JournalId) => Effect.Effect<{ readonly first: number; readonly last: number } | undefined, KeyfoldError>
    /** Answers what is left to publish: the part of the outbox that did not become visible with the commit itself. */
    readonly commit: (owner: JournalOwner, turn: TurnRecord) => Effect.Effect<Outbox, KeyfoldError>
    /** Everything up to `revision` is published: its outbox is forgotten. */
    readonly confirm: (owner: JournalOwner, revision: number) => Effect.Effect<void, KeyfoldError>
    /** Every key with a state or an armed timeout, in key-byte order. */
    readonly keys: (id: JournalId) => Effect.Effect<readonly KeyImage[], KeyfoldError>
  }
>()("keyfold/Journal") {}
