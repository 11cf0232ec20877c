/**
 * The SQLite store: one file that all adapters of a directory share, one connection to it per process, however many jobs use it. Files
 * and formats are open-file.ts's and schema.ts's, grouping writes is write-queue.ts's.
 */
import { statSync } from "node:fs"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { KeyfoldError } from "../errors.ts"
import { ChangeNotice } from "./change-notice.ts"
import { ChangePoll } from "./change-poll.ts"
import type { Connection } from "./connection.ts"
import { JournalTables } from "./journal-tables.ts"
import { databaseFile, makeDirectory, openFile } from "./open-file.ts"
import { attempt, failureOf } from "./storage-errors.ts"
import type { Store } from "./store.ts"
import { TopicTables } from "./topic-tables.ts"
import { WriteQueue } from "./write-queue.ts"

export interface Database extends Store {
  /** Its real path. */
  readonly directory: string
  /** Fails with `directory-damaged` when the file's structure does not hold together. */
  readonly check: () => Effect.Effect<void, KeyfoldError>
}

/** What `check` reads through at most; a larger file would hold up the start for too long. */
const checkedBytesMax = 256 * 1_048_576

const databases = new Map<string, { readonly database: OpenDatabase; users: number }>()

/** Opens a directory's database, creating both if need be, until the scope closes. */
export const openDatabase = (directory: string): Effect.Effect<Database, KeyfoldError, Scope.Scope> =>
  Effect.acquireRelease(
    attempt(directory, () => share(makeDirectory(directory))),
    (database) => Effect.sync(() => leave(database))
  )

const share = (directory: string): OpenDatabase => {
  const known = databases.get(directory)
  if (known !== undefined) {
    known.users += 1
    return known.database
  }
  const database = new OpenDatabase(directory, openFile(directory))
  databases.set(directory, { database, users: 1 })
  return database
}

const leave = (database: OpenDatabase): void => {
  const known = databases.get(database.directory)
  if (known === undefined || known.database !== database) return
  known.users -= 1
  if (known.users > 0) return
  databases.delete(database.directory)
  database.close()
}

class OpenDatabase implements Database {
  readonly directory: string
  readonly name: string
  readonly claims = new Set<string>()
  readonly topics: TopicTables
  readonly journals: JournalTables
  readonly #connection: Connection
  readonly #queue: WriteQueue
  readonly #notice: ChangeNotice
  readonly #poll: ChangePoll
  readonly #touched = new Set<string>()

  constructor(directory: string, connection: Connection) {
    this.directory = directory
    this.name = databaseFile(directory)
    this.#connection = connection
    this.topics = new TopicTables(connection, (channel) => this.#touched.add(channel))
    this.journals = new JournalTables(connection)
    const version = connection.prepare<readonly [version: number]>("PRAGMA data_version")
    this.#poll = new ChangePoll(() => version.get()?.[0] ?? Number.NaN)
    this.#notice = new ChangeNotice(this.#poll)
    this.#queue = new WriteQueue(connection, this.name, () => this.#committed())
  }

  read<A>(query: () => A): Effect.Effect<A, KeyfoldError> {
    return attempt(this.name, query)
  }

  write<A>(work: () => A): Effect.Effect<A, KeyfoldError> {
    return this.#queue.write(work)
  }

  until(channels: readonly string[], ready: () => boolean): Effect.Effect<void, KeyfoldError> {
    return this.#notice.until(channels, () => {
      try {
        return ready() ? Effect.void : undefined
      } catch (thrown) {
        return failureOf(thrown, this.name)
      }
    })
  }

  check(): Effect.Effect<void, KeyfoldError> {
    return attempt(this.name, () => {
      if (statSync(this.name).size > checkedBytesMax) return
      const found = this.#connection.prepare<readonly [string]>("PRAGMA quick_check(1)").get()?.[0]
      if (found === "ok") return
      throw new KeyfoldError(
        "directory-damaged",
        `${this.name} is damaged (${found}). Restore the directory from a backup, or move it away to begin from nothing`
      )
    })
  }

  close(): void {
    this.#queue.drain()
    this.#poll.stop()
    this.#connection.close()
  }

  #committed(): void {
    this.#notice.changed(this.#touched)
    this.#touched.clear()
  }
}
