/**
 * Durations, as milliseconds or as Spark's interval text (G15). One grammar for timeouts, delays, triggers and gaps:
 *
 *   text     = ["interval" space] term {space term}      any case; white space around it does not count
 *   term     = ["+" | "-"] [space] number space unit     the sign is the number's own: "1 hour -1 minute" is 59 minutes
 *   number   = digits | digits "." [digits] | "." digits  a point only before seconds, at most 9 digits after it
 *   unit     = year (372 days), month (31 days), week, day, hour, minute, second, millisecond, microsecond, each with or without "s"
 *
 * That is what Spark's `stringToInterval` accepts, and like Spark it counts in microseconds and cuts to milliseconds at the end. We refuse
 * one thing that slips through there, a number without a digit ("-. second"), and bound only the total, not each term.
 */
import { KeyfoldError } from "../errors.ts"

/** Milliseconds, or text like `"1 hour 30 minutes"` (G15). */
export type Duration = number | string

const dayMicros = 86_400_000_000n
const unitMicros: { readonly [unit: string]: bigint } = {
  year: 372n * dayMicros,
  month: 31n * dayMicros,
  week: 7n * dayMicros,
  day: dayMicros,
  hour: 3_600_000_000n,
  minute: 60_000_000n,
  second: 1_000_000n,
  millisecond: 1_000n,
  microsecond: 1n
}

// Java's white space, which is ASCII only; `\s` would let a no-break space pass that Spark refuses. Spark trims control characters too.
const space = String.raw`[\t-\r\x1c-\x20]`
const outside = String.raw`[\0-\x20\x7f]+`
const edges = new RegExp(`^${outside}|${outside}$`, "g")
const prefix = new RegExp(`^interval(?:${space}+|$)`, "i")
const sign = `([+-]?)${space}*`
const term = new RegExp(String.raw`${sign}(?=\.?\d)(\d*)(\.\d{0,9})?${space}+(${Object.keys(unitMicros).join("|")})s?(?:${space}+|$)`, "iy")
const numberStart = new RegExp(String.raw`^${sign}(?=\.?\d)\d*(?:\.(\d*))?(${space}*)`)

// A state function calls setTimeoutDuration("30 minutes") for each key and turn, where parsing (500 ns) would cost a good part of the call.
const parsed = new Map<string, number>()
const parsedMax = 256

/**
 * The whole milliseconds of a duration text, 0 included. Throws `illegal-argument` on anything else, a negative total too: to Spark that is
 * a fault of the text. Whether 0 will do is the caller's to say, after it has looked at the timeout kind (G13, G15).
 */
export const parseDuration = (text: string, what = "the duration"): number => {
  const known = parsed.get(text)
  if (known !== undefined) return known
  const result = readText(text)
  if (typeof result === "string") throw refused(`${what} ${JSON.stringify(text)} cannot be read: ${result}`)
  if (parsed.size === parsedMax) parsed.clear()
  parsed.set(text, result)
  return result
}

/** A duration in milliseconds, at least `least`. `what` names the option in the message: "the watermark delay". */
export const toDurationMs = (duration: Duration, least: 0 | 1, what: string): number => {
  const durationMs = typeof duration === "string" ? parseDuration(duration, what) : wholeMs(duration, what)
  if (durationMs < least) throw refused(`${what} must be longer than 0, got ${JSON.stringify(duration)}`)
  return durationMs
}

const wholeMs = (duration: unknown, what: string): number => {
  if (typeof duration !== "number") {
    throw refused(`${what} must be a number of milliseconds or a text like "10 seconds", got ${describe(duration)}`)
  }
  if (!Number.isSafeInteger(duration)) throw refused(`${what} must be a whole number of milliseconds, got ${duration}`)
  if (duration < 0) throw refused(`${what} must not be negative, got ${duration}`)
  return duration + 0 // turns -0 into 0
}

/** The milliseconds of a text, or what is wrong with it. */
const readText = (text: string): number | string => {
  const terms = text.replace(edges, "").replace(prefix, "")
  if (terms === "") return `it is empty; ${cure}`
  let micros = 0n
  for (let index = 0; index < terms.length; index = term.lastIndex) {
    term.lastIndex = index
    const match = term.exec(terms)
    if (match === null) return `${faultAt(terms.slice(index))}; ${cure}`
    const [, signText, digits = "", fraction, unitText = ""] = match
    const unit = unitText.toLowerCase()
    if (fraction !== undefined && unit !== "second") return `only seconds may have a fraction; ${cure}`
    const value = BigInt(digits) * (unitMicros[unit] ?? 0n) + fractionMicros(fraction)
    micros += signText === "-" ? -value : value
  }
  if (micros < 0n) return "its total is negative; a duration goes forward"
  const millis = micros / 1000n
  return millis > Number.MAX_SAFE_INTEGER ? "its total is more than 280,000 years; write a time that will come" : Number(millis)
}

/** ".25" of a second. Each fraction is cut to whole microseconds, as in Spark. */
const fractionMicros = (fraction: string | undefined): bigint =>
  fraction === undefined ? 0n : BigInt(fraction.slice(1).padEnd(6, "0").slice(0, 6))

const cure = `write numbers and full units, like "10 seconds" or "1 hour 30 minutes"`

/** What is wrong with the term that `rest` begins with. */
const faultAt = (rest: string): string => {
  const word = (text: string): string => JSON.stringify(text.split(new RegExp(space), 1)[0])
  const number = numberStart.exec(rest)
  if (number === null) return /^[+-]?['"]/.test(rest) ? "SQL's quotes do not belong to it" : `there should be a number at ${word(rest)}`
  const [start, , fraction = "", gap] = number
  if (fraction.length > 9) return "a second has at most 9 digits after the point"
  const after = rest.slice(start.length)
  if (after === "") return `${JSON.stringify(rest)} has no unit`
  return gap === "" ? `${word(rest)} needs plain white space between the number and a full unit` : `${word(after)} is not a unit`
}

const describe = (value: unknown): string => {
  if (value === undefined || value === null) return String(value)
  return typeof value === "object" ? "an object" : `a ${typeof value}`
}

const refused = (message: string): KeyfoldError => new KeyfoldError("illegal-argument", message)
