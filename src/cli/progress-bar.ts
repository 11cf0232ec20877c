/** How far a publish has come: a bar for a terminal, a line elsewhere, a summary at the end. Pure. */
import { counted, lasting, plural, sized } from "./numerals.ts"
import { dotted, faint, plain, type Span } from "./painting.ts"

export interface PublishFigures {
  /** Stored, those included that went verbatim to partition 0. */
  readonly lines: number
  readonly verbatim: number
  /** Too large for any record. */
  readonly leftOut: number
  readonly bytesRead: number
  /** Undefined: a pipe, nobody knows. */
  readonly bytesTotal: number | undefined
  readonly elapsedMs: number
}

/** `50 % · 3 s left · 4,000 lines/s · 12,000 lines`; without a known size no share and no rest. */
export const progressSpans = (figures: PublishFigures): Span[] => {
  const rate = plain(`${counted(rateOf(figures))} lines/s`)
  const lines = plain(plural(figures.lines, "line"))
  const odd = oddSpans(figures)
  const share = shareOf(figures)
  if (share === undefined) return dotted([rate, lines, plain(sized(figures.bytesRead)), ...odd])
  const rest = share === 0 ? [] : [faint(`${lasting(figures.elapsedMs * (1 / share - 1))} left`)]
  return dotted([plain(`${String(Math.floor(share * 100)).padStart(3)} %`), ...rest, rate, lines, ...odd])
}

/** The bar before it, for a terminal: `[#####     ] `. Empty without a known size. */
export const barSpans = (figures: PublishFigures): Span[] => {
  const share = shareOf(figures)
  if (share === undefined) return []
  const full = Math.floor(share * barWidth)
  return [faint("["), { text: "#".repeat(full), tone: "good" }, plain(" ".repeat(barWidth - full)), faint("] ")]
}

/** `published 1,200 lines to clicks in 0.4 s (3,000 lines/s)`, and what was odd about them */
export const publishSummary = (figures: PublishFigures, topic: string): string => {
  const { lines, verbatim, leftOut } = figures
  const pace = `${lasting(figures.elapsedMs)} (${counted(rateOf(figures))} lines/s)`
  const odd = verbatim === 0 ? "" : `; ${counted(verbatim)} of them went to partition 0 byte for byte, being no value of ${topic}`
  const lost = leftOut === 0 ? "" : `; ${plural(leftOut, "line")} left out, too large for a record`
  return `published ${plural(lines, "line")} to ${topic} in ${pace}${odd}${lost}`
}

const barWidth = 24

const oddSpans = ({ verbatim, leftOut }: PublishFigures): Span[] => [
  ...(verbatim === 0 ? [] : [{ text: `${counted(verbatim)} verbatim`, tone: "warn" } as const]),
  ...(leftOut === 0 ? [] : [{ text: `${counted(leftOut)} left out`, tone: "bad" } as const])
]

/** A file may grow while it is read: never more than all of it. */
const shareOf = ({ bytesRead, bytesTotal }: PublishFigures): number | undefined =>
  bytesTotal === undefined || bytesTotal === 0 ? undefined : Math.min(1, bytesRead / bytesTotal)

const rateOf = ({ lines, elapsedMs }: PublishFigures): number => (elapsedMs <= 0 ? 0 : (lines * 1_000) / elapsedMs)
