/**
 * The journal over Redis. A turn is one entry of a log; what it says of keys stays in memory until a checkpoint brings it into a hash. Only
 * the owner reads and writes, so what it has in memory is what counts. docs/journal-format.md has every byte.
 *
 *   commit, confirm   journal-writes.ts, behind the fence (storage/redis-fence.ts)
 *   load, due, keys   journal-reads.ts
 *   open              recovery.ts
 *   in the background checkpoint.ts
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { invariant, KeyfoldError } from "../errors.ts"
import { readsAllOf } from "../model/codec.ts"
import type { JournalHead, JournalId } from "../model/turn.ts"
import type { Limits } from "../options.ts"
import type { RedisTenure, RedisTenures } from "../storage/redis-tenure.ts"
import { journalName } from "../storage/store.ts"
import { keepCheckpoints } from "./checkpoint.ts"
import type { Journal } from "./journal.ts"
import { JournalMemory } from "./journal-memory.ts"
import { JournalReads } from "./journal-reads.ts"
import { JournalWrites } from "./journal-writes.ts"
import { recover } from "./recovery.ts"
import { incompatible } from "./stored.ts"

const lastingMsMax = 10_000

/** The journals of this process' tenures, which ownership begins and ends. */
export const makeRedisJournal = (
  tenures: RedisTenures,
  limits: Pick<Limits, "checkpointEveryMs" | "historyKeptMs">
): Journal["Service"] => {
  const opened = new WeakMap<RedisTenure, OpenJournal>()

  const open = Effect.fnUntraced(function* (tenure: RedisTenure, fingerprint: string) {
    let journal = opened.get(tenure)
    if (journal === undefined) {
      journal = yield* openJournal(tenure, limits)
      opened.set(tenure, journal)
    }
    return yield* headOf(journal, fingerprint)
  })

  /** `of` with a token must be the newest owner; without one, whoever owns it here is meant. */
  const using = <A>(of: JournalId, use: (journal: OpenJournal) => Effect.Effect<A, KeyfoldError>): Effect.Effect<A, KeyfoldError> =>
    Effect.flatMap(tenureOf(tenures, of), (tenure) => {
      const journal = opened.get(tenure)
      invariant(journal !== undefined, `J7: the journal ${journalName(of)} is opened before it is used`)
      return failing(tenure, use(journal))
    })

  return {
    open: (owner, fingerprint) => Effect.flatMap(tenureOf(tenures, owner), (tenure) => failing(tenure, open(tenure, fingerprint))),
    load: (id, keys) => using(idOf(id), ({ reads }) => reads.load(keys)),
    due: (id, bound) => using(idOf(id), ({ reads }) => reads.due(bound)),
    timeouts: (id) => using(idOf(id), ({ reads }) => reads.timeouts),
    commit: (owner, turn) => using(owner, ({ writes }) => writes.commit(turn)),
    confirm: (owner, revision) => using(owner, ({ writes }) => writes.confirm(revision)),
    keys: (id) => using(idOf(id), ({ reads }) => reads.keys)
  }
}

interface OpenJournal {
  readonly tenure: RedisTenure
  readonly memory: JournalMemory
  readonly reads: JournalReads
  readonly writes: JournalWrites
}

/** Its work in the background, and the last flush, end before the tenure is given back: they stand in the tenure's scope. */
const openJournal = Effect.fnUntraced(function* (tenure: RedisTenure, limits: Pick<Limits, "checkpointEveryMs" | "historyKeptMs">) {
  const memory = new JournalMemory(yield* recover(tenure, limits.historyKeptMs))
  const reads = new JournalReads(tenure, memory)
  const writes = new JournalWrites(tenure, memory)
  const { storedTimeouts } = reads
  yield* Scope.addFinalizerExit(tenure.scope, (exit) =>
    Exit.isSuccess(exit) && !tenure.isOver ? Effect.ignore(writes.flush) : Effect.void
  )
  const background = Effect.all([keepCheckpoints({ tenure, memory, storedTimeouts }, limits.checkpointEveryMs), writes.keepFlushed()], {
    concurrency: "unbounded"
  })
  const broken = Effect.catchCause(background, (cause) =>
    Effect.sync(() => {
      memory.break(cause)
    })
  )
  yield* Effect.forkIn(broken, tenure.scope)
  return { tenure, memory, reads, writes }
})

/** J8: what is stored stays readable, or nobody gets in. */
const headOf = Effect.fnUntraced(function* ({ tenure, memory, reads, writes }: OpenJournal, fingerprint: string) {
  const { fingerprint: stored } = memory
  if (stored !== undefined && !readsAllOf(fingerprint, stored) && (yield* tenure.inLine(reads.holdsState()))) {
    return yield* Effect.fail(incompatible(tenure.owner, stored, fingerprint))
  }
  memory.fingerprintDeclared = fingerprint
  const { revision, progress, ledger } = memory
  const unpublished = ledger.unpublished()
  // P9: whoever has left them may have died while it waited for that.
  if (unpublished.length > 0) {
    const fail = () => Effect.fail(notLasting(tenure.owner))
    yield* Effect.timeoutOrElse(writes.lasting, { duration: lastingMsMax, orElse: fail })
  }
  return { revision, progress, unpublished } satisfies JournalHead
})

const tenureOf = (tenures: RedisTenures, of: JournalId & { readonly token?: string }): Effect.Effect<RedisTenure, KeyfoldError> =>
  Effect.suspend(() => {
    const tenure = tenures.find(of)
    if (tenure === undefined || tenure.isOver || (of.token !== undefined && of.token !== tenure.owner.token))
      return Effect.fail(notOurs(of))
    return Effect.succeed(tenure)
  })

const idOf = ({ query, stage, partition }: JournalId): JournalId => ({ query, stage, partition })

const notLasting = (id: JournalId): KeyfoldError =>
  new KeyfoldError(
    "unreachable",
    `the journal ${journalName(id)} has outputs that do not survive yet what was asked for, so they are held: for ${lastingMsMax / 1_000} s too few replicas, or disks, have said that they have them. It is tried again; look whether they are well`
  )

const notOurs = (id: JournalId): KeyfoldError =>
  new KeyfoldError(
    "fenced",
    `the journal ${journalName(id)} is not ours, or not any more: nothing was read or written. It is taken over again`
  )

/**
 * Bytes that are not what they should be throw where they are read. No fence guards what is read: to an owner that another has replaced in
 * between, or whose Redis has lost its tail, what the other writes looks like damage. So whose it is is asked before anybody is told (P11).
 */
const failing = <A>(tenure: RedisTenure, effect: Effect.Effect<A, KeyfoldError>): Effect.Effect<A, KeyfoldError> =>
  effect.pipe(
    Effect.catchDefect((thrown) => (thrown instanceof KeyfoldError ? Effect.fail(thrown) : Effect.die(thrown))),
    Effect.catch((failure) =>
      damages.includes(failure.code) ? Effect.andThen(tenure.witness(), Effect.fail(failure)) : Effect.fail(failure)
    )
  )

const damages: readonly string[] = ["directory-damaged", "format-newer", "schema-incompatible"]
