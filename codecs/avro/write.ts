/** From values to Avro's binary encoding: one function per schema, made once. Refuses whatever would be changed or lost in silence. */
import { kindOf, Misfit } from "./misfit.ts"
import type { Output } from "./output.ts"
import { bytesMinOf } from "./read.ts"
import type { Branch, EnumSchema, RecordSchema, Schema, UnionSchema } from "./schema.ts"

export type Write = (output: Output, value: unknown) => void

export const writerOf = (schema: Schema, known: Map<Schema, Write> = new Map()): Write => {
  switch (schema.kind) {
    case "record":
      return writesRecord(schema, known)
    case "array":
      return writesArray(writerOf(schema.items, known), bytesMinOf(schema.items) === 0)
    case "map":
      return writesMap(writerOf(schema.values, known))
    case "union":
      return schema.wrapped ? writesWrapped(schema, known) : writesBare(schema, known)
    case "enum":
      return writesEnum(schema)
    case "fixed":
      return writesFixed(schema.size)
    default:
      return writes[schema.kind]
  }
}

const refusal = (wanted: string, value: unknown): Misfit => new Misfit(`expected ${wanted}, got ${kindOf(value)}`)

const writes = {
  null(_output, value) {
    if (value !== null) throw refusal("null", value)
  },
  boolean(output, value) {
    if (typeof value !== "boolean") throw refusal("a boolean", value)
    output.byte(value ? 1 : 0)
  },
  int(output, value) {
    if (typeof value !== "number" || value !== (value | 0)) throw refusal("an int (an integer of 32 bits)", value)
    output.long(value)
  },
  long(output, value) {
    if (!Number.isSafeInteger(value)) throw refusal("a long (a safe integer, up to 2^53 - 1)", value)
    output.long(value as number)
  },
  float(output, value) {
    if (typeof value !== "number") throw refusal("a float (a number)", value)
    if (Number.isFinite(value) && !Number.isFinite(Math.fround(value))) throw new Misfit("a number too large for a float")
    output.float(value)
  },
  double(output, value) {
    if (typeof value !== "number") throw refusal("a double (a number)", value)
    output.double(value)
  },
  bytes(output, value) {
    if (!(value instanceof Uint8Array)) throw refusal("bytes (a Uint8Array)", value)
    output.long(value.length)
    output.raw(value)
  },
  string(output, value) {
    if (typeof value !== "string") throw refusal("a string", value)
    output.text(value)
  }
} satisfies Record<string, Write>

const writesFixed =
  (size: number): Write =>
  (output, value) => {
    if (!(value instanceof Uint8Array)) throw refusal(`${size} bytes (a Uint8Array)`, value)
    if (value.length !== size) throw new Misfit(`expected ${size} bytes, got ${value.length}`)
    output.raw(value)
  }

const writesEnum = ({ symbols }: EnumSchema): Write => {
  const indices = new Map<unknown, number>(symbols.map((symbol, index) => [symbol, index]))
  return (output, value) => {
    const index = indices.get(value)
    if (index === undefined) throw new Misfit(`expected one of ${symbols.join(", ")}, got ${kindOf(value)}`)
    output.long(index)
  }
}

interface WrittenField {
  readonly name: string
  readonly write: Write
  readonly otherwise: Uint8Array | undefined
  /** The name is one that every object inherits, such as "constructor". */
  readonly inherited: boolean
}

const writesRecord = (schema: RecordSchema, known: Map<Schema, Write>): Write => {
  const made = known.get(schema)
  if (made !== undefined) return made
  const fields: WrittenField[] = []
  const names = new Set<string>()
  const write: Write = (output, value) => {
    if (!isObject(value)) throw refusal(`a record (${schema.name})`, value)
    output.enter()
    let present = 0
    let at = 0
    try {
      for (; at < fields.length; at++) {
        const field = fields[at] as WrittenField
        const member = field.inherited && !Object.hasOwn(value, field.name) ? undefined : value[field.name]
        if (member !== undefined) {
          present += 1
          field.write(output, member)
        } else if (field.otherwise !== undefined) output.raw(field.otherwise)
        else throw new Misfit("is missing and has no default")
      }
    } catch (thrown) {
      throw Misfit.within(thrown, (fields[at] as WrittenField).name)
    }
    output.leave()
    if (Object.keys(value).length > present) refuseUndeclared(schema, names, value)
  }
  known.set(schema, write)
  for (const { name, schema: type, otherwise } of schema.fields) {
    names.add(name)
    fields.push({ name, write: writerOf(type, known), otherwise, inherited: name in Object.prototype })
  }
  return write
}

/** A member that the schema does not have would be lost. Undefined ones are not there, as in JSON. */
const refuseUndeclared = (schema: RecordSchema, names: ReadonlySet<string>, value: Readonly<Record<string, unknown>>): void => {
  const undeclared = Object.keys(value).find((name) => !names.has(name) && value[name] !== undefined)
  if (undeclared !== undefined) throw new Misfit(`the schema's ${schema.name} has no field ${JSON.stringify(undeclared)}`)
}

const writesArray =
  (write: Write, weightless: boolean): Write =>
  (output, value) => {
    if (!Array.isArray(value)) throw refusal("an array", value)
    const { length } = value
    if (weightless) output.weightless(length)
    if (length > 0) {
      output.long(length)
      let at = 0
      try {
        for (; at < length; at++) write(output, value[at])
      } catch (thrown) {
        throw Misfit.within(thrown, at)
      }
    }
    output.long(0)
  }

const writesMap =
  (write: Write): Write =>
  (output, value) => {
    if (!isObject(value)) throw refusal("an object of entries", value)
    const keys = Object.keys(value)
    if (keys.length > 0) {
      output.long(keys.length)
      for (const key of keys) {
        try {
          output.text(key)
          write(output, value[key])
        } catch (thrown) {
          throw Misfit.within(thrown, key)
        }
      }
    }
    output.long(0)
  }

/** Objects that have their content in members. A Map, a Set or a Date has none, and would be written as empty. */
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Object.prototype || prototype === null) return true
  return !(Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set || value instanceof Date)
}

type Bucket = "null" | "boolean" | "number" | "string" | "bytes" | "array" | "object"

const bucketOf = (value: unknown): Bucket | undefined => {
  if (value === null) return "null"
  if (typeof value === "boolean" || typeof value === "number" || typeof value === "string") return typeof value as Bucket
  if (Array.isArray(value)) return "array"
  return value instanceof Uint8Array ? "bytes" : typeof value === "object" ? "object" : undefined
}

const buckets: Readonly<Record<Exclude<Schema["kind"], "union">, Bucket>> = {
  null: "null",
  boolean: "boolean",
  int: "number",
  long: "number",
  float: "number",
  double: "number",
  string: "string",
  enum: "string",
  bytes: "bytes",
  fixed: "bytes",
  array: "array",
  map: "object",
  record: "object"
}

interface WrittenBranch {
  readonly index: number
  readonly write: Write
}

const namesOf = (branches: readonly Branch[]): string => branches.map(({ name }) => name).join(", ")

/** A union whose branches JavaScript tells apart: the value as it is. */
const writesBare = ({ branches }: UnionSchema, known: Map<Schema, Write>): Write => {
  const byBucket = new Map<Bucket | undefined, WrittenBranch>()
  branches.forEach(({ schema }, index) => {
    byBucket.set(buckets[schema.kind as keyof typeof buckets], { index, write: writerOf(schema, known) })
  })
  return (output, value) => {
    const branch = byBucket.get(bucketOf(value))
    if (branch === undefined) throw refusal(`one of ${namesOf(branches)}`, value)
    output.long(branch.index)
    branch.write(output, value)
  }
}

/** Any other union: `{ branch: value }`, as in Avro's JSON encoding, and null for null. */
const writesWrapped = ({ branches }: UnionSchema, known: Map<Schema, Write>): Write => {
  const byName = new Map<string | undefined, WrittenBranch>()
  branches.forEach(({ name, schema }, index) => {
    byName.set(name, { index, write: writerOf(schema, known) })
  })
  return (output, value) => {
    const names = value === null ? ["null"] : isObject(value) ? Object.keys(value) : []
    const [name = ""] = names
    const branch = names.length === 1 ? byName.get(name) : undefined
    if (branch === undefined) throw refusal(`an object with one member, one of ${namesOf(branches)}`, value)
    output.long(branch.index)
    try {
      branch.write(output, value === null ? null : (value as Readonly<Record<string, unknown>>)[name])
    } catch (thrown) {
      throw Misfit.within(thrown, name)
    }
  }
}
