/** The report of a chaos run: what was done, how often, what held, and figures. Markdown that reads well as text. */
import type { PlannedFault } from "./plan.ts"
import { lengthMs, longestDuring, type Span, type Standstill, standstills } from "./standstill.ts"
import { type Rule, rules, type Verdict } from "./verdict.ts"

export interface DoneFault extends Span {
  readonly planned: PlannedFault
}

export interface Figures {
  readonly events: number
  readonly heldMs: number
  readonly results: { readonly direct: number; readonly chained: number }
  readonly takeOvers: number
  readonly residentMiB: number
  readonly drainedMs: number
}

export interface ReportParts {
  readonly minutes: number
  readonly seed: number
  readonly workers: number
  readonly servers: string
  readonly done: readonly DoneFault[]
  readonly verdict: Verdict
  /** Of the run's zero, and of the end of the load, by the servers' clock. */
  readonly beganAtMs: number
  readonly loadedAtMs: number
  readonly storedAtMs: ReadonlyMap<string, readonly number[]>
  readonly figures: Figures
}

export const reportOf = (parts: ReportParts): string => {
  const { minutes, seed, workers, servers, verdict } = parts
  const found = standstillsOf(parts)
  return [
    `# Chaos: ${minutes} minutes, seed ${seed}: ${verdict.holds ? "everything held" : "SOMETHING DID NOT HOLD"}`,
    `${workers} workers at first, each with both jobs (one stage; two hops); ${servers}.`,
    ...violationsOf(verdict),
    "## What held",
    table(
      ["rule", "violations", "what must hold"],
      Object.entries(rules).map(([rule, text]) => [rule, count(verdict.of(rule as Rule).length), text])
    ),
    "## Figures",
    figuresOf(parts, found),
    "## What was done",
    whatWasDone(parts, found),
    "## When",
    parts.done
      .toSorted((a, b) => a.fromMs - b.fromMs)
      .map(({ planned, fromMs }) => `- ${faultText(fromMs - parts.beganAtMs, planned)}`)
      .join("\n")
  ].join("\n\n")
}

const textsMax = 20

const violationsOf = ({ holds, violations }: Verdict): readonly string[] => {
  if (holds) return []
  const lines = violations.slice(0, textsMax).map(({ rule, text, atMs }) => `- ${clockText(atMs)} ${rules[rule]}: ${text}`)
  const more = violations.length > textsMax ? [`- and ${violations.length - textsMax} more`] : []
  return ["## What did not hold", [...lines, ...more].join("\n")]
}

const figuresOf = (parts: ReportParts, { all, ofStreams }: Standstills): string => {
  const { figures, done } = parts
  return table(
    ["", ""],
    [
      ["events in", count(figures.events)],
      ["results out, one stage", count(figures.results.direct)],
      ["results out, two hops", count(figures.results.chained)],
      ["faults", count(done.length)],
      ["partitions taken over", count(figures.takeOvers)],
      ["longest standstill of all results", standstillText(all[0], parts)],
      ["longest standstill of one stream", standstillText(ofStreams[0], parts)],
      ["drained after the last fault within", secondsText(figures.drainedMs)],
      ["the load waited for the workers", secondsText(figures.heldMs)],
      ["largest worker", `${Math.round(figures.residentMiB)} MiB`]
    ]
  )
}

/** While there was a load, the longest first. */
interface Standstills {
  readonly all: readonly Standstill[]
  readonly ofStreams: readonly Standstill[]
}

const standstillsOf = ({ beganAtMs, loadedAtMs, storedAtMs }: ReportParts): Standstills => {
  const span = { fromMs: beganAtMs, toMs: loadedAtMs }
  const ofStreams = [...storedAtMs].flatMap(([stream, times]) => standstills(stream, times, span))
  return {
    all: standstills("", [...storedAtMs.values()].flat(), span),
    ofStreams: ofStreams.sort((a, b) => lengthMs(b) - lengthMs(a))
  }
}

const standstillText = (standstill: Standstill | undefined, { beganAtMs }: ReportParts): string => {
  if (standstill === undefined) return "none"
  const { where, fromMs } = standstill
  return `${secondsText(lengthMs(standstill))}, from ${clockText(fromMs - beganAtMs)}${where === "" ? "" : `, ${where}`}`
}

const whatWasDone = ({ done }: ReportParts, { all, ofStreams }: Standstills): string => {
  const rows = [...Map.groupBy(done, ({ planned }) => planned.fault.name)].map(([name, ofName]) => [
    name,
    count(ofName.length),
    secondsText(ofName.reduce((sum, fault) => sum + lengthMs(fault), 0)),
    secondsText(longestDuring(all, ofName)),
    secondsText(longestDuring(ofStreams, ofName))
  ])
  return table(["fault", "times", "in all", "longest standstill meanwhile", "of one stream"], rows.toSorted())
}

export const faultText = (atMs: number, { fault, ms, seat }: PlannedFault): string =>
  `${clockText(atMs)} ${fault.name}${seat < 0 ? "" : `, seat ${seat}`}${ms === 0 ? "" : `, ${secondsText(ms)}`}`

/** "03:07.2" */
export const clockText = (ms: number): string => {
  const seconds = ms / 1_000
  return `${String(Math.floor(seconds / 60)).padStart(2, "0")}:${(seconds % 60).toFixed(1).padStart(4, "0")}`
}

const secondsText = (ms: number): string => (Number.isNaN(ms) ? "unknown" : `${(ms / 1_000).toFixed(1)} s`)

const count = (value: number): string => (Number.isNaN(value) ? "unknown" : value.toLocaleString("en"))

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string => {
  const widths = head.map((title, column) => Math.max(3, title.length, ...rows.map((row) => (row[column] ?? "").length)))
  const isNumber = head.map((_, column) => rows.every((row) => /^[\d,.]+( s)?$/.test(row[column] ?? "")))
  const pad = (cell: string, column: number): string =>
    isNumber[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)
  const line = (cells: readonly string[]): string => `| ${cells.map(pad).join(" | ")} |`
  const rule = widths.map((width, column) => (isNumber[column] === true ? `${"-".repeat(width - 1)}:` : "-".repeat(width)))
  return [line(head), line(rule), ...rows.map(line)].join("\n")
}
