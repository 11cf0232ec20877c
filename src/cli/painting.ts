/** Lines for a terminal: pieces of text with a tone, cut to a width before they are coloured. Pure. */

export type Tone = "plain" | "faint" | "good" | "warn" | "bad"

/** One column per UTF-16 unit: only keyfold's own words, numbers and names go in here. */
export interface Span {
  readonly text: string
  readonly tone: Tone
}

export const plain = (text: string): Span => ({ text, tone: "plain" })
export const faint = (text: string): Span => ({ text, tone: "faint" })

/** The spans that fit; what does not is cut, with an ellipsis in the last column. */
export const fitted = (spans: readonly Span[], width: number): Span[] => {
  const total = spans.reduce((sum, span) => sum + span.text.length, 0)
  if (total <= width) return [...spans]
  const fitting: Span[] = []
  let left = Math.max(0, width - 1)
  for (const span of spans) {
    const text = span.text.slice(0, left)
    if (text !== "") fitting.push({ ...span, text })
    left -= text.length
  }
  return width < 1 ? [] : [...fitting, faint("…")]
}

export const painted = (spans: readonly Span[], coloured: boolean): string =>
  spans.map(({ text, tone }) => (coloured && tone !== "plain" ? `\u001b[${codes[tone]}m${text}\u001b[0m` : text)).join("")

/** Spans with a faint dot between them. */
export const dotted = (spans: readonly Span[]): Span[] => spans.flatMap((span, index) => (index === 0 ? [span] : [faint(" · "), span]))

const codes: Record<Exclude<Tone, "plain">, number> = { faint: 2, good: 32, warn: 33, bad: 31 }
