/** The table of rules in docs/simulation.md: written by `npm run sim:rules -- --write`, read by whoever checks it. */
import type { Mutation } from "./mutations.ts"

export const pagePath = "docs/simulation.md"

export interface RuleFound {
  readonly mutation: Mutation
  /** The first seed that fails without the rule; undefined when none does. */
  readonly seed: number | undefined
  readonly says: string
}

const head = "| Rule | Without it | First seed that fails |"

/** The seed that the page names for each rule. */
export const foundIn = (page: string): ReadonlyMap<string, number | undefined> =>
  new Map(
    rowsOf(page).map((row) => {
      const [, rule = "", , seed = ""] = row.split("|").map((cell) => cell.trim())
      return [rule, Number(seed) || undefined]
    })
  )

export const withTable = (page: string, found: readonly RuleFound[]): string => {
  const rows = found.map(({ mutation: { rule, what }, seed }) => `| ${rule} | ${what} | ${seed ?? "none"} |`)
  const lines = page.split("\n")
  const at = lines.indexOf(head)
  const end = at + 2 + rowsOf(page).length
  return [...lines.slice(0, at + 2), ...rows, ...lines.slice(end)].join("\n")
}

const rowsOf = (page: string): readonly string[] => {
  const lines = page.split("\n")
  const at = lines.indexOf(head)
  if (at < 0) throw new Error(`${pagePath} has no table that begins with ${head}`)
  const rest = lines.slice(at + 2)
  const end = rest.findIndex((line) => !line.startsWith("|"))
  return end < 0 ? rest : rest.slice(0, end)
}
