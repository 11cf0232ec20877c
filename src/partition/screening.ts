/** P6, P17: drops from a batch what was read before, input by input. Pure. */
import type { KeyfoldError } from "../errors.ts"
import type { StoredRecord } from "../model/record.ts"
import { type Screened, type SeenNumbers, screen, seenFrom } from "../model/seen.ts"
import type { Batch } from "./batch.ts"

export interface ScreenedBatch {
  /** What counts. */
  readonly taken: Batch
  /** What the positions move over: `taken` and what was dropped. */
  readonly read: Batch
  readonly seen: readonly SeenNumbers[]
  readonly repeated: number
  /** Outputs that are missing and were gone on without. */
  readonly skipped: number
}

/** With `failOnDataLoss`, a batch that begins behind a gap is its error; one that comes to a gap ends before it. */
export const screenBatch = (batch: Batch, seen: readonly SeenNumbers[], failOnDataLoss: boolean): ScreenedBatch | KeyfoldError => {
  let skipped = 0
  const screened: Screened[] = []
  for (const [index, records] of batch.entries()) {
    const before = seen[index] as SeenNumbers
    let result = screen(records, before)
    if (result.gap !== undefined && result.looked === 0) {
      if (failOnDataLoss) return result.gap
      const [first] = records as readonly [StoredRecord]
      const reset = seenFrom(first, before)
      skipped += missing(first, before)
      result = screen(records, reset)
    }
    screened.push(result)
  }
  return {
    taken: screened.map(({ records }) => records),
    read: batch.map((records, index) => {
      const { looked } = screened[index] as Screened
      return looked === records.length ? records : records.slice(0, looked)
    }),
    seen: seen.map((before, index) => screened[index]?.seen ?? before),
    repeated: screened.reduce((sum, { repeated }) => sum + repeated, 0),
    skipped
  }
}

const missing = ({ identity }: StoredRecord, seen: SeenNumbers): number =>
  identity === undefined ? 0 : identity.number - 1 - (seen[identity.writer] ?? 0)
