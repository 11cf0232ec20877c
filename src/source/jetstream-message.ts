/** One message of a stream, as it lies in the buffer, and the record that is made of it. Runs per message (R16). */
import type { Msg } from "@nats-io/transport-node"
import { isInternalHeader, numberHeader, writerOfSubject } from "../model/jetstream-names.ts"
import { noHeaders, type StoredRecord, type WriterNumber } from "../model/record.ts"
import type { StreamPlace } from "./jetstream-guard.ts"

/**
 * What the client's message is made of. Its own accessors decode headers and reply into objects and strings, which costs more than
 * everything else here.
 */
interface RawMessage {
  readonly _msg: { readonly subject: Uint8Array; readonly reply?: Uint8Array; readonly hdr: number }
  readonly _rdata: Uint8Array
}

const raw = (message: Msg): RawMessage => message as unknown as RawMessage

/**
 * What the reply subject of a consumer's messages says:
 * `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<nanoseconds>.<pending>`.
 */
export class Arrival {
  position = 0
  publishedAt = 0
  /** As the server counts them. */
  bytes = 0
  /** Bytes before the numbers, the same for all messages of a consumer. */
  #prefixBytes = 0

  /** Answers false for a status message, which has none. */
  read(message: Msg): boolean {
    const { subject, reply } = raw(message)._msg
    if (reply === undefined || reply.length === 0) return false
    if (reply[this.#prefixBytes - 1] !== dot) {
      const prefixBytes = prefixBytesOf(Buffer.from(reply).toString("latin1"))
      if (prefixBytes === undefined) return false
      this.#prefixBytes = prefixBytes
    }
    const sequenceAt = reply.indexOf(dot, this.#prefixBytes) + 1
    const sequenceEnd = reply.indexOf(dot, sequenceAt)
    const timeAt = reply.indexOf(dot, sequenceEnd + 1) + 1
    this.position = numberIn(reply, sequenceAt, sequenceEnd)
    this.publishedAt = numberIn(reply, timeAt, reply.indexOf(dot, timeAt) - nanosecondDigits)
    this.bytes = subject.length + reply.length + raw(message)._rdata.length
    return true
  }
}

const dot = 46

/** What nanoseconds have more digits than milliseconds. */
const nanosecondDigits = 6

/** Servers may put a domain and the account before the stream's name. */
const prefixBytesOf = (reply: string): number | undefined => {
  const tokens = reply.split(".")
  return tokens.length < 9 ? undefined : tokens.slice(0, tokens.length === 9 ? 4 : 6).join(".").length + 1
}

const numberIn = (digits: Uint8Array, from: number, to: number): number => {
  let value = 0
  for (let at = from; at < to; at++) value = value * 10 + (digits[at] as number) - 48
  return value
}

export class BufferedMessage {
  readonly position: number
  readonly publishedAt: number
  readonly data: Uint8Array
  /** Payload bytes of the reader up to and with this message. */
  readonly bytesEnd: number
  readonly #message: Msg

  constructor(arrival: Arrival, message: Msg, bytesBefore: number) {
    this.position = arrival.position
    this.publishedAt = arrival.publishedAt
    this.data = message.data
    this.bytesEnd = bytesBefore + this.data.byteLength
    this.#message = message
  }

  record(of: StreamPlace): StoredRecord {
    return new JetStreamRecord(of, this, this.#message)
  }
}

/** Its payload is its own: what is done to it does not show in another reading, and it holds no larger buffer in memory. */
class JetStreamRecord implements StoredRecord {
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly index = 0
  readonly publishedAt: number
  readonly headers: ReadonlyMap<string, string>
  readonly payload: Uint8Array
  readonly identity: WriterNumber | undefined

  constructor(of: StreamPlace, at: BufferedMessage, message: Msg) {
    this.topic = of.topic
    this.partition = of.partition
    this.position = at.position
    this.publishedAt = at.publishedAt
    this.payload = new Uint8Array(at.data)
    const { hdr } = raw(message)._msg
    const read = hdr > 0 ? readHeaders(raw(message)._rdata, hdr) : nothingRead
    this.headers = read.own
    this.identity = read.number === 0 ? undefined : identityOf(of, read.number, message.subject)
  }
}

interface ReadHeaders {
  readonly own: ReadonlyMap<string, string>
  /** The writer's number; 0 for none. */
  readonly number: number
}

const nothingRead: ReadHeaders = { own: noHeaders, number: 0 }

/**
 * A header block: a line for the version, then `name: value` lines. The record's own come in lower case; one that comes several times is
 * one with all values, as in HTTP.
 */
const readHeaders = (bytes: Uint8Array, length: number): ReadHeaders => {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, length).toString("utf8")
  let own: Map<string, string> | undefined
  let number = 0
  for (let at = text.indexOf("\r\n") + 2; at > 1 && at < text.length; ) {
    const end = text.indexOf("\r\n", at)
    const lineEnd = end < 0 ? text.length : end
    const colon = text.indexOf(":", at)
    if (colon > at && colon < lineEnd) {
      const name = text.slice(at, colon).toLowerCase()
      if (name === numberHeader) number = numberOf(text.slice(colon + 1, lineEnd))
      else if (!isInternalHeader(name)) {
        own ??= new Map()
        const value = text.slice(colon + 1, lineEnd).trim()
        const before = own.get(name)
        own.set(name, before === undefined ? value : `${before}, ${value}`)
      }
    }
    at = lineEnd + 2
  }
  return { own: own ?? noHeaders, number }
}

const numberOf = (text: string): number => {
  const number = Number(text)
  return Number.isSafeInteger(number) && number > 0 ? number : 0
}

/**
 * A number without a writer's subject is a foreign publisher's, and taken as it is (P17). A foreign stream may gather several partitions, and
 * a writer numbers each of them by itself: there it is told apart by its whole subject.
 */
const identityOf = ({ topic, stream }: StreamPlace, number: number, subject: string): WriterNumber | undefined => {
  const writer = writerOfSubject(subject)
  if (writer === undefined) return undefined
  return { writer: topic === stream ? subject : writer, number }
}
