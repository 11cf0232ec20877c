/** A value or bytes that do not fit the schema; it gathers the path to the place on its way out. Users see a TypeError with its text. */
export class Misfit extends Error {
  path = ""

  /** The same thrown thing, which now knows that it happened in this member, item or entry. */
  static within(thrown: unknown, step: string | number): unknown {
    if (thrown instanceof Misfit) thrown.path = `/${step}${thrown.path}`
    return thrown
  }

  get text(): string {
    return this.path === "" ? this.message : `${this.message}, at ${this.path}`
  }
}

/** What a value is, in a message: its kind, never its content, which may be secret. */
export const kindOf = (value: unknown): string => {
  if (value === undefined || value === null) return String(value)
  if (typeof value === "number") return Number.isInteger(value) ? "an integer" : Number.isFinite(value) ? "a fraction" : String(value)
  if (typeof value !== "object") return `a ${typeof value}`
  if (Array.isArray(value)) return "an array"
  const maker = (value as { readonly constructor?: { readonly name?: unknown } }).constructor?.name
  return typeof maker === "string" && maker !== "" && maker !== "Object" ? `a ${maker}` : "an object"
}

/**
 * Records within records, each in the one before. A schema that contains itself could go deeper than the stack, and what could be written
 * must be readable from any place.
 */
export const depthMax = 1_000

/** Array items that take no bytes (nulls, empty records): a few bytes could ask for any number of them. */
export const weightlessItemsMax = 100_000
