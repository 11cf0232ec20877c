/** How records enter the logs of a store (O1, O3, O4): all checks first, then one append per partition. Called inside of `Store.write`. */
import { KeyfoldError } from "../errors.ts"
import type { NewRecord, WriterNumber } from "../model/record.ts"
import type { RecordLog, Topics } from "./store.ts"

/** Stores the records that are new. Throws `output-fate-unknown` before anything is stored. */
export const appendRecords = (topics: Topics, records: readonly NewRecord[]): void => {
  const batches = new Map<RecordLog, PartitionBatch>()
  // Hot path: a turn's outbox passes here record by record, mixed over the partitions.
  for (const record of records) {
    const log = topics.log(record.topic, record.partition)
    let batch = batches.get(log)
    if (batch === undefined) {
      batch = new PartitionBatch(log)
      batches.set(log, batch)
    }
    batch.add(record)
  }
  for (const batch of batches.values()) batch.append()
}

class PartitionBatch {
  readonly #log: RecordLog
  readonly #fresh: NewRecord[] = []
  readonly #numbers = new Map<string, number>()

  constructor(log: RecordLog) {
    this.#log = log
  }

  add(record: NewRecord): void {
    if (record.identity === undefined || this.#isNext(record.identity)) this.#fresh.push(record)
  }

  append(): void {
    if (this.#fresh.length > 0) this.#log.append(this.#fresh, this.#numbers)
  }

  #isNext({ writer, number }: WriterNumber): boolean {
    const last = this.#numbers.get(writer) ?? this.#log.lastNumber(writer)
    if (number <= last) return false // O3: stored before
    if (number > last + 1) throw missingNumbers(this.#log.channel, last, number)
    this.#numbers.set(writer, number)
    return true
  }
}

const missingNumbers = (channel: string, last: number, number: number): KeyfoldError =>
  new KeyfoldError(
    "output-fate-unknown",
    `${channel}: a writer sends its output ${number}, but only ${last} of its outputs are stored: those between are missing. ` +
      "Look whether the directory was restored from an old copy; nothing of this was written"
  )
