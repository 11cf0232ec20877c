/**
 * What the adapters of the four ports stand on: topics and journals side by side, so that one write can change both. There are two media,
 * database.ts (SQLite, one file) and memory-store.ts; the adapters are written once, over this interface.
 *
 * S1. `write` runs its work whole or not at all, after the work that was handed in before it, and completes when it is durable.
 * S2. Work that throws fails alone: what shares a commit with it is written all the same. A medium that fails, fails all of a commit.
 * S3. Work makes its checks before its first change: the memory cannot roll back.
 * S4. An interrupted write has either happened or never will.
 * S5. `until` completes when `ready` answers true. It is asked at once, and again after whatever may have changed the channels.
 *
 * `topics` and `journals` are synchronous and are called inside of `read`, `write` and `ready` only, their changes inside of `write`.
 */
import type * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { KeyText } from "../model/key.ts"
import type { NewRecord, StoredRecord } from "../model/record.ts"
import type { Delivery, JournalId, KeyImage, Unpublished } from "../model/turn.ts"

export interface Store {
  /** For people: the file, or "memory". */
  readonly name: string
  readonly topics: Topics
  readonly journals: Journals
  /** Names of the journals that are owned in this process (L3). */
  readonly claims: Set<string>
  readonly read: <A>(query: () => A) => Effect.Effect<A, KeyfoldError>
  readonly write: <A>(work: () => A) => Effect.Effect<A, KeyfoldError>
  readonly until: (channels: readonly string[], ready: () => boolean) => Effect.Effect<void, KeyfoldError>
}

export interface StoredTopic {
  readonly name: string
  readonly partitions: number
  readonly created: string
}

export interface Topics {
  readonly find: (name: string) => StoredTopic | undefined
  /** Leaves a topic that exists as it is. */
  readonly create: (name: string, partitions: number) => void
  /** The partition must be there: whoever names it has opened the topic. */
  readonly log: (topic: string, partition: number) => RecordLog
}

/** One partition of a topic. */
export interface RecordLog {
  /** What `until` listens to for appends. */
  readonly channel: string
  /** 0 when nothing was ever appended. */
  readonly lastPosition: () => number
  /** What is there behind `after`, in order (I3). Nobody has looked yet whether it follows directly. */
  readonly read: (bounds: ReadBounds) => readonly StoredRecord[]
  readonly positionBefore: (timeMs: number) => number
  /** Removes some of the records up to a position, perhaps not the very last one. False: there is no more to remove. */
  readonly trim: (upTo: number) => boolean
  /** The last number stored of a writer, 0 for none (O5). */
  readonly lastNumber: (writer: string) => number
  /** Appends records of this partition and notes the numbers that their writers have come to. */
  readonly append: (records: readonly NewRecord[], numbers: ReadonlyMap<string, number>) => void
}

export interface ReadBounds {
  readonly after: number
  readonly countMax: number
  readonly bytesMax: number
}

export interface Journals {
  /** Undefined before the journal's first owner. */
  readonly find: (id: JournalId) => StoredJournal | undefined
  /** Gives a journal its next owner, the first time making it (L1). */
  readonly nextEpoch: (id: JournalId) => number
}

export interface JournalState {
  readonly epoch: number
  readonly revision: number
  readonly fingerprint: string | undefined
  readonly progress: string | undefined
}

/** One journal. Its laws are the port's (journal.ts); here is only where things are kept. */
export interface StoredJournal {
  readonly state: () => JournalState
  readonly advance: (to: Omit<JournalState, "epoch">) => void
  readonly change: (images: readonly KeyImage[]) => void
  readonly load: (keys: readonly KeyText[]) => readonly (KeyImage | undefined)[]
  readonly due: (bound: { readonly before: number; readonly countMax: number }) => readonly KeyImage[]
  readonly timeouts: () => { readonly first: number; readonly last: number } | undefined
  readonly keys: () => readonly KeyImage[]
  readonly holdsState: () => boolean
  readonly keepDeliveries: (revision: number, deliveries: readonly Delivery[]) => void
  readonly forgetDeliveries: (upTo: number) => void
  readonly unpublished: () => readonly Unpublished[]
}

export const journalName = (id: JournalId): string => `${id.query}/${id.stage}/${id.partition}`

/** A record of a log, in one shape, because a turn makes thousands. It is never a batch, so its index is 0. */
export class LogRecord implements StoredRecord {
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly index = 0
  /** A store drops repeated outputs when they are written (O3), so readers have nothing to look for. */
  readonly identity = undefined
  readonly publishedAt: number
  readonly headers: ReadonlyMap<string, string>
  readonly payload: Uint8Array

  constructor(
    log: { readonly topic: string; readonly partition: number },
    position: number,
    content: Pick<StoredRecord, "publishedAt" | "headers" | "payload">
  ) {
    this.topic = log.topic
    this.partition = log.partition
    this.position = position
    this.publishedAt = content.publishedAt
    this.headers = content.headers
    this.payload = content.payload
  }
}
