/** One partition's records in memory. */
import type { NewRecord, TopicPartition } from "../model/record.ts"
import { LogRecord, type ReadBounds, type RecordLog } from "./store.ts"

export class MemoryLog implements RecordLog {
  readonly channel: string
  readonly topic: string
  readonly partition: number
  readonly #touch: (channel: string) => void
  readonly #numbers = new Map<string, number>()
  #records: LogRecord[] = []
  /** How many records were trimmed: the position before the first one. */
  #trimmed = 0

  constructor(of: TopicPartition, touch: (channel: string) => void) {
    this.topic = of.topic
    this.partition = of.partition
    this.channel = `${of.topic}/${of.partition}`
    this.#touch = touch
  }

  lastPosition(): number {
    return this.#trimmed + this.#records.length
  }

  read({ after, countMax, bytesMax }: ReadBounds): readonly LogRecord[] {
    const records: LogRecord[] = []
    let bytes = 0
    for (let index = Math.max(0, after - this.#trimmed); index < this.#records.length && records.length < countMax; index++) {
      const record = this.#records[index] as LogRecord
      bytes += record.payload.byteLength
      if (records.length > 0 && bytes > bytesMax) break
      records.push(
        new LogRecord(this, record.position, {
          publishedAt: record.publishedAt,
          headers: record.headers,
          payload: new Uint8Array(record.payload)
        })
      )
    }
    return records
  }

  positionBefore(timeMs: number): number {
    const index = this.#records.findIndex((record) => record.publishedAt >= timeMs)
    return index === -1 ? this.lastPosition() : this.#trimmed + index
  }

  trim(upTo: number): boolean {
    const count = Math.min(upTo, this.lastPosition()) - this.#trimmed
    if (count > 0) {
      this.#records = this.#records.slice(count)
      this.#trimmed += count
    }
    return false
  }

  lastNumber(writer: string): number {
    return this.#numbers.get(writer) ?? 0
  }

  append(records: readonly NewRecord[], numbers: ReadonlyMap<string, number>): void {
    for (const { publishedAt, headers, payload } of records) {
      const content = { publishedAt, headers: headers.size === 0 ? headers : new Map(headers), payload: new Uint8Array(payload) }
      this.#records.push(new LogRecord(this, this.lastPosition() + 1, content))
    }
    for (const [writer, number] of numbers) this.#numbers.set(writer, number)
    this.#touch(this.channel)
  }
}
