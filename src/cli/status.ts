/** How a running job is doing: a line to look at, and a summary when it ends. Pure. */
import { counted, lasting, plural } from "./numerals.ts"
import { dotted, plain, type Span } from "./painting.ts"

/** Totals of this run; of several jobs the sum, and the smallest watermark. */
export interface StatusFigures {
  readonly events: number
  readonly eventsPerSecond: number
  readonly watermarkMs: number | undefined
  readonly keys: number
  /** Events in the sources that are not yet read; undefined: not known yet. */
  readonly lag: number | undefined
  readonly late: number
  readonly dead: number
}

/** `sessionize  12,000 events/s · lag 56 · 1,200 keys · 3 late · 1 dead · watermark 2026-01-01T00:00:00.000Z`: what may be cut comes last. */
export const statusSpans = (who: string, figures: StatusFigures): Span[] => [
  { text: `${who}  `, tone: "good" },
  ...dotted([
    plain(`${counted(figures.eventsPerSecond)} events/s`),
    plain(`lag ${figures.lag === undefined ? "?" : counted(figures.lag)}`),
    plain(plural(figures.keys, "key")),
    { text: `${counted(figures.late)} late`, tone: figures.late > 0 ? "warn" : "faint" },
    { text: `${counted(figures.dead)} dead`, tone: figures.dead > 0 ? "bad" : "faint" },
    plain(`watermark ${watermarkText(figures.watermarkMs)}`)
  ])
]

/** `sessionize stopped after 12 s: 120,000 events (10,000/s), watermark 2026-01-01T00:00:00.000Z, 1,200 keys, 3 late, 1 dead` */
export const runSummary = (who: string, how: string, figures: StatusFigures, elapsedMs: number): string => {
  const pace = elapsedMs > 0 ? ` (${counted((figures.events * 1_000) / elapsedMs)}/s)` : ""
  const facts = [
    `${plural(figures.events, "event")}${pace}`,
    `watermark ${watermarkText(figures.watermarkMs)}`,
    plural(figures.keys, "key"),
    `${counted(figures.late)} late`,
    `${counted(figures.dead)} dead`
  ]
  return `${who} ${how} after ${lasting(elapsedMs)}: ${facts.join(", ")}`
}

const timestampMsMax = 8_640_000_000_000_000

/** ISO 8601; `-` while there is none. A watermark past the end of the calendar (all timeouts closed) is a bare number. */
export const watermarkText = (watermarkMs: number | undefined): string => {
  if (watermarkMs === undefined) return "-"
  return Math.abs(watermarkMs) <= timestampMsMax ? new Date(watermarkMs).toISOString() : `${watermarkMs} ms`
}

/** Events per second over the last `windowMs`: steady enough to read, quick enough to see a stall. */
export class RateWindow {
  readonly #windowMs: number
  #samples: { readonly atMs: number; readonly total: number }[] = []

  constructor(windowMs = 3_000) {
    this.#windowMs = windowMs
  }

  add(atMs: number, total: number): void {
    this.#samples.push({ atMs, total })
    // One sample from before the window stays: the rate is over at least the whole window.
    while (this.#samples.length > 2 && atMs - (this.#samples[1]?.atMs ?? atMs) >= this.#windowMs) this.#samples.shift()
  }

  get perSecond(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)]
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0
    return ((last.total - first.total) * 1_000) / (last.atMs - first.atMs)
  }
}
