// Goal: a duration text means what it means to Spark (G15), and a text that means nothing is refused with its fault and its cure.
// Method: rows of texts, then texts built from terms whose total a plain sum knows, then noise made of the grammar's own pieces.
// Rerun with SEED=<n>.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { type Duration, parseDuration, toDurationMs } from "../../src/model/duration.ts"

const seed = Number(process.env.SEED ?? 1)
const day = 86_400_000

const refusalOf = (run: () => unknown): KeyfoldError => {
  try {
    run()
  } catch (thrown) {
    if (thrown instanceof KeyfoldError) return thrown
    throw thrown
  }
  throw new Error("nothing was refused")
}

describe("parseDuration", () => {
  const accepted: readonly (readonly [text: string, ms: number])[] = [
    ["1 year", 372 * day],
    ["2 months", 62 * day],
    ["1 week", 7 * day],
    ["3 days", 3 * day],
    ["1 hour", 3_600_000],
    ["1 minute", 60_000],
    ["10 seconds", 10_000],
    ["7 milliseconds", 7],
    ["1999 microseconds", 1],
    ["1 hour 30 minutes", 5_400_000],
    ["1 hours 1 minute 1 minutes", 3_720_000],
    ["interval 1 day", day],
    ["INTERVAL\t1 Day\n2 HOURS", day + 7_200_000],
    ["  \u0000 5 \t\u001c seconds \u007f", 5_000],
    ["1 day -1 hour", day - 3_600_000],
    ["-1 hour 2 hours", 3_600_000],
    ["- 1 hour + 2 hours", 3_600_000],
    ["007 seconds", 7_000],
    ["1.5 seconds", 1_500],
    ["1. second", 1_000],
    [".5 second", 500],
    ["-.5 second 1 second", 500],
    ["0.123456789 seconds", 123],
    ["1.9999 seconds", 1_999],
    ["0 seconds", 0],
    ["1 day -1 day", 0],
    ["999 microseconds", 0],
    ["-0.0000009 seconds", 0],
    ["9007199254740991 milliseconds", Number.MAX_SAFE_INTEGER],
    ["9007199254740992 milliseconds -1 millisecond", Number.MAX_SAFE_INTEGER]
  ]
  test.each(accepted)("%j is read as in Spark (G15)", (text, ms) => expect(parseDuration(text)).toBe(ms))

  const refused: readonly (readonly [text: string, fault: string])[] = [
    ["", "it is empty"],
    [" \t", "it is empty"],
    ["interval", "it is empty"],
    ["10s", '"10s" needs plain white space'],
    ["10 s", '"s" is not a unit'],
    ["10min", '"10min" needs plain white space'],
    ["1\u00a0day", "needs plain white space"],
    ["interval '1' day", "SQL's quotes"],
    ["interval -'1' day", "SQL's quotes"],
    ["interval1 day", 'a number at "interval1"'],
    ["interval interval 1 day", 'a number at "interval"'],
    ["intervals 1 day", 'a number at "intervals"'],
    ["1 day interval", 'a number at "interval"'],
    ["soon", 'a number at "soon"'],
    ["10", '"10" has no unit'],
    ["1 day 5", '"5" has no unit'],
    ["1 day +", 'a number at "+"'],
    ["--1 day", 'a number at "--1"'],
    [". second", 'a number at "."'],
    ["-. second", 'a number at "-."'],
    ["1 fortnight", '"fortnight" is not a unit'],
    ["1 nanosecond", '"nanosecond" is not a unit'],
    ["1 dayss", '"dayss" is not a unit'],
    ["1 hour30 minutes", '"hour30" is not a unit'],
    ["1 day-1 hour", '"day-1" is not a unit'],
    ["1 hour, 2 minutes", '"hour," is not a unit'],
    ["1 wee\u212a", "is not a unit"],
    ["1.5 hours", "only seconds may have a fraction"],
    ["1. hour", "only seconds may have a fraction"],
    ["1.5 milliseconds", "only seconds may have a fraction"],
    ["0.1234567890 seconds", "at most 9 digits"],
    ["1e3 seconds", '"1e3" needs plain white space'],
    ["PT1H", 'a number at "PT1H"'],
    ["-1 hour", "its total is negative"],
    ["1 hour -61 minutes", "its total is negative"],
    ["-1 microsecond", "its total is negative"],
    ["9007199254740992 milliseconds", "more than 280,000 years"],
    [`${"9".repeat(40)} years`, "more than 280,000 years"]
  ]
  test.each(refused)("%j is refused and the message names the fault (G15)", (text, fault) => {
    const refusal = refusalOf(() => parseDuration(text))
    expect(refusal.code).toBe("illegal-argument")
    expect(refusal.message).toContain(JSON.stringify(text))
    expect(refusal.message).toContain(fault)
  })

  test(`only the total of the terms counts, whatever their signs, case and white space (G15, SEED=${seed})`, () => {
    fc.assert(fc.property(fc.array(anyTerm, { minLength: 1, maxLength: 6 }), readsAsTheirSum), { seed, numRuns: 1_000 })
  })

  test(`any text is a whole number of milliseconds or refused by name, the second time too (G15, SEED=${seed})`, () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 8 }), (chosen) => {
        const text = chosen.join("")
        expect(outcomeOf(text)).toEqual(outcomeOf(text))
      }),
      { seed, numRuns: 5_000 }
    )
  })

  test("a text is still read right after more texts than are remembered", () => {
    for (let seconds = 0; seconds < 1_000; seconds++) expect(parseDuration(`${seconds} seconds`)).toBe(seconds * 1_000)
    expect(parseDuration("1 seconds")).toBe(1_000)
  })
})

describe("toDurationMs", () => {
  const rows: readonly (readonly [Duration, 0 | 1, number])[] = [
    [0, 0, 0],
    [-0, 0, 0],
    [1, 1, 1],
    [Number.MAX_SAFE_INTEGER, 1, Number.MAX_SAFE_INTEGER],
    ["0 seconds", 0, 0],
    ["10 seconds", 1, 10_000]
  ]
  test.each(rows)("%j with least %j is %j ms (G15)", (duration, least, ms) => expect(toDurationMs(duration, least, "the delay")).toBe(ms))

  const refused: readonly (readonly [unknown, 0 | 1, string])[] = [
    [0, 1, "the delay must be longer than 0, got 0"],
    ["0 seconds", 1, 'the delay must be longer than 0, got "0 seconds"'],
    ["999 microseconds", 1, "the delay must be longer than 0"],
    [-1, 0, "the delay must not be negative, got -1"],
    ["-1 day", 0, 'the delay "-1 day" cannot be read: its total is negative'],
    ["10s", 0, 'the delay "10s" cannot be read'],
    [1.5, 0, "whole number of milliseconds, got 1.5"],
    [Number.NaN, 0, "whole number of milliseconds, got NaN"],
    [Number.POSITIVE_INFINITY, 0, "whole number of milliseconds, got Infinity"],
    [2 ** 53, 0, "whole number of milliseconds"],
    [undefined, 0, "got undefined"],
    [null, 0, "got null"],
    [10n, 0, "got a bigint"],
    [{ seconds: 1 }, 0, "got an object"]
  ]
  test.each(refused)("%s with least %j is refused as an illegal argument (G14, G15)", (duration, least, message) => {
    const refusal = refusalOf(() => toDurationMs(duration as Duration, least, "the delay"))
    expect(refusal.code).toBe("illegal-argument")
    expect(refusal.message).toContain(message)
  })
})

interface Term {
  readonly text: string
  readonly micros: bigint
}

const unitMicros = {
  year: 32_140_800_000_000n,
  month: 2_678_400_000_000n,
  week: 604_800_000_000n,
  day: 86_400_000_000n,
  hour: 3_600_000_000n,
  minute: 60_000_000n,
  second: 1_000_000n,
  millisecond: 1_000n,
  microsecond: 1n
}

const anySpace = fc.string({ unit: fc.constantFrom(" ", "\t", "\n", "\r", "\f", "\v"), minLength: 1, maxLength: 3 })

const anyTerm: fc.Arbitrary<Term> = fc
  .record({
    unit: fc.constantFrom(...(Object.keys(unitMicros) as (keyof typeof unitMicros)[])),
    value: fc.nat({ max: 40_000 }),
    fraction: fc.string({ unit: fc.constantFrom(..."0123456789"), maxLength: 9 }),
    sign: fc.constantFrom("", "+", "-", "- "),
    plural: fc.boolean(),
    loud: fc.boolean(),
    before: anySpace,
    between: anySpace
  })
  .map(({ unit, value, fraction, sign, plural, loud, before, between }) => {
    const point = unit === "second" && fraction !== "" ? `.${fraction}` : ""
    const word = `${unit}${plural ? "s" : ""}`
    const micros = BigInt(value) * unitMicros[unit] + (point === "" ? 0n : BigInt(fraction.padEnd(9, "0")) / 1_000n)
    return {
      text: `${before}${sign}${value}${point}${between}${loud ? word.toUpperCase() : word}`,
      micros: sign.startsWith("-") ? -micros : micros
    }
  })

const readsAsTheirSum = (terms: readonly Term[]): void => {
  const text = terms.map((term) => term.text).join("")
  const micros = terms.reduce((sum, term) => sum + term.micros, 0n)
  if (micros < 0n) expect(refusalOf(() => parseDuration(text)).message).toContain("its total is negative")
  else expect(parseDuration(text)).toBe(Number(micros / 1_000n))
}

const pieces = [
  "interval ",
  "1",
  "30",
  ".",
  ".5",
  "+",
  "-",
  " ",
  "\t",
  "\u00a0",
  "day",
  "days",
  "hours",
  "seconds",
  "s",
  "month",
  "'",
  "x",
  "2 minutes"
]

const outcomeOf = (text: string): number | string => {
  try {
    const ms = parseDuration(text)
    expect(Number.isSafeInteger(ms) && ms >= 0).toBe(true)
    return ms
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(KeyfoldError)
    expect((thrown as KeyfoldError).code).toBe("illegal-argument")
    expect((thrown as KeyfoldError).message).toContain(JSON.stringify(text))
    return (thrown as KeyfoldError).message
  }
}
