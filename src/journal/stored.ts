/**
 * The journal over a store. Records leave with the commit itself, through the outlet, because their topics are in the same store; only
 * values for custom sinks are left to publish, and are kept until they are confirmed.
 */
import { invariant, KeyfoldError } from "../errors.ts"
import { readsAllOf } from "../model/codec.ts"
import type { NewRecord } from "../model/record.ts"
import { emptyOutbox, type JournalHead, type JournalId, type JournalOwner, type Outbox, type TurnRecord } from "../model/turn.ts"
import { type JournalState, journalName, type Store, type StoredJournal } from "../storage/store.ts"
import type { Journal } from "./journal.ts"

/** Where a commit puts its records, in the same write. Keeps O1, O3 and O4, and throws before it stores anything. */
export interface Outlet {
  readonly append: (records: readonly NewRecord[]) => void
}

export const makeStoredJournal = (store: Store, outlet: Outlet): Journal["Service"] => {
  const adapter = new StoredJournals(store, outlet)
  return {
    open: (owner, fingerprint) => store.read(() => adapter.open(owner, fingerprint)),
    load: (id, keys) => store.read(() => adapter.find(id).load(keys)),
    due: (id, bound) => store.read(() => adapter.find(id).due(bound)),
    timeouts: (id) => store.read(() => adapter.find(id).timeouts()),
    commit: (owner, turn) => store.write(() => adapter.commit(owner, turn)),
    confirm: (owner, revision) => store.write(() => adapter.confirm(owner, revision)),
    keys: (id) => store.read(() => adapter.find(id).keys())
  }
}

class StoredJournals {
  readonly #store: Store
  readonly #outlet: Outlet
  /** Of the journals that were opened here: what their commits are written with. */
  readonly #fingerprints = new Map<string, string>()

  constructor(store: Store, outlet: Outlet) {
    this.#store = store
    this.#outlet = outlet
  }

  find(id: JournalId): StoredJournal {
    const journal = this.#store.journals.find(id)
    // L1: it was made when it was acquired. A damaged index has rows that are not found again.
    if (journal === undefined) throw lost(this.#store, id)
    return journal
  }

  open(owner: JournalOwner, fingerprint: string): JournalHead {
    const journal = this.find(owner)
    const { revision, progress, fingerprint: stored } = journal.state()
    if (stored !== undefined && !readsAllOf(fingerprint, stored) && journal.holdsState()) throw incompatible(owner, stored, fingerprint)
    this.#fingerprints.set(journalName(owner), fingerprint)
    return { revision, progress, unpublished: journal.unpublished() }
  }

  commit(owner: JournalOwner, turn: TurnRecord): Outbox {
    const journal = this.find(owner)
    const { revision, progress, changes, outbox } = turn
    if (this.#isNew(owner, journal.state(), revision)) {
      const fingerprint = this.#fingerprints.get(journalName(owner))
      invariant(fingerprint !== undefined, `J7: the journal ${journalName(owner)} is opened before it is written`)
      this.#outlet.append(outbox.records) // O4 throws before anything is written
      journal.change(changes)
      journal.keepDeliveries(revision, outbox.deliveries)
      journal.advance({ revision, progress, fingerprint })
    }
    return { ...emptyOutbox, deliveries: outbox.deliveries }
  }

  confirm(owner: JournalOwner, revision: number): void {
    const journal = this.find(owner)
    checkFence(owner, journal.state())
    journal.forgetDeliveries(revision)
  }

  #isNew(owner: JournalOwner, state: JournalState, revision: number): boolean {
    checkFence(owner, state)
    if (revision === state.revision) return false // J3: committed before
    invariant(revision === state.revision + 1, `J3: revision ${revision} of ${journalName(owner)} does not follow ${state.revision}`)
    return true
  }
}

/** J2. */
const checkFence = (owner: JournalOwner, { epoch }: JournalState): void => {
  if (owner.epoch === epoch) return
  throw new KeyfoldError(
    "fenced",
    `${journalName(owner)} has another owner (its epoch is ${epoch}, ours ${owner.epoch}): nothing was written. The newest one goes on`
  )
}

/** J8. */
const lost = ({ name }: Store, id: JournalId): KeyfoldError =>
  new KeyfoldError(
    "directory-damaged",
    `${name} does not find the journal ${journalName(id)} that it has just taken over: its file is damaged. Restore a backup, or begin anew in another directory`
  )

export const incompatible = (id: JournalId, stored: string, declared: string): KeyfoldError =>
  new KeyfoldError(
    "schema-incompatible",
    `the states of ${journalName(id)} were written with the codec ${stored}, which ${declared} cannot read. ` +
      "Go back to that codec, or begin anew under another stage or query name; nothing was written"
  )
