/** When nothing came. Pure. */

export interface Span {
  readonly fromMs: number
  readonly toMs: number
}

/** Where nothing came meanwhile. */
export interface Standstill extends Span {
  readonly where: string
}

export const lengthMs = ({ fromMs, toMs }: Span): number => toMs - fromMs

/** Between one result and the next within a span of time; the longest first. */
export const standstills = (where: string, timesMs: readonly number[], { fromMs, toMs }: Span): readonly Standstill[] => {
  const times = [...timesMs.filter((time) => time > fromMs && time < toMs), toMs].sort((a, b) => a - b)
  let before = fromMs
  return times
    .map((time) => {
      const standstill = { where, fromMs: before, toMs: time }
      before = time
      return standstill
    })
    .sort((a, b) => lengthMs(b) - lengthMs(a))
}

/** The longest that overlaps one of these spans; 0 for none. */
export const longestDuring = (longestFirst: readonly Standstill[], spans: readonly Span[]): number => {
  const found = longestFirst.find((standstill) => spans.some((span) => standstill.fromMs <= span.toMs && standstill.toMs >= span.fromMs))
  return found === undefined ? 0 : lengthMs(found)
}
