/**
 * What is fuzzed: something that reads bytes, and the laws that hold whatever the bytes are.
 *
 * Z1. It answers, or throws an error of keyfold's with one of the codes that such damage may have; nothing else is ever thrown.
 * Z2. The message names what is damaged.
 * Z3. It takes a bounded time and a bounded memory, whatever lengths and counts the bytes claim.
 * Z4. What it has read comes out the same when it is written and read again; each target's `read` sees to that by itself.
 */
import { isPromise } from "node:util/types"
import { Refusal } from "../../src/cli/refusal.ts"
import { type ErrorCode, KeyfoldError } from "../../src/errors.ts"

/** "refusal": of the command line, for a person. */
export type Code = ErrorCode | "refusal"

export interface Target {
  readonly name: string
  /** Reads one input, and checks what it has read. May answer a promise. */
  readonly read: (input: Buffer) => unknown
  /** Which errors damage may end in (Z1). */
  readonly allowed: readonly Code[]
  /** What each message says (Z2). */
  readonly names: RegExp
  /** Puts a checksum right, so that what is behind it is reached. */
  readonly sealed?: (input: Buffer) => Buffer
  /** What the format has a meaning for. */
  readonly words?: readonly string[]
  /** Inputs of the default tier; fewer than others have for what takes milliseconds. */
  readonly inputs?: number
  /** Everything has its place in it, as in a file of pages. */
  readonly isPlaced?: true
  /** Kept inputs are gzip files. */
  readonly isPacked?: true
}

export type Outcome = { readonly kind: "read" } | { readonly kind: "refused"; readonly code: Code } | Fault

/** A law that did not hold. */
export interface Fault {
  readonly kind: "fault"
  /** In a word or two, the same for inputs that show the same: "TypeError", "slow". */
  readonly what: string
  readonly detail: string
}

export const outcomeOf = (target: Target, input: Buffer): Outcome | Promise<Outcome> => {
  const refused = (thrown: unknown): Outcome => refusalOf(target, thrown)
  try {
    const answer = target.read(input)
    return isPromise(answer) ? answer.then(() => wasRead, refused) : wasRead
  } catch (thrown) {
    return refused(thrown)
  }
}

const wasRead: Outcome = { kind: "read" }

const refusalOf = ({ allowed, names }: Target, thrown: unknown): Outcome => {
  const code = thrown instanceof KeyfoldError ? thrown.code : thrown instanceof Refusal ? "refusal" : undefined
  if (code === undefined) return crash(thrown)
  const { message } = thrown as Error
  if (!allowed.includes(code)) return { kind: "fault", what: code, detail: `Z1: ${code} is no error of this damage: ${message}` }
  if (!names.test(message)) return { kind: "fault", what: "unnamed", detail: `Z2: the message names nothing: ${message}` }
  return { kind: "refused", code }
}

const crash = (thrown: unknown): Fault => {
  const { name = "unknown", stack = String(thrown) } = (thrown ?? {}) as { readonly name?: string; readonly stack?: string }
  return { kind: "fault", what: name, detail: `Z1: ${stack}` }
}
