/** Journals in SQLite: a row for each, and rows of `state` and `delivery` keyed by its id. */

import { invariant, shown } from "../errors.ts"
import type { KeyText } from "../model/key.ts"
import { type Delivery, emptyOutbox, type JournalId, type KeyImage, type Unpublished } from "../model/turn.ts"
import type { Connection, Statement } from "./connection.ts"
import { DamagedRow, sound } from "./storage-errors.ts"
import { type JournalState, type Journals, journalName, type StoredJournal } from "./store.ts"

type JournalRow = readonly [epoch: number, revision: number, fingerprint: string | null, progress: string | null]
type DeliveryRow = readonly [revision: number, delivery: number, sink: string, payload: Uint8Array]
type ImageRow = readonly [key: string, value: Uint8Array | null, timeoutAt: number | null]

export class JournalTables implements Journals {
  readonly #connection: Connection
  readonly #known = new Map<string, JournalTable>()

  constructor(connection: Connection) {
    this.#connection = connection
  }

  find(id: JournalId): StoredJournal | undefined {
    const name = journalName(id)
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const row = this.#connection
      .prepare<readonly [id: number]>("SELECT id FROM journal WHERE query = ? AND stage = ? AND partition = ?")
      .get(id.query, id.stage, id.partition)
    if (row === undefined) return undefined
    const journal = new JournalTable(this.#connection, row[0])
    if (!this.#connection.inTransaction) this.#known.set(name, journal)
    return journal
  }

  nextEpoch(id: JournalId): number {
    const row = this.#connection
      .prepare<readonly [epoch: number]>(
        `INSERT INTO journal(query, stage, partition, epoch, revision) VALUES(?, ?, ?, 1, 0)
         ON CONFLICT DO UPDATE SET epoch = epoch + 1 RETURNING epoch`
      )
      .get(id.query, id.stage, id.partition)
    invariant(row !== undefined, "L1: an acquired journal has an epoch")
    sound(this.find(id) !== undefined, `the journal ${journalName(id)} is in its index alone`)
    return row[0]
  }
}

class JournalTable implements StoredJournal {
  readonly #id: number
  readonly #connection: Connection
  readonly #image: Statement<readonly [value: Uint8Array | null, timeoutAt: number | null]>
  readonly #put: Statement<readonly []>
  readonly #remove: Statement<readonly []>

  constructor(connection: Connection, id: number) {
    this.#id = id
    this.#connection = connection
    this.#image = connection.prepare("SELECT value, timeout_at FROM state WHERE journal = ? AND key = ?")
    this.#put = connection.prepare(
      "INSERT INTO state VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, timeout_at = excluded.timeout_at"
    )
    this.#remove = connection.prepare("DELETE FROM state WHERE journal = ? AND key = ?")
  }

  state(): JournalState {
    const row = this.#connection
      .prepare<JournalRow>("SELECT epoch, revision, fingerprint, progress FROM journal WHERE id = ?")
      .get(this.#id)
    sound(row !== undefined && isJournal(row), `what it has of a journal (${this.#id}) is none`)
    return { epoch: row[0], revision: row[1], fingerprint: row[2] ?? undefined, progress: row[3] ?? undefined }
  }

  advance({ revision, fingerprint, progress }: Omit<JournalState, "epoch">): void {
    this.#connection
      .prepare("UPDATE journal SET revision = ?, fingerprint = ?, progress = ? WHERE id = ?")
      .run(revision, fingerprint ?? null, progress ?? null, this.#id)
  }

  /** Hot path: one statement per changed key. */
  change(images: readonly KeyImage[]): void {
    for (const { keyText, bytes, timeoutAt } of images) {
      if (bytes === undefined && timeoutAt === undefined) this.#remove.run(this.#id, keyText)
      else this.#put.run(this.#id, keyText, bytes ?? null, timeoutAt ?? null)
    }
  }

  /** Hot path. Reading many keys in one transaction saves a third: SQLite then takes its read lock once. */
  load(keys: readonly KeyText[]): readonly (KeyImage | undefined)[] {
    if (this.#connection.inTransaction) return keys.map((key) => this.#load(key))
    this.#connection.prepare("BEGIN").run()
    try {
      return keys.map((key) => this.#load(key))
    } finally {
      // SQLite has rolled back by itself after some errors.
      if (this.#connection.inTransaction) this.#connection.prepare("ROLLBACK").run()
    }
  }

  due(bound: { readonly before: number; readonly countMax: number }): readonly KeyImage[] {
    const rows = this.#connection
      .prepare<ImageRow>(
        `SELECT key, value, timeout_at FROM state INDEXED BY state_timeout
         WHERE journal = ? AND timeout_at IS NOT NULL AND timeout_at < ? ORDER BY timeout_at, key LIMIT ?`
      )
      .all(this.#id, bound.before, bound.countMax)
    // SQLite passes over what its index has and its table has not: whoever asks would be told for ever that something is due.
    if (rows.length === 0 && bound.countMax > 0) sound(!((this.timeouts()?.first ?? bound.before) < bound.before), "a timeout has no key")
    return rows.map(imageOf)
  }

  timeouts(): { readonly first: number; readonly last: number } | undefined {
    const [first, last] = ["ASC", "DESC"].map(
      (order) =>
        this.#connection
          .prepare<readonly [timeoutAt: number]>(
            `SELECT timeout_at FROM state INDEXED BY state_timeout
             WHERE journal = ? AND timeout_at IS NOT NULL ORDER BY timeout_at ${order} LIMIT 1`
          )
          .get(this.#id)?.[0]
    )
    if (first === undefined || last === undefined) return undefined
    sound(typeof first === "number" && typeof last === "number", "a timeout is no time")
    return { first, last }
  }

  keys(): readonly KeyImage[] {
    return this.#connection
      .prepare<ImageRow>("SELECT key, value, timeout_at FROM state WHERE journal = ? ORDER BY key")
      .all(this.#id)
      .map(imageOf)
  }

  holdsState(): boolean {
    return this.#connection.prepare("SELECT 1 FROM state WHERE journal = ? AND value IS NOT NULL LIMIT 1").get(this.#id) !== undefined
  }

  keepDeliveries(revision: number, deliveries: readonly Delivery[]): void {
    const insert = this.#connection.prepare("INSERT INTO delivery VALUES(?, ?, ?, ?, ?, ?)")
    for (const [delivery, { sink, values }] of deliveries.entries()) {
      for (const [sequence, value] of values.entries()) insert.run(this.#id, revision, delivery, sequence, sink, value)
    }
  }

  forgetDeliveries(upTo: number): void {
    this.#connection.prepare("DELETE FROM delivery WHERE journal = ? AND revision <= ?").run(this.#id, upTo)
  }

  unpublished(): readonly Unpublished[] {
    const rows = this.#connection
      .prepare<DeliveryRow>(
        "SELECT revision, delivery, sink, payload FROM delivery WHERE journal = ? ORDER BY revision, delivery, sequence"
      )
      .all(this.#id)
    sound(rows.every(isDelivery), "a value for a sink is none")
    return [...Map.groupBy(rows, (row) => row[0])].map(([revision, ofRevision]) => ({
      revision,
      outbox: {
        ...emptyOutbox,
        deliveries: [...Map.groupBy(ofRevision, (row) => row[1]).values()].map((ofDelivery) => ({
          sink: ofDelivery[0]?.[2] as string,
          values: ofDelivery.map((row) => row[3])
        }))
      }
    }))
  }

  #load(key: KeyText): KeyImage | undefined {
    const row = this.#image.get(this.#id, key)
    return row === undefined ? undefined : imageOf([key, row[0], row[1]])
  }
}

/** Hot path. */
const imageOf = ([keyText, value, timeoutAt]: ImageRow): KeyImage => {
  const isImage = (value === null || value instanceof Uint8Array) && (timeoutAt === null || typeof timeoutAt === "number")
  if (!isImage || typeof keyText !== "string") throw new DamagedRow(`the state of the key ${shown(keyText)} is none`)
  return { keyText, bytes: value ?? undefined, timeoutAt: timeoutAt ?? undefined }
}

const isJournal = ([epoch, revision, ...texts]: JournalRow): boolean =>
  Number.isSafeInteger(epoch) && Number.isSafeInteger(revision) && texts.every((text) => text === null || typeof text === "string")

const isDelivery = ([revision, delivery, sink, payload]: DeliveryRow): boolean =>
  Number.isSafeInteger(revision) && Number.isSafeInteger(delivery) && typeof sink === "string" && payload instanceof Uint8Array
