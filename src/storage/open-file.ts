/**
 * Opens the one file of a directory, `keyfold.db`.
 *
 * A file is looked at through a read-only connection before anything is written: what is not ours, damaged, or of a newer format stays as
 * it is, byte for byte. A new file is made whole under another name and then linked into place, so nobody ever sees half of one, and an
 * empty `keyfold.db` is known to be a damaged one.
 */
import {
  accessSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  realpathSync,
  rmSync,
  statSync
} from "node:fs"
import { dirname, join, resolve } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { threadId } from "node:worker_threads"
import { KeyfoldError } from "../errors.ts"
import { Connection } from "./connection.ts"
import { applicationId, busyMsMax, connectionSettings, createDatabase, formatVersion } from "./schema.ts"
import { asStorageError } from "./storage-errors.ts"

/** Creates the directory if need be. Answers its real path, which tells whether two paths are the same store. */
export const makeDirectory = (directory: string): string =>
  naming(directory, () => {
    makeMissing(resolve(directory))
    return realpathSync(directory)
  })

/** One by one: `mkdirSync` with `recursive` never comes back from a path below /proc. */
const makeMissing = (directory: string): void => {
  if (isDirectory(directory)) return
  makeMissing(dirname(directory))
  try {
    mkdirSync(directory)
  } catch (thrown) {
    // Another process may have been faster.
    if (!isDirectory(directory)) throw thrown
  }
}

const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true

export const databaseFile = (directory: string): string => join(directory, "keyfold.db")

/** Throws a KeyfoldError that names the file. */
export const openFile = (directory: string): Connection => {
  const file = databaseFile(directory)
  return naming(file, () => {
    if (!existsSync(file)) createFile(directory, file)
    accessSync(file, constants.R_OK | constants.W_OK)
    accessSync(directory, constants.W_OK)
    inspect(file)
    const database = new DatabaseSync(file, { timeout: busyMsMax })
    try {
      checkHeader(database, file)
      database.exec(connectionSettings)
    } catch (thrown) {
      database.close()
      throw thrown
    }
    return new Connection(database)
  })
}

/**
 * Without a log beside it the file is complete, and `immutable` keeps SQLite from putting its own files there. Plain file access would do
 * for the header, but closing it would free the locks that this process holds on the file (POSIX).
 */
const inspect = (file: string): void => {
  const url = pathToFileURL(file)
  if (!existsSync(`${file}-wal`)) url.searchParams.set("immutable", "1")
  const probe = new DatabaseSync(url, { readOnly: true, timeout: busyMsMax })
  try {
    checkHeader(probe, file)
  } finally {
    probe.close()
  }
}

const checkHeader = (database: DatabaseSync, file: string): void => {
  const id = Number(database.prepare("PRAGMA application_id").get()?.application_id)
  const version = Number(database.prepare("PRAGMA user_version").get()?.user_version)
  if (id !== applicationId) {
    throw new KeyfoldError(
      "directory-damaged",
      `${file} is not a keyfold database, or its beginning is gone. It was left as it is: move it away, or name another directory`
    )
  }
  if (version > formatVersion) {
    throw new KeyfoldError(
      "format-newer",
      `${file} has format ${version}, this keyfold knows formats up to ${formatVersion}. It was left as it is: use a newer keyfold`
    )
  }
}

const createFile = (directory: string, file: string): void => {
  const draft = `${file}.${process.pid}-${threadId}.new`
  const clear = (): void => {
    for (const suffix of ["", "-journal", "-wal", "-shm"]) rmSync(draft + suffix, { force: true })
  }
  clear()
  try {
    const database = new DatabaseSync(draft)
    try {
      database.exec(createDatabase)
    } finally {
      database.close()
    }
    moveIntoPlace(draft, file)
    syncDirectory(directory)
  } finally {
    clear()
  }
}

/** Never over a file that another process has put there meanwhile: that one is as good as ours. */
const moveIntoPlace = (draft: string, file: string): void => {
  try {
    linkSync(draft, file)
  } catch (thrown) {
    if (codeOf(thrown) === "EEXIST") return
    // A file system without hard links. A copy can be seen half done, which is loud ("damaged"); a rename could lose the other's data.
    copyFileSync(draft, file, constants.COPYFILE_EXCL)
  }
}

/** A new name is durable when its directory is. Windows has no such call and needs none. */
const syncDirectory = (directory: string): void => {
  if (process.platform === "win32") return
  const descriptor = openSync(directory, "r")
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

const naming = <A>(path: string, work: () => A): A => {
  try {
    return work()
  } catch (thrown) {
    throw asStorageError(thrown, path)
  }
}

const codeOf = (thrown: unknown): unknown => (thrown as { readonly code?: unknown }).code
