/** A SQLite connection whose statements are prepared once and answer rows as arrays, which is the fastest way to read them. */
import type { DatabaseSync } from "node:sqlite"

export type Value = null | number | string | Uint8Array

export interface Statement<Row extends readonly unknown[]> {
  readonly all: (...values: readonly Value[]) => readonly Row[]
  readonly get: (...values: readonly Value[]) => Row | undefined
  readonly run: (...values: readonly Value[]) => { readonly changes: number | bigint }
}

export class Connection {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, Statement<readonly unknown[]>>()

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** `Row` is what the statement's columns are; nothing checks it. */
  prepare<Row extends readonly unknown[] = readonly []>(text: string): Statement<Row> {
    let statement = this.#statements.get(text)
    if (statement === undefined) {
      const prepared = this.#database.prepare(text)
      prepared.setReturnArrays(true)
      statement = prepared as unknown as Statement<readonly unknown[]>
      this.#statements.set(text, statement)
    }
    return statement as unknown as Statement<Row>
  }

  exec(text: string): void {
    this.#database.exec(text)
  }

  get inTransaction(): boolean {
    return this.#database.isTransaction
  }

  close(): void {
    this.#statements.clear()
    this.#database.close()
  }
}
