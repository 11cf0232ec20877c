/** What servers answer to a message, and what that means for whoever sent it (P13 to P15). Values in, values out. */
import type { Msg } from "@nats-io/transport-node"
import { KeyfoldError } from "../errors.ts"

/** Why a message is not known to be stored. */
export interface Hitch {
  /**
   * `look`: the last message of the own subject decides (P14). `again`: it was not stored, and passes by itself (P15); `full` is that too,
   * when somebody makes room. `nobody`: no stream listens, now or for ever. `refused`: it will never be stored.
   */
  readonly kind: "look" | "again" | "full" | "nobody" | "refused"
  /** Whether it may be stored all the same, or still be on its way. */
  readonly maybeStored: boolean
  /** For people. */
  readonly reason: string
  /** Where the message is, or was: a server also knows duplicates of messages that have been removed since. */
  readonly duplicateOf?: number
}

export const isHitch = (answer: object): answer is Hitch => "maybeStored" in answer

export const silence: Hitch = { kind: "look", maybeStored: true, reason: "no answer in time" }
export const disconnected: Hitch = { kind: "look", maybeStored: true, reason: "the connection was lost" }
export const notSent: Hitch = { kind: "again", maybeStored: false, reason: "not connected" }
export const connectionClosed: Hitch = { kind: "refused", maybeStored: true, reason: "the connection was closed" }

export const denied = (reason: string): Hitch => ({ kind: "refused", maybeStored: false, reason })

const nobody: Hitch = { kind: "nobody", maybeStored: false, reason: "no stream takes it" }
/** The sequence that the message was stored at just now, or why it is not known to be stored. */
export const readAck = (message: Msg): number | Hitch => {
  const sequence = plainSequence(message.data)
  if (sequence > 0 && sequence <= Number.MAX_SAFE_INTEGER) return sequence
  if (message.data.byteLength === 0) return isNoResponders(message) ? nobody : unreadable
  const answer = readJson<Ack>(message)
  if (answer === undefined) return unreadable
  if (answer.error !== undefined) return hitchOf(answer.error)
  const { seq = 0, duplicate = false } = answer
  if (!Number.isSafeInteger(seq) || seq < 0) return unreadable
  // P14: a server that has not stored the first one yet says `duplicate` and no sequence.
  return duplicate || seq === 0 ? { kind: "look", maybeStored: true, reason: "it is a duplicate", duplicateOf: seq } : seq
}

/** Hot path: of `{"stream":"clicks-0","seq":17}` the 17, without the cost of reading the rest; 0 for everything else. */
const plainSequence = (data: Uint8Array): number => {
  let at = data.byteLength - 2 // before the closing brace
  let sequence = 0
  for (let scale = 1; at > 0; at--, scale *= 10) {
    const digit = (data[at] as number) - 48
    if (digit < 0 || digit > 9) break
    sequence += digit * scale
  }
  for (let index = 0; index < sequenceName.length; index++) {
    if (data[at - index] !== sequenceName[sequenceName.length - 1 - index]) return 0
  }
  return data[2] === firstOfStream ? sequence : 0
}

const sequenceName = Buffer.from('"seq":')
const firstOfStream = "s".charCodeAt(0)

/** For whoever is content with a message that was stored before. */
export const isStoredBefore = ({ duplicateOf = 0 }: Hitch): boolean => duplicateOf > 0

/** An answer of the JetStream API: what was asked for, or the error in its place. */
export const readReply = <A>(message: Msg): (A & { readonly error?: ServerError }) | Hitch => {
  if (message.data.byteLength === 0 && isNoResponders(message)) return nobody
  return readJson<A & { readonly error?: ServerError }>(message) ?? unreadable
}

export interface ServerError {
  readonly code?: number
  readonly err_code?: number
  readonly description?: string
}

interface Ack {
  readonly seq?: number
  readonly duplicate?: boolean
  readonly error?: ServerError
}

export const errorCode = { wrongLastSequence: 10_071, noMessage: 10_037, streamNotFound: 10_059 } as const

/** P15: 10158 is a duplicate in process, 10164 one of the subject in process. */
const passing = new Set([10_158, 10_164])

/** Limits of the stream (10077, its description says which), the account (10002) and the server (10023, 10028, 10047). */
const full = new Set([10_077, 10_002, 10_023, 10_028, 10_047])

export const hitchOf = (error: ServerError): Hitch => {
  const { code: status = 0, err_code: code = 0, description } = error
  const words = typeof description === "string" ? description : "an error without words"
  const reason = `${words} (${code === 0 ? status : code})`
  if (code === errorCode.wrongLastSequence) return { kind: "look", maybeStored: false, reason }
  if (passing.has(code)) return { kind: "again", maybeStored: false, reason }
  if (full.has(code)) return { kind: "full", maybeStored: false, reason }
  if (code === errorCode.streamNotFound) return nobody
  return status >= 500 || status === 408 || status === 429
    ? { kind: "again", maybeStored: true, reason }
    : { kind: "refused", maybeStored: false, reason }
}

/** What those are told who do not wait for ever, and everybody when it never passes. */
export const hitchError = (what: string, { kind, maybeStored, reason }: Hitch): KeyfoldError => {
  if (kind === "full") {
    return new KeyfoldError("storage-full", `${what} takes no more: ${reason}. Raise its limits, or remove what is not needed`)
  }
  const fate = maybeStored ? "It may have been stored all the same" : "It was not stored"
  return kind === "refused"
    ? new KeyfoldError(
        "unreachable",
        `NATS refuses a message for ${what}: ${reason}. ${fate}. Check the rights of the user and the limits of the stream`
      )
    : new KeyfoldError("unreachable", `NATS does not take a message for ${what}: ${reason}. ${fate}; look whether its servers are well`)
}

export const topicGone = (stream: string): KeyfoldError =>
  new KeyfoldError(
    "topic-mismatch",
    `the stream ${stream} does not exist any more: its topic was deleted while it was written to. Restore the stream from a backup; or ` +
      "start again, which creates the topic anew (a query that has written to it needs another name then)"
  )

const unreadable: Hitch = { kind: "again", maybeStored: true, reason: "an answer that is none of JetStream's" }

const isNoResponders = (message: Msg): boolean => message.headers?.code === 503

/** Undefined for what no server says: whoever listens on the subject may be the first to answer. */
const readJson = <A extends { readonly error?: ServerError }>(message: Msg): A | undefined => {
  try {
    const { buffer, byteOffset, byteLength } = message.data
    const answer = JSON.parse(Buffer.from(buffer, byteOffset, byteLength).toString()) as A
    return isObject(answer) && (answer.error === undefined || isServerError(answer.error)) ? answer : undefined
  } catch {
    return undefined
  }
}

const isServerError = (error: ServerError): boolean =>
  isObject(error) && [error.code, error.err_code].every((code) => code === undefined || typeof code === "number")

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value)
