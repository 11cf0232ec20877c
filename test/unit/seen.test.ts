// Goal: a reader takes each output once, whatever was stored twice, and never passes over one that is missing (P17).
// Method: the pure functions that sources' batches and `tail` go through, over records of made-up writers.
import { expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { noHeaders, type StoredRecord } from "../../src/model/record.ts"
import { nothingSeen, screen } from "../../src/model/seen.ts"
import { screenBatch } from "../../src/partition/screening.ts"

const record = (position: number, writer?: string, number = 0): StoredRecord => ({
  topic: "results",
  partition: 3,
  position,
  index: 0,
  publishedAt: 0,
  headers: noHeaders,
  payload: new Uint8Array(),
  identity: writer === undefined ? undefined : { writer, number }
})

const positionsOf = (records: readonly StoredRecord[]): number[] => records.map(({ position }) => position)

test("P17 an output that was stored twice is taken once, and counted; writers do not disturb each other", () => {
  const records = [record(1, "a", 1), record(2, "b", 1), record(3, "a", 1), record(4, "a", 2), record(5, "b", 1), record(6, "a", 1)]
  const { records: taken, seen, looked, repeated, gap } = screen(records, nothingSeen)
  expect({ taken: positionsOf(taken), seen, looked, repeated, gap }).toEqual({
    taken: [1, 2, 4],
    seen: { a: 2, b: 1 },
    looked: 6,
    repeated: 3,
    gap: undefined
  })
})

test("P17 what was seen before the position counts: a copy that a zombie stores late is dropped", () => {
  const { records: taken, repeated } = screen([record(7, "a", 4), record(8, "a", 6)], { a: 5 })
  expect({ taken: positionsOf(taken), repeated }).toEqual({ taken: [8], repeated: 1 })
})

test("P17 records of foreign publishers are taken as they are", () => {
  const records = [record(1), record(2, "a", 9), record(3)]
  expect(positionsOf(screen(records, nothingSeen).records)).toEqual([1, 2, 3])
})

test("P17 who begins in the middle begins with the first number of each writer", () => {
  expect(screen([record(50, "a", 41), record(51, "a", 42)], nothingSeen)).toMatchObject({ seen: { a: 42 }, gap: undefined })
})

test("P17 a missing output ends the batch before it, names what is missing, and stops the query", () => {
  const records = [record(1, "a", 1), record(2, "a", 3)]
  const found = screen(records, nothingSeen)
  expect({ looked: found.looked, code: found.gap?.code }).toEqual({ looked: 1, code: "source-gap" })
  expect(found.gap?.message).toMatch(/results\/3.*position 2.*output 3.*writer a.*1 was the last.*failOnDataLoss/)
  expect(screenBatch([records.slice(1)], [{ a: 1 }], true)).toBeInstanceOf(KeyfoldError)
})

test("P17 a job that goes on without them begins anew behind the gap, and counts what is missing", () => {
  const found = screenBatch([[record(2, "a", 5), record(3, "a", 6), record(4, "a", 5)]], [{ a: 1 }], false)
  if (found instanceof KeyfoldError) throw found
  const { taken, read, seen, skipped, repeated } = found
  expect({ taken: taken.map(positionsOf), read: read.map(positionsOf), seen, skipped, repeated }).toEqual({
    taken: [[2, 3]],
    read: [[2, 3, 4]],
    seen: [{ a: 6 }],
    skipped: 3,
    repeated: 1
  })
})

test("P17 positions move over what was dropped: it is not read again", () => {
  const found = screenBatch([[record(9, "a", 1)]], [{ a: 1 }], true)
  if (found instanceof KeyfoldError) throw found
  expect({ taken: found.taken.map(positionsOf), read: found.read.map(positionsOf) }).toEqual({ taken: [[]], read: [[9]] })
})
