/**
 * Ownership over a store. Only one process runs queries on a store (storage/lock.ts for SQLite's, the heap for the memory's), so what
 * remains is that two queries of this process do not take the same journal.
 */
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import type { JournalId, JournalOwner } from "../model/turn.ts"
import { journalName, type Store } from "../storage/store.ts"
import type { Ownership } from "./ownership.ts"

export const makeStoredOwnership = (store: Store): Ownership["Service"] => ({
  acquire: (id) => Effect.acquireRelease(takeOver(store, id), (owner) => unclaim(store, owner)),
  lost: () => Effect.never,
  confirm: (owner) =>
    Effect.flatMap(
      store.read(() => store.journals.find(owner)?.state().epoch),
      // A damaged file may not have it any more: that is not another owner's doing.
      (epoch = owner.epoch) => (epoch === owner.epoch ? Effect.void : Effect.fail(replaced(owner)))
    )
})

const takeOver = Effect.fnUntraced(function* (store: Store, id: JournalId): Effect.fn.Return<JournalOwner, KeyfoldError> {
  yield* claim(store, journalName(id))
  const epoch = yield* store.write(() => store.journals.nextEpoch(id)).pipe(Effect.onError(() => unclaim(store, id)))
  return { query: id.query, stage: id.stage, partition: id.partition, epoch, token: String(epoch) }
})

const claim = (store: Store, name: string): Effect.Effect<void, KeyfoldError> =>
  Effect.suspend(() => {
    if (store.claims.has(name)) return Effect.fail(alreadyOwned(store, name))
    store.claims.add(name)
    return Effect.void
  })

const unclaim = (store: Store, id: JournalId): Effect.Effect<void> => Effect.sync(() => void store.claims.delete(journalName(id)))

const replaced = (id: JournalId): KeyfoldError =>
  new KeyfoldError("fenced", `${journalName(id)} has another owner by now: nothing of it is to be trusted here`)

const alreadyOwned = (store: Store, name: string): KeyfoldError =>
  new KeyfoldError(
    "directory-in-use",
    `${name} is already running in this process on ${store.name}. Stop that query first, or start this one under another name`
  )
