/**
 * The lock of running queries: one process per directory. It is SQLite's own exclusive lock on a second file, `lock.db`, so the operating
 * system frees it however the process ends. `owner.json` beside it says who has it, for the error message only.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { hostname } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { KeyfoldError } from "../errors.ts"
import type { Database } from "./database.ts"
import { asStorageError, attempt, isSqliteBusy } from "./storage-errors.ts"

interface LockOwner {
  readonly pid: number
  readonly host: string
  readonly startedAt: string
  readonly keyfold: string
}

const locks = new Map<string, { readonly lock: DatabaseSync; users: number }>()

/** Takes the directory for the queries of this process, which share it, until the scope closes. Fails with `directory-in-use`. */
export const lockForQueries = Effect.fnUntraced(function* (database: Database): Effect.fn.Return<void, KeyfoldError, Scope.Scope> {
  const { directory } = database
  const startedAt = new Date(yield* Clock.currentTimeMillis).toISOString()
  yield* Effect.acquireRelease(
    attempt(lockFile(directory), () => share(directory, startedAt)),
    () => Effect.sync(() => leave(directory))
  )
  yield* database.check()
})

const lockFile = (directory: string): string => join(directory, "lock.db")
const ownerFile = (directory: string): string => join(directory, "owner.json")

const share = (directory: string, startedAt: string): void => {
  const held = locks.get(directory)
  if (held !== undefined) held.users += 1
  else locks.set(directory, { lock: take(directory, startedAt), users: 1 })
}

const leave = (directory: string): void => {
  const held = locks.get(directory)
  if (held === undefined) return
  held.users -= 1
  if (held.users > 0) return
  locks.delete(directory)
  rmSync(ownerFile(directory), { force: true })
  held.lock.close()
}

const take = (directory: string, startedAt: string): DatabaseSync => {
  const lock = new DatabaseSync(lockFile(directory), { timeout: 0 })
  try {
    lock.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
    writeOwner(directory, { pid: process.pid, host: hostname(), startedAt, keyfold: keyfoldVersion() })
    return lock
  } catch (thrown) {
    lock.close()
    throw isSqliteBusy(thrown) ? inUse(directory) : thrown
  }
}

const inUse = (directory: string): KeyfoldError => {
  const owner = readOwner(directory)
  const who =
    owner === undefined
      ? "another process runs queries on it"
      : `process ${owner.pid} on ${owner.host} has been running queries on it since ${owner.startedAt} (keyfold ${owner.keyfold})`
  return new KeyfoldError("directory-in-use", `${directory} is in use: ${who}. Stop that process, or give this one another directory`)
}

const writeOwner = (directory: string, owner: LockOwner): void => {
  const file = ownerFile(directory)
  try {
    writeFileSync(file, `${JSON.stringify(owner)}\n`)
  } catch (thrown) {
    throw asStorageError(thrown, file)
  }
}

/** Undefined in the moment between taking the lock and writing the file; whose the lock is, is not known then. */
const readOwner = (directory: string): LockOwner | undefined => {
  try {
    const owner: unknown = JSON.parse(readFileSync(ownerFile(directory), "utf8"))
    return typeof owner === "object" && owner !== null ? (owner as LockOwner) : undefined
  } catch {
    return undefined
  }
}

const keyfoldVersion = (): string => (createRequire(import.meta.url)("keyfold/package.json") as { readonly version: string }).version
