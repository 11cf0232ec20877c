/** A decoded event on its way to its key. One class, so that the hot loops see one shape. */
import type { KeyText } from "./key.ts"
import type { RecordOrigin, StoredRecord } from "./record.ts"

export class Row {
  readonly value: unknown
  /** Milliseconds; NaN when no event time was declared. */
  readonly eventTime: number
  /** The value that the event time was read from: what a late topic gets. */
  readonly stamped: unknown
  readonly keyText: KeyText
  /** What it was decoded from. */
  readonly record: StoredRecord
  /** Of a row that has travelled through an internal topic: the source's record that it was made of, if it was one. */
  origin: RecordOrigin | undefined = undefined

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
  readonly origin?: RecordOrigin | undefined
  readonly thrown: unknown
  readonly value: unknown
  readonly keyText: KeyText | undefined
}
