/** What a turn is about to put out, before it is numbered and committed. */
import type { TopicPartition } from "./record.ts"

/** One record-to-be. */
export interface PendingRecord extends TopicPartition {
  readonly payload: Uint8Array
}

/** One value for a custom sink. */
export interface PendingDelivery {
  readonly sink: string
  readonly payload: Uint8Array
}

/** The turn puts out more than one may (P7): it is undone and runs again with less. Not a fault of any call. */
export class TurnTooLarge extends Error {}
