/**
 * Prints payments, one JSON object a line.
 *
 *   npm run -s payments                              a day of 10,000 from a seed, with frauds among them
 *   npm run -s payments -- --seed 7 --lines 100000
 *   npm run -s payments -- --walkthrough 3           three rounds of the 50 payments of Flink's walkthrough
 */
import { parseArgs } from "node:util"
import { dayOfPayments } from "./payments.ts"
import { walkthroughPayments } from "./walkthrough.ts"

const usage = "usage: npm run -s payments -- [--seed NUMBER] [--lines NUMBER] | --walkthrough ROUNDS"

const wholeNumber = (name: string, text: string, least: number): number => {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && number <= 5_000_000) return number
  throw new TypeError(`--${name} must be a whole number from ${least} to 5000000, got ${text}`)
}

const linesAskedFor = (args: string[]): readonly string[] => {
  const options = { seed: { type: "string" }, lines: { type: "string" }, walkthrough: { type: "string" } } as const
  const { seed = "1", lines = "10000", walkthrough } = parseArgs({ args, options }).values
  if (walkthrough !== undefined)
    return walkthroughPayments(wholeNumber("walkthrough", walkthrough, 1)).map((payment) => JSON.stringify(payment))
  return dayOfPayments({ seed: wholeNumber("seed", seed, 0), lines: wholeNumber("lines", lines, 1) }).lines
}

try {
  process.stdout.write(
    linesAskedFor(process.argv.slice(2))
      .map((line) => `${line}\n`)
      .join("")
  )
} catch (thrown) {
  console.error(`${(thrown as Error).message.split("\n", 1)[0]}\n${usage}`)
  process.exitCode = 2
}
