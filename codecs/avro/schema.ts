/**
 * Avro schemas as a small tree of our own. avsc parses and checks them (names, namespaces, defaults) and gives the Parsing Canonical Form;
 * the bytes are input.ts' and output.ts' business.
 */
import avsc, { type Type, type types } from "avsc"

export type Primitive = "null" | "boolean" | "int" | "long" | "float" | "double" | "bytes" | "string"

export type Schema = PrimitiveSchema | FixedSchema | EnumSchema | ArraySchema | MapSchema | UnionSchema | RecordSchema

export interface PrimitiveSchema {
  readonly kind: Primitive
}

/** Names are full names; aliases too. */
interface Named {
  readonly name: string
  readonly aliases: readonly string[]
}

export interface FixedSchema extends Named {
  readonly kind: "fixed"
  readonly size: number
}

export interface EnumSchema extends Named {
  readonly kind: "enum"
  readonly symbols: readonly string[]
  /** What a symbol that we do not have is read as. */
  readonly otherwise: string | undefined
}

export interface ArraySchema {
  readonly kind: "array"
  readonly items: Schema
}

export interface MapSchema {
  readonly kind: "map"
  readonly values: Schema
}

export interface UnionSchema {
  readonly kind: "union"
  /** Whether JavaScript cannot tell the branches apart: then a value is `{ branch: value }`. */
  readonly wrapped: boolean
  readonly branches: readonly Branch[]
}

export interface Branch {
  readonly name: string
  readonly schema: Schema
}

export interface RecordSchema extends Named {
  readonly kind: "record"
  /** Filled after the record is made, for schemas that contain themselves. */
  readonly fields: readonly Field[]
}

export interface Field {
  readonly name: string
  readonly aliases: readonly string[]
  readonly schema: Schema
  /** The default as Avro bytes; undefined: there is none. */
  readonly otherwise: Uint8Array | undefined
}

export interface ParsedSchema {
  readonly schema: Schema
  /** CRC-64-AVRO of the Parsing Canonical Form. */
  readonly fingerprint: bigint
}

/** Throws on what is no Avro schema. */
export const parseSchema = (declared: unknown): ParsedSchema => {
  const source = typeof declared === "string" && /^\s*[[{"]/.test(declared) ? (JSON.parse(declared) as unknown) : declared
  // A schema of avsc's own stands for what it was made of: its settings (wrapped unions, records with methods) are not ours.
  const plain = avsc.Type.isType(source) ? (source as Type).schema({ exportAttrs: true }) : source
  const type = avsc.Type.forSchema(plain as Parameters<typeof avsc.Type.forSchema>[0], { noAnonymousTypes: true, omitRecordMethods: true })
  return { schema: treeOf(type, new Map()), fingerprint: crc64Avro(JSON.stringify(type.schema())) }
}

/** `known` has the records on the way, for those that contain themselves. */
const treeOf = (type: Type, known: Map<Type, Schema>): Schema => {
  const { typeName } = type
  const { name = "", aliases = [] } = type
  switch (typeName) {
    case "record":
    case "error":
      return known.get(type) ?? recordOf(type as types.RecordType, known)
    case "array":
      return { kind: "array", items: treeOf((type as types.ArrayType).itemsType, known) }
    case "map":
      return { kind: "map", values: treeOf((type as types.MapType).valuesType as Type, known) }
    case "union:wrapped":
    case "union:unwrapped": {
      const branches = (type as types.WrappedUnionType).types.map((branch) => ({
        name: branch.branchName as string,
        schema: treeOf(branch, known)
      }))
      return { kind: "union", wrapped: typeName === "union:wrapped", branches }
    }
    case "enum": {
      const { symbols, default: otherwise } = type as types.EnumType & { readonly default?: string }
      return { kind: "enum", name, aliases, symbols, otherwise }
    }
    case "fixed":
      return { kind: "fixed", name, aliases, size: (type as types.FixedType).size }
    default:
      return { kind: typeName as Primitive }
  }
}

const recordOf = (type: types.RecordType, known: Map<Type, Schema>): RecordSchema => {
  const fields: Field[] = []
  const record: RecordSchema = { kind: "record", name: type.name as string, aliases: type.aliases ?? [], fields }
  known.set(type, record)
  for (const field of type.fields) {
    // An object cannot have a member of this name without becoming something else.
    if (field.name === "__proto__") throw new TypeError("no field can be called __proto__")
    const value: unknown = field.defaultValue()
    const otherwise = value === undefined ? undefined : new Uint8Array(field.type.toBuffer(value))
    fields.push({ name: field.name, aliases: field.aliases, schema: treeOf(field.type, known), otherwise })
  }
  return record
}

/** Of a text in UTF-8. Bit by bit: a schema is short, and this is done once. */
export const crc64Avro = (text: string): bigint => {
  let hash = crc64Empty
  for (const byte of Buffer.from(text)) {
    hash ^= BigInt(byte)
    for (let bit = 0; bit < 8; bit++) hash = (hash >> 1n) ^ ((hash & 1n) * crc64Empty)
  }
  return hash
}

const crc64Empty = 0xc15d213aa4d7a795n

/** As people write it: sixteen hexadecimal digits, the highest first. */
export const fingerprintText = (fingerprint: bigint): string => fingerprint.toString(16).padStart(16, "0")

export const fingerprintOf = (bytes: Uint8Array, at: number): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(at, true)
