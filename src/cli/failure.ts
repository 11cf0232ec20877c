/** What is printed when something goes wrong, and the exit code. A person who can act gets a line and a cure; our own bugs a stack. Pure. */
import type { ErrorCode, Fault } from "../errors.ts"
import { placeOf } from "./place.ts"
import { type ExitCode, Refusal } from "./refusal.ts"

export interface FailureReport {
  readonly lines: readonly string[]
  readonly exitCode: Extract<ExitCode, 1 | 2>
}

export const failureReport = (thrown: unknown): FailureReport => {
  if (thrown instanceof Refusal) return refusalReport(thrown)
  const bug = bugIn(thrown)
  if (bug !== undefined) return bugReport(bug)
  if (isKeyfoldError(thrown)) return keyfoldReport(thrown)
  if (isSystemError(thrown)) return { lines: [`keyfold: ${thrown.message}`], exitCode: 1 }
  return bugReport(thrown instanceof Error ? thrown : new Error(`something that is no error was thrown: ${String(thrown)}`))
}

/** What the command reads of a KeyfoldError. Told by its tag: a module may have a copy of keyfold of its own. */
export interface KeyfoldErrorLike extends Error {
  readonly code: string
  readonly faults: readonly Fault[]
}

export const isKeyfoldError = (thrown: unknown): thrown is KeyfoldErrorLike => tagOf(thrown) === "KeyfoldError"

const isInvariantError = (thrown: unknown): thrown is Error => tagOf(thrown) === "InvariantError"

/** A law of ours that did not hold, or what a query calls a fault of keyfold itself. */
const bugIn = (thrown: unknown): Error | undefined => {
  if (isInvariantError(thrown)) return thrown
  if (!isKeyfoldError(thrown) || !(thrown.cause instanceof Error)) return undefined
  return isInvariantError(thrown.cause) || thrown.message.startsWith("a fault of keyfold itself") ? thrown.cause : undefined
}

const tagOf = (thrown: unknown): unknown => (thrown instanceof Error ? (thrown as { readonly _tag?: unknown })._tag : undefined)

/** The operating system said no: "ENOENT: no such file or directory, open 'x'". */
const isSystemError = (thrown: unknown): thrown is NodeJS.ErrnoException =>
  thrown instanceof Error && typeof (thrown as NodeJS.ErrnoException).syscall === "string"

const refusalReport = ({ message, hint, exitCode }: Refusal): FailureReport => ({
  lines: [`keyfold: ${message}`, ...(hint === undefined ? [] : [hint])],
  exitCode
})

const keyfoldReport = (error: KeyfoldErrorLike): FailureReport => {
  if (error.code === "job-invalid" || error.code === "option-invalid") return refusedReport(error)
  const cure = Object.hasOwn(cures, error.code) ? cures[error.code as ErrorCode] : undefined
  const place = error.cause instanceof Error ? placeOf(error.cause) : undefined
  const at = place === undefined ? "" : ` at ${place}`
  return { lines: [`keyfold: ${error.message} (${error.code}${at})`, ...(cure === undefined ? [] : [cure])], exitCode: 1 }
}

/** Every fault on a line of its own. */
const refusedReport = (error: KeyfoldErrorLike): FailureReport => {
  const [only] = error.faults
  if (error.faults.length === 1 && only?.message === error.message) return { lines: [`keyfold: ${error.message}`], exitCode: 2 }
  return { lines: [`keyfold: ${headOf(error)}`, ...error.faults.map((fault) => `  - ${fault.message}`)], exitCode: 2 }
}

/** `the job "x" cannot work` of `the job "x" cannot work: one; two`. */
const headOf = ({ message, faults }: KeyfoldErrorLike): string => {
  const end = message.indexOf(`: ${faults[0]?.message ?? ""}`)
  return end > 0 ? `${message.slice(0, end)}:` : message
}

const bugReport = (error: Error): FailureReport => ({
  lines: [
    "keyfold: this is a bug in keyfold, nothing that you did; what was committed is safe. Please report it with these lines:",
    stackOf(error)
  ],
  exitCode: 1
})

const stackOf = (error: Error): string => error.stack ?? `${error.name}: ${error.message}`

/** What to do, for each code; undefined where the message has said it. docs/errors.md explains more. */
const cures: Record<ErrorCode, string | undefined> = {
  "illegal-argument": "Mend the call that the message names.",
  "unsupported-operation": undefined,
  "no-state": "Ask state.exists first, or use state.getOption().",
  "job-invalid": undefined,
  "option-invalid": undefined,
  "topic-mismatch": "Declare the topic as it was created, or use another name.",
  "schema-incompatible": "Give the job another name to start afresh, or go back to the old codec.",
  "key-invalid": "A key must be a string, number, boolean, null, or an array or plain object of them.",
  "event-time-invalid": "withWatermark's function must answer milliseconds since 1970.",
  "decode-failed": "Look at the record with keyfold tail, or let the job dead-letter it (onError).",
  "encode-failed": "Look at what the function yields, and at the topic's codec.",
  "function-failed": "Mend the function and run again: the job goes on at the events that failed.",
  "source-gap": "Records were removed before the job read them. Run it under another job name to begin with what is there.",
  fenced: "Another process owns the partition now: run a job once per directory, or as workers of a cluster.",
  "journal-behind-outputs": "Restore the newest copy, run under another job name, or go on from what is there with --accept-loss.",
  "output-fate-unknown": "See docs/errors.md before you run the job again.",
  "directory-in-use": "Stop the other keyfold run, or give this one its own --data DIR.",
  "directory-damaged": "Restore the directory from a copy, or give another --data DIR.",
  "format-newer": "Use the newer keyfold that wrote it.",
  "storage-full": "Make room on the disk and run again: nothing is lost.",
  unreachable: "Check that the directory (--data) or the servers (--nats, --redis) can be reached, then run again: nothing is lost.",
  "durability-refused": undefined
}
