/** From Avro's binary encoding to values, as one schema wrote them: plain objects, arrays and Uint8Arrays of their own. */
import type { Input } from "./input.ts"
import { Misfit } from "./misfit.ts"
import type { Primitive, Schema } from "./schema.ts"

export type Read = (input: Input) => unknown

export const reads: Readonly<Record<Primitive, Read>> = {
  null: () => null,
  boolean: (input) => input.boolean(),
  int: (input) => input.int(),
  long: (input) => input.long(),
  float: (input) => input.float(),
  double: (input) => input.double(),
  bytes: (input) => input.fixed(input.length()),
  string: (input) => input.text(input.length())
}

export const readsFixed =
  (size: number): Read =>
  (input) =>
    input.fixed(size)

/** `symbols` by what the writer calls them, in the writer's order. */
export const readsEnum =
  (symbols: readonly string[]): Read =>
  (input) => {
    const index = input.long()
    const symbol = symbols[index]
    if (symbol === undefined) throw new Misfit(`no symbol ${index} in an enum of ${symbols.length}`)
    return symbol
  }

export const readsArray =
  (read: Read, itemBytesMin: number): Read =>
  (input) => {
    const items: unknown[] = []
    try {
      for (let count = input.block(itemBytesMin); count > 0; count = input.block(itemBytesMin)) {
        for (; count > 0; count--) items.push(read(input))
      }
    } catch (thrown) {
      throw Misfit.within(thrown, items.length)
    }
    return items
  }

export const readsMap =
  (read: Read): Read =>
  (input) => {
    const entries: Record<string, unknown> = {}
    for (let count = input.block(entryBytesMin); count > 0; count = input.block(entryBytesMin)) {
      for (; count > 0; count--) {
        const key = input.text(input.length())
        try {
          define(entries, key, read(input))
        } catch (thrown) {
          throw Misfit.within(thrown, key)
        }
      }
    }
    return entries
  }

/** A key has its length. */
const entryBytesMin = 1

/** A key `__proto__` is data like any other. */
const define = (entries: Record<string, unknown>, key: string, value: unknown): void => {
  if (key === "__proto__") Object.defineProperty(entries, key, { value, writable: true, enumerable: true, configurable: true })
  else entries[key] = value
}

/** `branches` in the writer's order. */
export const readsUnion =
  (branches: readonly Read[]): Read =>
  (input) => {
    const index = input.long()
    const read = branches[index]
    if (read === undefined) throw new Misfit(`no branch ${index} in a union of ${branches.length}`)
    return read(input)
  }

export const wraps =
  (branch: string, read: Read): Read =>
  (input) => ({ [branch]: read(input) })

/** What a value takes at least. A record that contains itself is counted as if it did not. */
export const bytesMinOf = (schema: Schema, within: ReadonlySet<Schema> = new Set()): number => {
  switch (schema.kind) {
    case "null":
      return 0
    case "float":
      return 4
    case "double":
      return 8
    case "fixed":
      return schema.size
    case "record": {
      if (within.has(schema)) return 0
      const inside = new Set(within).add(schema)
      return schema.fields.reduce((sum, field) => sum + bytesMinOf(field.schema, inside), 0)
    }
    default:
      return 1
  }
}
