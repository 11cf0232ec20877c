/** What a topic holds, on its way in and on its way out. Bytes here; values live in rows (partition) and calls (activation). */

/** Where a record came from, as a job's functions see it. */
export interface RecordInfo {
  readonly topic: string
  readonly partition: number
  /** 1-based and dense within the partition: the next record's is one more. */
  readonly position: number
  /** 0-based place within a record batch; 0 for a record of its own. */
  readonly index: number
  /** Milliseconds since the epoch, by the publisher's clock; by the NATS server's on the clustered runtime. */
  readonly publishedAt: number
  readonly headers: ReadonlyMap<string, string>
}

/** Where a row came from: a record of a source, also when the row has travelled through an internal topic since. */
export type RecordOrigin = Pick<RecordInfo, "topic" | "partition" | "position" | "publishedAt">

/** A record as a source hands it over. */
export interface StoredRecord extends RecordInfo {
  readonly payload: Uint8Array
  /** Of a job's output that may have been stored twice: readers drop what they have seen (P17). */
  readonly identity: WriterNumber | undefined
}

/** How far a log has been read, and enough of it to notice that it is another one by now (P3). */
export interface ReadPosition {
  /** Of the log: differs when it was deleted and created again. */
  readonly created: string
  /** The last record's that was read; 0 for none. */
  readonly position: number
  /** The last record's; null when it is not known. */
  readonly publishedAt: number | null
}

/** The identity of a job's output in one partition of a topic: the writer's own dense number (PROTOCOL, Names). */
export interface WriterNumber {
  readonly writer: string
  readonly number: number
}

/** A record on its way into a topic. Records of a job carry their writer's number, a publisher's do not. */
export interface NewRecord {
  readonly topic: string
  readonly partition: number
  readonly publishedAt: number
  readonly headers: ReadonlyMap<string, string>
  readonly payload: Uint8Array
  readonly identity: WriterNumber | undefined
}

export const noHeaders: ReadonlyMap<string, string> = new Map()

/** One partition of one topic. */
export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}
