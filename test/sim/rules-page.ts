/** The tables of rules and of defects in docs/simulation.md: written by `npm run sim:rules -- --write`, read by whoever checks it. */
import { defects, type Mutation, rules } from "./mutations.ts"

export const pagePath = "docs/simulation.md"

export interface RuleFound {
  readonly mutation: Mutation
  /** The first seed that fails without the rule; undefined when none does. */
  readonly seed: number | undefined
  readonly says: string
}

const heads = [
  ["Rule", "Without it", "First seed that fails"],
  ["Defect", "What went wrong", "First seed that fails"]
] as const

type Head = (typeof heads)[number]

/** The seed that the page names for each rule and defect. */
export const foundIn = (page: string): ReadonlyMap<string, number | undefined> => {
  const lines = page.split("\n")
  return new Map(
    heads.flatMap((head) => {
      const { first, end } = rowsIn(lines, head)
      return lines.slice(first, end).map((line) => {
        const [rule = "", , seed] = cellsOf(line)
        return [rule, Number(seed) || undefined] as const
      })
    })
  )
}

export const withTables = (page: string, found: readonly RuleFound[]): string => {
  const tables = [rules, defects].map((those) => found.filter(({ mutation }) => those.includes(mutation)))
  return heads.reduce((text, head, index) => withTable(text, head, tables[index] as RuleFound[]), page)
}

const withTable = (page: string, head: Head, found: readonly RuleFound[]): string => {
  const lines = page.split("\n")
  const { first, end } = rowsIn(lines, head)
  const rows = found.map(({ mutation: { rule, what }, seed }) => [rule, what, String(seed ?? "none")])
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] as string).length)))
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, column) => cell.padEnd(widths[column] as number)).join(" | ")} |`
  const rule = widths.map((width) => "-".repeat(width))
  return [...lines.slice(0, first - 2), line(head), line(rule), ...rows.map(line), ...lines.slice(end)].join("\n")
}

const cellsOf = (line: string): readonly string[] =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim())

/** Where its rows are. */
const rowsIn = (lines: readonly string[], head: Head): { readonly first: number; readonly end: number } => {
  const at = lines.findIndex((line) => cellsOf(line).join() === head.join())
  if (at < 0) throw new Error(`${pagePath} has no table with the columns ${head.join(", ")}`)
  const first = at + 2
  const behind = lines.findIndex((line, index) => index >= first && !line.startsWith("|"))
  return { first, end: behind < 0 ? lines.length : behind }
}
