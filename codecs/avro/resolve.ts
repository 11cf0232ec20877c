/**
 * Reads what one schema wrote as a value of another: Avro's schema resolution (aliases, defaults, promotions), settled once when the codec
 * is made. What cannot be read for certain is refused then, not when the first such record comes.
 */
import { Input } from "./input.ts"
import { Misfit } from "./misfit.ts"
import { bytesMinOf, type Read, reads, readsArray, readsEnum, readsFixed, readsMap, readsUnion, wraps } from "./read.ts"
import type { Branch, EnumSchema, Field, Primitive, RecordSchema, Schema, UnionSchema } from "./schema.ts"

/** Throws a Misfit, which names the place, when `wanted` cannot be made of what `written` writes. */
export const readerOf = (written: Schema, wanted: Schema): Read => new Resolution().read(written, wanted)

/** A record may contain itself, so its reader is known before it is made. */
interface Known {
  readonly written: RecordSchema
  readonly wanted: RecordSchema
  readonly read: Read
}

class Resolution {
  readonly #known: Known[] = []

  read(written: Schema, wanted: Schema): Read {
    if (written.kind === "union") return this.#fromUnion(written, wanted)
    if (wanted.kind === "union") return this.#intoUnion(written, wanted)
    if (written.kind === "record" && wanted.kind === "record") return this.#record(written, wanted)
    if (written.kind === "array" && wanted.kind === "array") {
      return readsArray(
        stepping("items", () => this.read(written.items, wanted.items)),
        bytesMinOf(written.items)
      )
    }
    if (written.kind === "map" && wanted.kind === "map") return readsMap(stepping("values", () => this.read(written.values, wanted.values)))
    if (written.kind === "enum" && wanted.kind === "enum") return enumRead(written, wanted)
    if (written.kind === "fixed" && wanted.kind === "fixed") {
      refuseOtherName(written, wanted)
      if (written.size !== wanted.size) throw new Misfit(`${written.name} has ${written.size} bytes and is wanted with ${wanted.size}`)
      return readsFixed(wanted.size)
    }
    const read = written.kind === wanted.kind ? reads[wanted.kind as Primitive] : promotions[`${written.kind} ${wanted.kind}`]
    if (read === undefined) throw new Misfit(`${nameOf(written)} cannot be read as ${nameOf(wanted)}`)
    return read
  }

  #fromUnion({ branches }: UnionSchema, wanted: Schema): Read {
    return readsUnion(branches.map(({ schema }) => this.read(schema, wanted)))
  }

  #intoUnion(written: Schema, { wrapped, branches }: UnionSchema): Read {
    const refusals: string[] = []
    for (const { name, schema } of branches.toSorted((a, b) => strangeness(written, a) - strangeness(written, b))) {
      const before = this.#known.length
      try {
        const read = this.read(written, schema)
        return wrapped && schema.kind !== "null" ? wraps(name, read) : read
      } catch (thrown) {
        if (!(thrown instanceof Misfit)) throw thrown
        this.#known.length = before // what was made meanwhile may rest on what failed
        refusals.push(thrown.text)
      }
    }
    throw new Misfit(`${nameOf(written)} fits no branch of the union (${refusals.join("; ")})`)
  }

  #record(written: RecordSchema, wanted: RecordSchema): Read {
    const known = this.#known.find((made) => made.written === written && made.wanted === wanted)
    if (known !== undefined) return known.read
    refuseOtherName(written, wanted)
    const steps: Step[] = []
    const missing: Missing[] = []
    const read = readsRecord(steps, missing, blankOf(written, wanted))
    this.#known.push({ written, wanted, read })
    const sources = new Map(wanted.fields.map((field) => [sourceOf(field, written), field] as const))
    for (const field of wanted.fields) if (sourceOf(field, written) === undefined) missing.push(missingOf(field))
    for (const field of written.fields) {
      const target = sources.get(field)
      steps.push({
        name: field.name,
        target: target?.name,
        read: stepping(field.name, () => this.read(field.schema, target?.schema ?? field.schema))
      })
    }
    const taken = wanted.fields.flatMap((field) => sourceOf(field, written) ?? [])
    const twice = taken.find((field, index) => taken.indexOf(field) !== index)
    if (twice !== undefined) throw new Misfit(`two fields of ${wanted.name} are read from ${written.name}'s field ${twice.name}`)
    return read
  }
}

/** A field as the writer wrote it. */
interface Step {
  readonly name: string
  /** What we call it; undefined: it is read and forgotten. */
  readonly target: string | undefined
  readonly read: Read
}

/** A field that the writer did not have. */
interface Missing {
  readonly name: string
  readonly value: () => unknown
}

type Blank = Readonly<Record<string, undefined>>

/** Hot path: one loop. `steps` and `missing` are filled after this is made. */
const readsRecord =
  (steps: readonly Step[], missing: readonly Missing[], blank: Blank | undefined): Read =>
  (input) => {
    input.enter()
    const record: Record<string, unknown> = blank === undefined ? {} : { ...blank }
    let at = 0
    try {
      for (; at < steps.length; at++) {
        const { target, read } = steps[at] as Step
        const value = read(input)
        if (target !== undefined) record[target] = value
      }
    } catch (thrown) {
      throw Misfit.within(thrown, (steps[at] as Step).name)
    }
    for (const { name, value } of missing) record[name] = value()
    input.leave()
    return record
  }

/** All our fields in our order, when the writer's order is another: so that objects look the same whoever wrote them. */
const blankOf = (written: RecordSchema, wanted: RecordSchema): Blank | undefined => {
  const names = (fields: readonly Field[]): string => fields.map(({ name }) => name).join()
  if (names(written.fields) === names(wanted.fields)) return undefined
  return Object.fromEntries(wanted.fields.map(({ name }) => [name, undefined]))
}

/** The writer's field that ours is read from: the one of its name, else the one of the first alias that there is. */
const sourceOf = ({ name, aliases }: Field, { fields }: RecordSchema): Field | undefined => {
  for (const called of [name, ...aliases]) {
    const found = fields.find((field) => field.name === called)
    if (found !== undefined) return found
  }
  return undefined
}

const missingOf = ({ name, schema, otherwise }: Field): Missing => {
  if (otherwise === undefined) throw Misfit.within(new Misfit("the older schema does not have it, and it has no default"), name)
  const read = readerOf(schema, schema)
  return { name, value: () => read(new Input(otherwise, 0)) }
}

const enumRead = (written: EnumSchema, wanted: EnumSchema): Read => {
  refuseOtherName(written, wanted)
  const symbols = written.symbols.map((symbol) => (wanted.symbols.includes(symbol) ? symbol : wanted.otherwise))
  const lost = written.symbols.filter((_, index) => symbols[index] === undefined)
  if (lost.length > 0) throw new Misfit(`${wanted.name} has no symbol ${lost.join(", ")} and no default`)
  return readsEnum(symbols as readonly string[])
}

/** Number to wider number; text and bytes. From "int" to "long" is nothing to do: they are written alike. */
const promotions: Readonly<Record<string, Read | undefined>> = {
  "int long": reads.int,
  "int float": (input) => Math.fround(input.int()),
  "int double": reads.int,
  "long float": (input) => Math.fround(input.long()),
  "long double": reads.long,
  "float double": reads.float,
  "string bytes": reads.bytes,
  "bytes string": reads.string
}

type Named = Extract<Schema, { readonly name: string }>

const isNamed = (schema: Schema): schema is Named => "name" in schema

const lastName = (name: string): string => name.slice(name.lastIndexOf(".") + 1)

const isCalled = (written: Named, wanted: Named): boolean =>
  lastName(written.name) === lastName(wanted.name) || wanted.aliases.includes(written.name)

const refuseOtherName = (written: Named, wanted: Named): void => {
  if (!isCalled(written, wanted)) {
    throw new Misfit(`${written.name} is now ${wanted.name}: give ${wanted.name} the alias ${JSON.stringify(written.name)}`)
  }
}

/** Which branch of a union is tried first: the very same type, then one of its name, then what it can be promoted to. */
const strangeness = (written: Schema, { schema }: Branch): number => {
  if (written.kind !== schema.kind) return 2
  if (!isNamed(written) || !isNamed(schema) || written.name === schema.name) return 0
  return 1
}

const nameOf = (schema: Schema): string => (isNamed(schema) ? schema.name : `"${schema.kind}"`)

const stepping = (step: string, resolve: () => Read): Read => {
  try {
    return resolve()
  } catch (thrown) {
    throw Misfit.within(thrown, step)
  }
}
