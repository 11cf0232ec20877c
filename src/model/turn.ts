/** What a turn leaves behind, on its way to the journal and back. */
import type { KeyText } from "./key.ts"
import type { NewRecord } from "./record.ts"

/** Names one partition's journal. */
export interface JournalId {
  readonly query: string
  readonly stage: string
  readonly partition: number
}

/** A journal and what its owner writes under (Ownership gives both). */
export interface JournalOwner extends JournalId {
  readonly epoch: number
  /** Epoch and a random nonce where several processes may own (PROTOCOL, Names): a restored Redis may give an epoch again. */
  readonly token: string
}

/** One key: the bytes of its state, and when its timeout is due; neither: the key is gone. */
export interface KeyImage {
  readonly keyText: KeyText
  readonly bytes: Uint8Array | undefined
  readonly timeoutAt: number | undefined
}

/** Values for a sink of the user's own. */
export interface Delivery {
  readonly sink: string
  readonly values: readonly Uint8Array[]
}

/** What a turn puts out: exact records, numbered per writer and stream, and values for custom sinks. */
export interface Outbox {
  readonly records: readonly NewRecord[]
  readonly deliveries: readonly Delivery[]
}

export interface TurnRecord {
  /** +1 per commit of this journal. */
  readonly revision: number
  /** What the partition needs to go on; opaque here. */
  readonly progress: string
  readonly changes: readonly KeyImage[]
  readonly outbox: Outbox
}

/** A committed turn whose outputs are not confirmed as published. */
export interface Unpublished {
  readonly revision: number
  readonly outbox: Outbox
}

export interface JournalHead {
  /** 0: never committed. */
  readonly revision: number
  readonly progress: string | undefined
  readonly unpublished: readonly Unpublished[]
}

export const emptyOutbox: Outbox = Object.freeze({ records: [], deliveries: [] })

/** The one clock reading and watermark of a turn (G2). Milliseconds. */
export interface TurnClock {
  readonly nowMs: number
  /** Undefined when the query has no watermark. */
  readonly watermarkMs: number | undefined
}
