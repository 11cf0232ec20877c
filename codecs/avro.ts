/**
 * Values as Avro, each message with the fingerprint of the schema that wrote it: Avro's single-object encoding.
 *
 *   C3 01     marker, 2 bytes
 *   schema    CRC-64-AVRO of the writer's schema in Parsing Canonical Form, 8 bytes, little-endian
 *   body      the value in Avro's binary encoding
 *
 * avsc understands the schemas. The bytes are read and written here, not by avsc: it believes a count that it reads (five bytes that claim
 * an array of 2^27 longs took it two gigabytes and twelve seconds to refuse), rounds longs below -2^52, writes a Map as an empty map, forgets
 * members that the schema does not have, and answers instances of classes.
 */
import { type Codec, KeyfoldError } from "keyfold"
import { Input } from "./avro/input.ts"
import { Misfit } from "./avro/misfit.ts"
import { Output } from "./avro/output.ts"
import type { Read } from "./avro/read.ts"
import { readerOf } from "./avro/resolve.ts"
import { fingerprintOf, fingerprintText, type ParsedSchema, parseSchema } from "./avro/schema.ts"
import { writerOf } from "./avro/write.ts"

/** An Avro schema: as an object, as a union's array, as the name of a primitive type, or as JSON text. */
export type AvroSchema = string | { readonly [member: string]: unknown } | readonly unknown[]

export interface AvroOptions {
  /**
   * Schemas that stored values may still have been written with. They are read as values of the new one by Avro's schema resolution:
   * a new field needs a default, a renamed one an alias. A schema must stay listed for as long as such a value may be met.
   */
  readonly older?: readonly AvroSchema[]
}

/**
 * Values as Avro. `bytes` and `fixed` are Uint8Arrays; maps are objects; a union is the bare value where JavaScript can tell its branches
 * apart (`["null", "string"]`), else `{ branch: value }`. A field that is missing or undefined is written as its default and comes back as
 * that. Refuses what it could not keep: members that the schema does not have, a long beyond 2^53 - 1, lone surrogates, Maps and Sets.
 * Logical types are their underlying types.
 *
 * Throws `option-invalid` for what is no schema, and `schema-incompatible` for an older one that cannot be read as the new one.
 */
export const avro = <T>(schema: AvroSchema, options: AvroOptions = {}): Codec<T> => {
  const newest = parsed(schema, "the schema of an avro codec")
  const older = (options.older ?? []).map((each, index) => parsed(each, `older[${index}] of an avro codec`))
  const readers = new Map<bigint, Read>([newest, ...older].map((written) => [written.fingerprint, readerFor(written, newest)]))
  const readNewest = readers.get(newest.fingerprint) as Read
  const write = writerOf(newest.schema)
  const header = headerOf(newest.fingerprint)
  let spare: Output | undefined = new Output()
  return {
    contentType: "avro/binary",
    // The first is what it writes, the rest what else it reads (J8).
    fingerprint: [...readers.keys()].map(nameOf).join(" "),
    encode(value) {
      const output = spare ?? new Output() // a getter of the value may encode, too
      spare = undefined
      try {
        output.begin(header)
        write(output, value)
        return output.end()
      } catch (thrown) {
        throw asRefusal(thrown)
      } finally {
        spare = output
      }
    },
    decode(bytes) {
      const read = beginsWith(bytes, header) ? readNewest : (readers.get(writerOfBytes(bytes)) ?? refuseUnknown(bytes, [...readers.keys()]))
      try {
        const input = new Input(bytes, headerBytes)
        const value = read(input)
        input.end()
        return value as T
      } catch (thrown) {
        throw asRefusal(thrown)
      }
    }
  }
}

const headerBytes = 10

const headerOf = (fingerprint: bigint): Uint8Array => {
  const header = Uint8Array.of(0xc3, 0x01, 0, 0, 0, 0, 0, 0, 0, 0)
  new DataView(header.buffer).setBigUint64(2, fingerprint, true)
  return header
}

/** By far the most messages are of the newest schema: no big integer is made for them. */
const beginsWith = (bytes: Uint8Array, header: Uint8Array): boolean => {
  for (let at = 0; at < headerBytes; at++) if (bytes[at] !== header[at]) return false
  return true
}

const nameOf = (fingerprint: bigint): string => `avro/${fingerprintText(fingerprint)}`

const parsed = (schema: AvroSchema, what: string): ParsedSchema => {
  try {
    return parseSchema(schema)
  } catch (thrown) {
    throw new KeyfoldError("option-invalid", `${what} is no Avro schema: ${(thrown as Error).message}`, { cause: thrown })
  }
}

const readerFor = (written: ParsedSchema, newest: ParsedSchema): Read => {
  try {
    return readerOf(written.schema, newest.schema)
  } catch (thrown) {
    if (!(thrown instanceof Misfit)) throw thrown
    throw new KeyfoldError(
      "schema-incompatible",
      `what the older schema ${nameOf(written.fingerprint)} wrote cannot be read with ${nameOf(newest.fingerprint)}: ${thrown.text}. ` +
        "Give a new field a default, a renamed one an alias, and keep types that can be promoted"
    )
  }
}

const writerOfBytes = (bytes: Uint8Array): bigint => {
  if (bytes[0] !== 0xc3 || bytes[1] !== 0x01 || bytes.length < headerBytes) {
    const start = Buffer.from(bytes.subarray(0, headerBytes)).toString("hex")
    throw new TypeError(`not Avro's single-object encoding: it begins with ${start === "" ? "nothing" : start}, not with c301 and 8 bytes`)
  }
  return fingerprintOf(bytes, 2)
}

const refuseUnknown = (bytes: Uint8Array, known: readonly bigint[]): never => {
  throw new KeyfoldError(
    "schema-incompatible",
    `written with the Avro schema ${nameOf(fingerprintOf(bytes, 2))}, and the codec knows ${known.map(nameOf).join(", ")}. ` +
      "List the schema that wrote it: avro(schema, { older: [...] })"
  )
}

/** What does not fit is a TypeError; anything else (a getter of the value that throws) stays what it is. */
const asRefusal = (thrown: unknown): unknown => (thrown instanceof Misfit ? new TypeError(`Avro: ${thrown.text}`) : thrown)
