/**
 * P17: what a reader remembers of each writer, so that an output that was stored twice counts once, whatever the server's deduplication
 * window and however late a zombie writes. Pure; whoever reads keeps the numbers with its position.
 */
import { KeyfoldError } from "../errors.ts"
import type { StoredRecord } from "./record.ts"

/** The last number seen of each writer in one partition of a topic. */
export type SeenNumbers = Readonly<Record<string, number>>

export const nothingSeen: SeenNumbers = Object.freeze({})

export interface Screened {
  /** The records to take: those of foreign publishers, and each output once. */
  readonly records: readonly StoredRecord[]
  readonly seen: SeenNumbers
  /** How many were looked at: all, or those before a gap. */
  readonly looked: number
  readonly repeated: number
  /** An output is missing before the record that comes next. */
  readonly gap: KeyfoldError | undefined
}

/** Runs per record (R16). A writer that is met for the first time may be met in the middle of its numbers. */
export const screen = (records: readonly StoredRecord[], seen: SeenNumbers): Screened => {
  if (!records.some((record) => record.identity !== undefined))
    return { records, seen, looked: records.length, repeated: 0, gap: undefined }
  const after = new Map(Object.entries(seen))
  const taken: StoredRecord[] = []
  let gap: KeyfoldError | undefined
  let looked = 0
  let repeated = 0
  for (const record of records) {
    const { identity } = record
    if (identity !== undefined) {
      const last = after.get(identity.writer)
      if (last !== undefined && identity.number <= last) {
        looked += 1
        repeated += 1
        continue
      }
      if (last !== undefined && identity.number > last + 1) {
        gap = outputGap(record, last)
        break
      }
      after.set(identity.writer, identity.number)
    }
    looked += 1
    taken.push(record)
  }
  return { records: taken, seen: Object.fromEntries(after), looked, repeated, gap }
}

const outputGap = ({ topic, partition, position, identity }: StoredRecord, last: number): KeyfoldError =>
  new KeyfoldError(
    "source-gap",
    `${topic}/${partition} goes on at position ${position} with output ${identity?.number} of the writer ${identity?.writer}, but ${last} ` +
      "was the last one read: those between are gone. Restore the log, or go on without them with failOnDataLoss: false"
  )

/** The same from behind a gap that is accepted: the numbers start anew with the record that came too early. */
export const seenFrom = (record: StoredRecord, seen: SeenNumbers): SeenNumbers =>
  record.identity === undefined ? seen : { ...seen, [record.identity.writer]: record.identity.number - 1 }
