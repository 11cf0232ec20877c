/** One partition's records in SQLite. The row id is the position: the next is one more than the largest, which `trim` therefore leaves. */
import { type NewRecord, noHeaders } from "../model/record.ts"
import type { Connection, Statement } from "./connection.ts"
import { recordTableName } from "./schema.ts"
import { DamagedRow, sound } from "./storage-errors.ts"
import { LogRecord, type ReadBounds, type RecordLog } from "./store.ts"

/** What one call of `trim` removes, so that a long backlog does not hold up the commits of others. */
const trimmedRowsMax = 4_096

type Row = readonly [position: number, publishedAt: number, headers: string | null, payload: Uint8Array]

export class RecordTable implements RecordLog {
  readonly channel: string
  readonly topic: string
  readonly partition: number
  readonly #topicId: number
  readonly #touch: (channel: string) => void
  readonly #insert: Statement<readonly []>
  readonly #last: Statement<readonly [position: number | null]>
  readonly #rows: Statement<Row>
  readonly #bytes: Statement<readonly [bytes: number | null]>
  readonly #sizes: Statement<readonly [bytes: number]>
  readonly #published: Statement<readonly [position: number]>
  readonly #trim: Statement<readonly []>
  readonly #number: Statement<readonly [number: number]>
  readonly #setNumber: Statement<readonly []>

  constructor(
    connection: Connection,
    of: { readonly topic: string; readonly topicId: number; readonly partition: number },
    touch: (channel: string) => void
  ) {
    this.topic = of.topic
    this.partition = of.partition
    this.channel = `${of.topic}/${of.partition}`
    this.#topicId = of.topicId
    this.#touch = touch
    const table = recordTableName(of.topicId, of.partition)
    this.#insert = connection.prepare(`INSERT INTO ${table}(published_at, headers, payload) VALUES(?, ?, ?)`)
    this.#last = connection.prepare(`SELECT max(position) FROM ${table}`)
    this.#rows = connection.prepare(
      `SELECT position, published_at, headers, payload FROM ${table} WHERE position > ? ORDER BY position LIMIT ?`
    )
    this.#bytes = connection.prepare(`SELECT sum(length(payload)) FROM ${table} WHERE position > ? AND position <= ? + ?`)
    this.#sizes = connection.prepare(`SELECT length(payload) FROM ${table} WHERE position > ? ORDER BY position LIMIT ?`)
    this.#published = connection.prepare(`SELECT position FROM ${table} WHERE published_at >= ? ORDER BY position LIMIT 1`)
    this.#trim = connection.prepare(
      `DELETE FROM ${table} WHERE position <= (SELECT min(?, max(position) - 1, min(position) + ${trimmedRowsMax - 1}) FROM ${table})`
    )
    this.#number = connection.prepare("SELECT number FROM writer WHERE topic = ? AND partition = ? AND writer = ?")
    this.#setNumber = connection.prepare("INSERT INTO writer VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET number = excluded.number")
  }

  lastPosition(): number {
    return this.#last.get()?.[0] ?? 0
  }

  read(bounds: ReadBounds): readonly LogRecord[] {
    const rows = this.#rows.all(bounds.after, this.#countWithin(bounds))
    const records = new Array<LogRecord>(rows.length)
    for (let index = 0; index < rows.length; index++) {
      const row = rows[index] as Row
      if (!isRow(row)) throw new DamagedRow(`what it has at position ${row[0]} of ${this.channel} is no record`)
      const content = { publishedAt: row[1], headers: row[2] === null ? noHeaders : this.#headers(row[2], row[0]), payload: row[3] }
      records[index] = new LogRecord(this, row[0], content)
    }
    return records
  }

  positionBefore(timeMs: number): number {
    const row = this.#published.get(timeMs)
    return row === undefined ? this.lastPosition() : row[0] - 1
  }

  trim(upTo: number): boolean {
    return Number(this.#trim.run(upTo).changes) === trimmedRowsMax
  }

  lastNumber(writer: string): number {
    const number = this.#number.get(this.#topicId, this.partition, writer)?.[0] ?? 0
    sound(Number.isSafeInteger(number), `the last number of a writer in ${this.channel} is none`)
    return number
  }

  append(records: readonly NewRecord[], numbers: ReadonlyMap<string, number>): void {
    for (const { publishedAt, headers, payload } of records) {
      this.#insert.run(publishedAt, headers.size === 0 ? null : encodeHeaders(headers), payload)
    }
    for (const [writer, number] of numbers) this.#setNumber.run(this.#topicId, this.partition, writer, number)
    this.#touch(this.channel)
  }

  #headers(text: string, position: number): ReadonlyMap<string, string> {
    const headers = decodeHeaders(text)
    if (headers === undefined) throw new DamagedRow(`the headers at position ${position} of ${this.channel} are none`)
    return headers
  }

  /**
   * How many records fit (I3). Adding up sizes reads no payload and costs a twentieth of reading the rows, so it always comes first: a
   * backlog of large payloads is never read at once.
   */
  #countWithin({ after, countMax, bytesMax }: ReadBounds): number {
    if ((this.#bytes.get(after, after, countMax)?.[0] ?? 0) <= bytesMax) return countMax
    let bytes = 0
    let count = 0
    for (const [size] of this.#sizes.all(after, countMax)) {
      bytes += size
      if (count > 0 && bytes > bytesMax) break
      count += 1
    }
    return count
  }
}

const encodeHeaders = (headers: ReadonlyMap<string, string>): string => JSON.stringify([...headers])

const decodeHeaders = (text: string): ReadonlyMap<string, string> | undefined => {
  try {
    const pairs: unknown = JSON.parse(text)
    return Array.isArray(pairs) && pairs.every(isHeader) ? new Map(pairs as [string, string][]) : undefined
  } catch {
    return undefined
  }
}

const isHeader = (pair: unknown): boolean => Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string")

/** Hot path. */
const isRow = ([, publishedAt, headers, payload]: Row): boolean =>
  typeof publishedAt === "number" && (headers === null || typeof headers === "string") && payload instanceof Uint8Array
