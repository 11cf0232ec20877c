import { type Codec, KeyfoldError } from "keyfold"
import { text } from "keyfold/codecs/text"

/**
 * Values as JSON. Refuses what JSON would change in silence: NaN and infinities, invalid dates, Maps and Sets, and undefined in an array.
 * As always in JSON, members that are undefined are left out, and dates come back as texts.
 *
 * Raise `version` when stored states can no longer be read as T. `validate` sees each decoded value and answers it, or throws.
 */
export const json = <T>(options: { readonly version?: number; readonly validate?: (value: unknown) => T } = {}): Codec<T> => {
  const { version = 1, validate } = options
  if (!Number.isInteger(version) || version < 1 || version > versionMax) {
    throw new KeyfoldError(
      "option-invalid",
      `the version of a json codec must be an integer from 1 to ${versionMax}, got ${String(version)}`
    )
  }
  if (validate !== undefined && typeof validate !== "function") {
    throw new KeyfoldError(
      "option-invalid",
      `validate of a json codec must be a function, got ${validate === null ? "null" : typeof validate}`
    )
  }
  return {
    contentType: "application/json",
    fingerprint: `json/${version}`,
    encode: (value) => utf8.encode(jsonText(value)),
    decode(bytes) {
      const value: unknown = JSON.parse(utf8.decode(bytes))
      return validate === undefined ? (value as T) : validate(value)
    }
  }
}

const versionMax = 2 ** 31 - 1
const utf8 = text()

/** Where a value is that JSON cannot hold: "NaN at /amounts/3". */
interface Loss {
  readonly what: string
  readonly path: string
}

const jsonText = (value: unknown): string => {
  const written: string | undefined = JSON.stringify(value)
  if (written === undefined) throw new TypeError(`JSON cannot hold ${typeof value === "object" ? "this object" : describe(value)}`)
  // What JSON loses in silence becomes `null` or `{}`, so only texts with one of these pay for a walk through the value.
  if (written.includes("null") || written.includes("{}")) {
    const loss = lossIn("", value)
    if (loss !== undefined) throw new TypeError(`JSON cannot hold ${loss.what}${loss.path === "" ? "" : ` at ${loss.path}`}`)
  }
  return written
}

/** The first loss in a value that JSON.stringify has been through (so it has no cycle). `name` is the value's own, for its `toJSON`. */
const lossIn = (name: string, value: unknown): Loss | undefined => {
  if (typeof value === "number") return Number.isFinite(value) ? undefined : { what: String(value), path: "" }
  if (typeof value !== "object" || value === null) return undefined
  if (hasToJson(value)) return value instanceof Date ? dateLoss(value) : plainLossIn(value.toJSON(name))
  return plainLossIn(value)
}

/** The same without asking for a `toJSON`: JSON.stringify asks once. */
const plainLossIn = (value: unknown): Loss | undefined => {
  if (typeof value !== "object" || value === null) return lossIn("", value)
  if (value instanceof Map || value instanceof Set) return { what: `a ${value.constructor.name}, write it as an array`, path: "" }
  return Array.isArray(value) ? lossInItems(value) : lossInMembers(value as Record<string, unknown>)
}

const lossInItems = (items: readonly unknown[]): Loss | undefined => {
  for (let index = 0; index < items.length; index++) {
    const item = items[index]
    const loss = isLeftOut(item) ? { what: `${describe(item)} in an array`, path: "" } : lossIn(String(index), item)
    if (loss !== undefined) return { what: loss.what, path: `/${index}${loss.path}` }
  }
  return undefined
}

const lossInMembers = (members: Readonly<Record<string, unknown>>): Loss | undefined => {
  for (const name of Object.keys(members)) {
    const loss = lossIn(name, members[name])
    if (loss !== undefined) return { what: loss.what, path: `/${name}${loss.path}` }
  }
  return undefined
}

const hasToJson = (value: object): value is { toJSON(name: string): unknown } => "toJSON" in value && typeof value.toJSON === "function"

const dateLoss = (date: Date): Loss | undefined => (Number.isNaN(date.getTime()) ? { what: "an invalid Date", path: "" } : undefined)

const isLeftOut = (value: unknown): boolean => value === undefined || typeof value === "function" || typeof value === "symbol"

const describe = (value: unknown): string => (value === undefined ? "undefined" : `a ${typeof value}`)
