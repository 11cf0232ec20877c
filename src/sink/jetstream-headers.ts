/** The header blocks of messages, as bytes: written once, instead of building the client's map for each message. */
import { type MsgHdrs, MsgHdrsImpl } from "@nats-io/transport-node"
import { KeyfoldError } from "../errors.ts"
import { isInternalHeader, messageId, messageIdHeader, numberHeader } from "../model/jetstream-names.ts"
import type { NewRecord, WriterNumber } from "../model/record.ts"

/** P12: `expected` is the sequence of the writer's last message in the stream, 0 for none. */
export const writerHeaders = (headers: NewRecord["headers"], { writer, number }: WriterNumber, expected: number): MsgHdrs =>
  new Encoded(
    `NATS/1.0\r\n${messageIdHeader}: ${messageId(writer, number)}\r\n${numberHeader}: ${number}\r\n${expectedHeader}: ${expected}\r\n`,
    headers
  )

/** Of a record without a writer; `id` lets the server drop a repetition. */
export const publisherHeaders = (headers: NewRecord["headers"], id: string): MsgHdrs =>
  new Encoded(`NATS/1.0\r\n${messageIdHeader}: ${id}\r\n`, headers)

const expectedHeader = "Nats-Expected-Last-Subject-Sequence"

/** The client asks for nothing but the bytes. */
class Encoded extends MsgHdrsImpl {
  readonly #bytes: Uint8Array

  constructor(own: string, headers: ReadonlyMap<string, string>) {
    super()
    this.#bytes = headers.size === 0 ? Buffer.from(`${own}\r\n`, "latin1") : Buffer.from(`${own}${linesOf(headers)}\r\n`)
  }

  override encode(): Uint8Array {
    return this.#bytes
  }
}

const linesOf = (headers: ReadonlyMap<string, string>): string => {
  let lines = ""
  for (const [name, value] of headers) {
    if (isInternalHeader(name.toLowerCase())) continue // what concerns one hop is not copied to the next
    if (!nameShape.test(name) || /[\r\n]/.test(value) || value !== value.trim()) {
      const message = `the header ${JSON.stringify(name)} cannot travel through NATS: names are visible ASCII without a colon, values have no line breaks and no space around them`
      throw new KeyfoldError("encode-failed", message)
    }
    lines += `${name}: ${value}\r\n`
  }
  return lines
}

const nameShape = /^[!-9;-~]+$/
