/** What SQLite and the file system throw, as errors that name the file, the fault and the cure. Everything else is our own mistake. */
import * as Effect from "effect/Effect"
import { type ErrorCode, InvariantError, KeyfoldError, reasonOf } from "../errors.ts"

/** SQLite's primary result codes that are the world's doing. The others (a wrong statement, a constraint) are ours. */
const sqliteFaults: { readonly [primary: number]: Fault } = {
  3: "unreachable", // PERM
  5: "busy", // BUSY
  6: "busy", // LOCKED
  8: "unreachable", // READONLY
  10: "disk-failing", // IOERR: see the extended codes
  11: "directory-damaged", // CORRUPT
  13: "storage-full", // FULL
  14: "unreachable", // CANTOPEN
  22: "storage-full", // NOLFS: the file is as large as the system allows
  26: "directory-damaged" // NOTADB
}

/** IOERR with what was being done: a write that fails for lack of space comes as IOERR unless the system says ENOSPC. */
const sqliteInputOutputFaults: { readonly [extended: number]: Fault } = {
  522: "directory-damaged", // SHORT_READ: the file is shorter than it says
  778: "storage-full", // WRITE
  4874: "storage-full", // SHMSIZE
  8458: "directory-damaged" // CORRUPTFS
}

const systemFaults: { readonly [code: string]: Fault } = {
  ENOSPC: "storage-full",
  EDQUOT: "storage-full",
  EFBIG: "storage-full",
  EIO: "disk-failing"
}

type Fault = Extract<ErrorCode, "unreachable" | "directory-damaged" | "storage-full"> | "busy" | "disk-failing"

const faultTexts: { readonly [fault in Fault]: { readonly code: ErrorCode; readonly what: string; readonly cure: string } } = {
  unreachable: {
    code: "unreachable",
    what: "cannot be opened for writing",
    cure: "Check that the path is a directory, and that this user may write to it and to the files in it"
  },
  busy: {
    code: "unreachable",
    what: "has been locked by another writer for too long",
    cure: "Look which process holds it (a copy or backup under way, a stopped process), then try again"
  },
  "disk-failing": {
    code: "unreachable",
    what: "could not be read or written",
    cure: "Look after the disk; what was committed stays as it was"
  },
  "directory-damaged": {
    code: "directory-damaged",
    what: "is damaged, or not a keyfold database",
    cure: "Restore the directory from a backup, or move it away to begin from nothing"
  },
  "storage-full": {
    code: "storage-full",
    what: "cannot grow",
    cure: "Free some space (disk, quota or file size limit) and start again; what was committed stays readable"
  }
}

/** What was thrown over a file, as a KeyfoldError; unchanged when it is one already or when it is not the world's doing. */
export const asStorageError = (thrown: unknown, file: string): unknown => {
  const fault = faultOf(thrown)
  if (fault === undefined) return thrown
  const { code, what, cure } = faultTexts[fault]
  return new KeyfoldError(code, `${file} ${what} (${reasonOf(thrown)}). ${cure}`, { cause: thrown })
}

/** A failure when the world or the data is at fault, a defect when we are. */
export const failureOf = (thrown: unknown, file: string): Effect.Effect<never, KeyfoldError> => {
  const error = asStorageError(thrown, file)
  return error instanceof KeyfoldError ? Effect.fail(error) : Effect.die(error)
}

/** Runs synchronous work over a file as an Effect. */
export const attempt = <A>(file: string, work: () => A): Effect.Effect<A, KeyfoldError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(work())
    } catch (thrown) {
      return failureOf(thrown, file)
    }
  })

/** What a row holds that nobody has written: SQLite has no checksums, and any column may hold any type. */
export class DamagedRow extends Error {}

/** A row's own columns hold what they should; what is asked for `what` says which it is. */
export function sound(holds: boolean, what: string): asserts holds {
  if (!holds) throw new DamagedRow(what)
}

/** Whether the medium itself failed, so that nothing of its transaction can be trusted. */
export const isSqliteError = (thrown: unknown): boolean => sqliteCodeOf(thrown) !== undefined

/** Whether somebody else holds the lock that was asked for. */
export const isSqliteBusy = (thrown: unknown): boolean => ((sqliteCodeOf(thrown) ?? 0) & 0xff) === 5

const faultOf = (thrown: unknown): Fault | undefined => {
  if (thrown instanceof KeyfoldError || thrown instanceof InvariantError) return undefined
  const extended = sqliteCodeOf(thrown)
  if (extended !== undefined) return sqliteInputOutputFaults[extended] ?? sqliteFaults[extended & 0xff] ?? schemaFault(thrown)
  if (thrown instanceof DamagedRow) return "directory-damaged"
  const { code, syscall } = (thrown ?? {}) as { readonly code?: unknown; readonly syscall?: unknown }
  // node:sqlite, of an integer that is beyond all that we write.
  if (code === "ERR_OUT_OF_RANGE" && /JavaScript number/.test(reasonOf(thrown))) return "directory-damaged"
  return typeof code === "string" && syscall !== undefined ? (systemFaults[code] ?? "unreachable") : undefined
}

/** Our statements fit our schema, so a table that is not there, or is another one, is the file's fault. */
const schemaFault = (thrown: unknown): Fault | undefined =>
  /^no such (table|column|index)|has no column named|^table .* has \d+ columns|malformed database schema/.test(reasonOf(thrown))
    ? "directory-damaged"
    : undefined

const sqliteCodeOf = (thrown: unknown): number | undefined => {
  const { code, errcode } = (thrown ?? {}) as { readonly code?: unknown; readonly errcode?: unknown }
  return code === "ERR_SQLITE_ERROR" && typeof errcode === "number" ? errcode : undefined
}
