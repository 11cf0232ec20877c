/** The next records of each input of a partition, in the order of the inputs. */
import type { StoredRecord } from "../model/record.ts"

export type Batch = readonly (readonly StoredRecord[])[]

export const countOf = (batch: Batch): number => batch.reduce((count, records) => count + records.length, 0)

/** The first half of the records (P7): the others are read again. */
export const halved = (batch: Batch): Batch => {
  let left = countOf(batch) >> 1
  return batch.map((records) => {
    const taken = records.slice(0, left)
    left -= taken.length
    return taken
  })
}
