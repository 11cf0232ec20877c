/**
 * Walks over an entry by its schema, and trusts no byte. avsc believes a count that it reads: it takes memory for as many items as an array
 * claims to have before it reads the first, so that five bytes may cost hundreds of megabytes. What has been walked over has all its items.
 */
import { Damage, Newer } from "./damage.ts"

/** As much of Avro's schemas as the entries use. */
export type Schema =
  | "null"
  | "int"
  | "long"
  | "double"
  | "string"
  | "bytes"
  | readonly Schema[]
  | { readonly type: "record"; readonly fields: readonly { readonly type: Schema }[] }
  | { readonly type: "array"; readonly items: Schema }
  | { readonly type: "string" | "bytes"; readonly logicalType: string }

/** Throws Damage, or Newer for a branch of a union that is not known here. */
export const shapeCheck = (schema: Schema): ((bytes: Uint8Array) => void) => {
  const { walk } = shapeOf(schema)
  return (bytes) => {
    const walker = new Walker(bytes)
    walk(walker)
    if (walker.left > 0) throw new Damage("it goes on after its end")
  }
}

interface Shape {
  readonly bytesMin: number
  readonly walk: (walker: Walker) => void
}

class Walker {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  /** Of any size: what is too large to be exact is too large to be true. */
  number(): number {
    let byte = this.#byte()
    const isNegative = (byte & 1) === 1
    let magnitude = (byte & 0x7f) >> 1
    for (let scale = 64; byte > 0x7f; scale *= 128) {
      if (scale > 2 ** 63) throw new Damage("it has a number that goes on")
      byte = this.#byte()
      magnitude += (byte & 0x7f) * scale
    }
    return isNegative ? -magnitude - 1 : magnitude
  }

  skip(count: number): void {
    if (count < 0 || count > this.left) throw cutOff()
    this.#at += count
  }

  #byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) throw cutOff()
    this.#at += 1
    return byte
  }
}

const cutOff = (): Damage => new Damage("it is cut off")

const nothing: Shape = { bytesMin: 0, walk: () => undefined }
const number: Shape = { bytesMin: 1, walk: (walker) => void walker.number() }
const int: Shape = { bytesMin: 1, walk: (walker) => checkInt(walker.number()) }
const double: Shape = { bytesMin: 8, walk: (walker) => walker.skip(8) }
const counted: Shape = { bytesMin: 1, walk: (walker) => walker.skip(walker.number()) }

const plain: Readonly<Record<Extract<Schema, string>, Shape>> = {
  null: nothing,
  int,
  long: number,
  double,
  string: counted,
  bytes: counted
}

const shapeOf = (schema: Schema): Shape => {
  if (typeof schema === "string") return plain[schema]
  if ("items" in schema) return arrayOf(shapeOf(schema.items))
  if ("fields" in schema) return recordOf(schema.fields.map(({ type }) => shapeOf(type)))
  return "logicalType" in schema ? plain[schema.type] : unionOf(schema.map(shapeOf))
}

/** avsc reads larger ones as what they are. */
const checkInt = (value: number): void => {
  if (value !== (value | 0)) throw new Damage("it has a number that is too large")
}

const recordOf = (fields: readonly Shape[]): Shape => ({
  bytesMin: fields.reduce((sum, { bytesMin }) => sum + bytesMin, 0),
  walk: (walker) => {
    for (const { walk } of fields) walk(walker)
  }
})

const unionOf = (branches: readonly Shape[]): Shape => ({
  bytesMin: 1,
  walk: (walker) => {
    const branch = branches[walker.number()]
    if (branch === undefined) throw new Newer("a part that is not known here")
    branch.walk(walker)
  }
})

/** In blocks: a count, and the items; below zero, the block's size follows it. */
const arrayOf = ({ bytesMin, walk }: Shape): Shape => ({
  bytesMin: 1,
  walk: (walker) => {
    for (let count = walker.number(); count !== 0; count = walker.number()) {
      if (count < 0) walker.number()
      const items = Math.abs(count)
      if (items * bytesMin > walker.left) throw cutOff()
      for (let item = 0; item < items; item++) walk(walker)
    }
  }
})
