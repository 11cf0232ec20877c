/** A decoded event on its way to its key. One class, so that the hot loops see one shape. */
import type { KeyText } from "./key.ts"
import type { StoredRecord } from "./record.ts"

export class Row {
  readonly value: unknown
  /** Milliseconds; NaN when no event time was declared. */
  readonly eventTime: number
  /** The value that the event time was read from: what a late topic gets. */
  readonly stamped: unknown
  readonly keyText: KeyText
  /** What it was decoded from. */
  readonly record: StoredRecord

  constructor(value: unknown, eventTime: number, stamped: unknown, keyText: KeyText, record: StoredRecord) {
    this.value = value
    this.eventTime = eventTime
    this.stamped = stamped
    this.keyText = keyText
    this.record = record
  }
}

/** A record that gives no row: what was wrong, and what is known of it. */
export interface BadRow {
  readonly record: StoredRecord
  readonly thrown: unknown
  readonly value: unknown
  readonly keyText: KeyText | undefined
}
