/** What an owner reads when it takes a journal in Redis over (P2): the log beyond the snapshot, and the outputs that are not confirmed. */
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import { monotonicMs } from "../storage/monotonic.ts"
import { type RedisReply, replyParts, replyText } from "../storage/redis-link.ts"
import type { RedisTenure } from "../storage/redis-tenure.ts"
import { journalName } from "../storage/store.ts"
import { DirtyKeys } from "./dirty-keys.ts"
import { decodeOutbox, decodeTurn, type OutboxEntry } from "./entry.ts"
import type { Recovered } from "./journal-memory.ts"
import { OutboxLedger } from "./outbox-ledger.ts"

/** What one read should bring: entries differ in size from some bytes to megabytes, so it goes by what the last one has brought. */
const pageBytes = 4 * 1_048_576
const pageEntriesFirst = 16
const pageEntriesMax = 1_000

export const recover = Effect.fnUntraced(function* (tenure: RedisTenure, historyKeptMs: number): Effect.fn.Return<Recovered, KeyfoldError> {
  const { meta, keys } = tenure
  const dirty = new DirtyKeys()
  let [revision, progress, logBytes] = [meta.snapshot, meta.progress, 0]
  yield* readStream(tenure, { key: keys.log, after: meta.snapshot }, (id, bytes) => {
    if (id !== revision + 1) throw missing(tenure, keys.log, revision + 1)
    const turn = decodeTurn(bytes, `the entry ${id} of ${keys.log}`)
    dirty.put(turn.changes)
    revision = id
    progress = turn.progress
    logBytes += bytes.byteLength
  })
  if (revision !== meta.revision) throw missing(tenure, keys.log, revision + 1)
  const ledger = yield* recoverOutbox(tenure, historyKeptMs)
  const { snapshot, confirmed, fingerprint } = meta
  return { revision, progress, snapshot, dirty, ledger, confirmed, logBytes, fingerprint }
})

/** Each entry names the one before it: so that a missing one is noticed, though not every turn has one. */
const recoverOutbox = Effect.fnUntraced(function* (tenure: RedisTenure, keptMs: number) {
  const { meta, keys } = tenure
  const found: { readonly entry: OutboxEntry; readonly bytes: number }[] = []
  yield* readStream(tenure, { key: keys.outbox, after: meta.confirmed }, (id, bytes) => {
    found.push({ entry: decodeOutbox(bytes, `the entry ${id} of ${keys.outbox}`), bytes: bytes.byteLength })
  })
  let last = Math.min(meta.outbox, meta.confirmed)
  const ledger = new OutboxLedger({ keptMs, inherited: found[0]?.entry.previous ?? meta.outbox, nowMs: yield* monotonicMs })
  for (const { entry, bytes } of found) {
    const isNext = entry === found[0]?.entry ? entry.previous <= meta.confirmed : entry.previous === last
    if (!isNext) throw missing(tenure, keys.outbox, entry.previous)
    ledger.put({ revision: entry.revision, outbox: entry.outbox, bytes })
    last = entry.revision
  }
  if (meta.outbox > meta.confirmed && last !== meta.outbox) throw missing(tenure, keys.outbox, meta.outbox)
  return ledger
})

/** Hands over every entry beyond a revision, in order. */
const readStream = Effect.fnUntraced(function* (
  tenure: RedisTenure,
  from: { readonly key: string; readonly after: number },
  take: (id: number, bytes: Buffer) => void
) {
  let { after } = from
  for (let count = pageEntriesFirst; ; ) {
    const page = replyParts(
      yield* tenure.ask(tenure.link.command("XRANGE", from.key, [`${after + 1}-0`, "+", "COUNT", String(count)]))
    ).map(replyParts)
    let bytes = 0
    for (const [id, fields] of page) {
      const entry = entryIn(fields)
      after = Number(replyText(id).replace(/-0$/, ""))
      if (entry === undefined || !Number.isSafeInteger(after)) throw foreign(from.key, replyText(id))
      take(after, entry)
      bytes += entry.byteLength
    }
    if (page.length < count) return
    count = Math.min(pageEntriesMax, Math.max(1, Math.floor((count * pageBytes) / Math.max(1, bytes))))
  }
})

/** An entry has one field, "e". */
const entryIn = (fields: RedisReply | undefined): Buffer | undefined => {
  const [name, bytes, ...more] = replyParts(fields)
  return replyText(name) === "e" && bytes instanceof Buffer && more.length === 0 ? bytes : undefined
}

const missing = ({ owner }: RedisTenure, key: string, revision: number): KeyfoldError =>
  new KeyfoldError(
    "directory-damaged",
    `${key} in Redis lacks the entry ${revision} of the journal ${journalName(owner)}: it was evicted or removed. Restore a backup, or begin anew under another query name; nothing was changed`
  )

const foreign = (key: string, id: string): KeyfoldError =>
  new KeyfoldError(
    "directory-damaged",
    `${key} in Redis has an entry ${id} that is none of keyfold's: something else has written to it. Restore a backup, or begin anew under another query name`
  )
