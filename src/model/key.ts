/**
 * Keys are equal by value (G21). A key has one text, and two keys are equal exactly when their texts are.
 *
 * The text of a string is the string itself, so that the usual key costs nothing. Everything else is NUL + its canonical JSON (RFC 8785:
 * members sorted by UTF-16 code units, no white space). A string that begins with NUL, or that is not well-formed UTF-16 and would lose
 * its identity in UTF-8, is written as NUL + JSON too, so no two different keys collide.
 */
import { KeyfoldError, shown } from "../errors.ts"

/** K when it has value equality (G21), else `never`. */
export type KeyOf<K> = K extends string | number | boolean | null
  ? K
  : K extends readonly unknown[]
    ? number extends K["length"]
      ? readonly KeyOf<K[number]>[]
      : { readonly [I in keyof K]: KeyOf<K[I]> }
    : K extends Date | undefined | bigint | symbol | ((...args: never) => unknown)
      ? never
      : { readonly [F in keyof K]: KeyOf<K[F]> }

/** A key's text; its UTF-8 bytes are the key bytes that order timeouts (T4) and `keys()`. */
export type KeyText = string

const mark = "\u0000"
const depthMax = 32

/** The text of a key. Throws `key-invalid` on what has no value equality: undefined, NaN, dates, functions, class instances. */
export const keyText = (key: unknown): KeyText => {
  if (typeof key === "string" && key.charCodeAt(0) !== 0 && key.isWellFormed()) return key
  return mark + canonicalJson(key, 0)
}

/** The key of a text. Composite keys come back as fresh, plain values. */
export const keyOfText = (text: KeyText): unknown => (text.charCodeAt(0) === 0 ? compositeKey(text) : text)

/** Throws `key-invalid` on a text that none of ours is: something else has written it. */
const compositeKey = (text: KeyText): unknown => {
  try {
    return parseCanonical(text.slice(1))
  } catch {
    throw new KeyfoldError("key-invalid", `${shown(text)} is the text of no key: something else has written to where it was read from`)
  }
}

/** What a key hashes to its partition by: a string's UTF-8, other keys' canonical JSON. */
export const keyHashText = (text: KeyText): string => {
  if (text.charCodeAt(0) !== 0) return text
  const key: unknown = JSON.parse(text.slice(1))
  return typeof key === "string" ? key : text.slice(1)
}

/** Orders key texts by their UTF-8 bytes. UTF-16 order differs from it only where surrogates meet the code units above them. */
export const compareKeyTexts = (left: KeyText, right: KeyText): number => {
  const length = Math.min(left.length, right.length)
  for (let index = 0; index < length; index++) {
    const leftUnit = left.charCodeAt(index)
    const rightUnit = right.charCodeAt(index)
    if (leftUnit !== rightUnit) return utf8Rank(leftUnit) - utf8Rank(rightUnit)
  }
  return left.length - right.length
}

/** Surrogates stand for code points above U+FFFF, so they rank above every other code unit. */
const utf8Rank = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit)

const canonicalJson = (value: unknown, depth: number): string => {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value)
  if (typeof value === "number" && Number.isFinite(value)) return JSON.stringify(value)
  if (typeof value !== "object") throw invalidKey(describe(value))
  if (depth === depthMax) throw invalidKey(`a value nested deeper than ${depthMax}`)
  if (Array.isArray(value)) return `[${Array.from(value, (item) => canonicalJson(item, depth + 1)).join(",")}]`
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) throw invalidKey(describe(value))
  const members = Object.keys(value)
    .sort(compareUnits)
    .map((name) => `${JSON.stringify(name)}:${canonicalJson((value as Record<string, unknown>)[name], depth + 1)}`)
  return `{${members.join(",")}}`
}

// V8 (nodejs/node#63785) may read an escaped member name as the name that an earlier object had in its place: once {"\\":1} has been
// parsed, {"\n":1} comes back as {"\\":1}. So what has an escape is parsed with its objects written as arrays, which have no names.
const parseCanonical = (json: string): unknown => {
  if (!json.includes("\\")) return JSON.parse(json)
  return fromArrayForm(JSON.parse(json.replace(/"(?:[^"\\]|\\.)*"|\{\}|\[\]|[{}[:]/g, (token) => arrayForm[token] ?? token)))
}

/** {"a":1} becomes [0,"a",1] and ["a"] becomes [1,"a"]. */
const arrayForm: { readonly [token: string]: string } = { "{}": "[0]", "[]": "[1]", "{": "[0,", "[": "[1,", "}": "]", ":": "," }

const fromArrayForm = (value: unknown): unknown => {
  if (!Array.isArray(value)) return value
  const [kind, ...parts] = value.map(fromArrayForm)
  if (kind === 1) return parts
  const members: [string, unknown][] = []
  for (let index = 0; index < parts.length; index += 2) members.push([parts[index] as string, parts[index + 1]])
  return Object.fromEntries(members)
}

const compareUnits = (left: string, right: string): number => (left < right ? -1 : left > right ? 1 : 0)

const describe = (value: unknown): string => {
  if (typeof value === "object" && value !== null) return `an instance of ${value.constructor?.name || "a class"}`
  return typeof value === "number" || value === undefined ? String(value) : `a ${typeof value}`
}

const invalidKey = (what: string): KeyfoldError =>
  new KeyfoldError("key-invalid", `a key must be a string, finite number, boolean, null, or arrays and plain objects of these; got ${what}`)
