/**
 * Every error that keyfold raises, and who acts on it.
 *
 * There is one class, told apart by `code`: a user catches `KeyfoldError` and switches on the code. docs/errors.md has cause and cure for
 * each. An `InvariantError` is our own mistake: it is never caught on the way, the query stops with it.
 */

/** What went wrong, and who must act. docs/errors.md explains each. */
export const errorCodes = {
  // The caller's code: mend the program.
  "illegal-argument": "an argument that can never be right",
  "unsupported-operation": "a call that this kind of state function or runtime does not allow",
  "no-state": "get() on a key without state",
  "job-invalid": "a job that cannot work",
  "option-invalid": "an option outside its bounds",
  "topic-mismatch": "a topic that was created with other settings",
  "schema-incompatible": "stored state that was written with another codec",
  // The data: the record is dead-lettered, the job goes on.
  "key-invalid": "a key without value equality",
  "event-time-invalid": "a row without a usable event time",
  "decode-failed": "bytes that the codec refuses",
  "encode-failed": "a value that the codec refuses",
  "function-failed": "a function of the job that threw",
  // The world: somebody must look before the query goes on.
  "source-gap": "records that are gone before they were read",
  fenced: "another owner took the partition over",
  "journal-behind-outputs": "the journal has lost what was already published",
  "output-fate-unknown": "nobody can tell whether an output was stored",
  "directory-in-use": "another process runs a query on the directory",
  "directory-damaged": "files that are not, or no longer, a keyfold directory",
  "format-newer": "files written by a newer keyfold",
  "storage-full": "a disk that takes no more",
  unreachable: "a server or directory that cannot be reached",
  "durability-refused": "less durability than was asked for"
} as const

export type ErrorCode = keyof typeof errorCodes

/** One fault of several: the parts of a `job-invalid` or `option-invalid` error. */
export interface Fault {
  readonly code: string
  readonly message: string
}

/** The one error class of keyfold. `code` says what happened; `faults` names every single fault where there may be several. */
export class KeyfoldError extends Error {
  readonly _tag: string = "KeyfoldError"
  readonly code: ErrorCode
  readonly faults: readonly Fault[]

  constructor(code: ErrorCode, message: string, options: { readonly faults?: readonly Fault[]; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = "KeyfoldError"
    this.code = code
    this.faults = options.faults ?? [{ code, message }]
  }
}

/** A law of keyfold's own that did not hold: a bug. Never caught; the partition stops, and the journal is what counts. */
export class InvariantError extends Error {
  readonly _tag = "InvariantError"
  override readonly name = "InvariantError"
}

/** Crashes when a law of ours does not hold. `law` starts with its number: "A2: ...". */
export function invariant(holds: boolean, law: string): asserts holds {
  if (!holds) throw new InvariantError(law)
}

/** All faults in one error, the first in its message, or nothing when there are none. */
export function failWithFaults(code: ErrorCode, what: string, faults: readonly Fault[]): void {
  if (faults.length === 0) return
  const message = `${what}: ${faults.map((fault) => fault.message).join("; ")}`
  throw new KeyfoldError(code, message, { faults })
}

/** The text of anything that was thrown, for a message or a dead letter. */
export const reasonOf = (thrown: unknown): string => {
  if (thrown instanceof Error) return thrown.message === "" ? thrown.name : thrown.message
  try {
    return String(thrown)
  } catch {
    return "a value that cannot be printed"
  }
}

/** What was thrown, as a KeyfoldError: its own, or wrapped under `code`. Our own bugs pass through untouched. */
export const asKeyfoldError = (thrown: unknown, code: ErrorCode, what: string): KeyfoldError => {
  if (thrown instanceof InvariantError) throw thrown
  return thrown instanceof KeyfoldError ? thrown : new KeyfoldError(code, `${what}: ${reasonOf(thrown)}`, { cause: thrown })
}

/** Any value in a message, short and without ever throwing. */
export const shown = (value: unknown): string => {
  try {
    const text = typeof value === "bigint" ? `${value}n` : (JSON.stringify(value) ?? String(value))
    return text.length > 80 ? `${text.slice(0, 77)}...` : text
  } catch {
    return reasonOf(value)
  }
}
