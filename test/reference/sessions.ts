/**
 * The oracle of sessions: sorts the whole input and walks through it once. No stream, no watermark, no state; shares nothing with the
 * actor that it judges.
 */

/** One event: whose it is, when it was (ms), and how long a pause may follow it. */
export interface TimedEvent {
  readonly key: string
  readonly at: number
  readonly gapMs: number
}

export interface TrueSession {
  readonly key: string
  readonly start: number
  readonly end: number
  readonly count: number
}

/** The sessions of all keys, by key, then start. An event joins while it is not later than any earlier event's `at + gapMs` (S2). */
export const trueSessions = (events: readonly TimedEvent[]): readonly TrueSession[] => {
  const sessions: TrueSession[] = []
  let openUntil = Number.NEGATIVE_INFINITY
  let current: TrueSession | undefined
  for (const { key, at, gapMs } of events.filter((event) => event.gapMs > 0).toSorted(byKeyThenTime)) {
    if (current !== undefined && current.key === key && at <= openUntil) {
      current = { ...current, end: at, count: current.count + 1 }
      sessions[sessions.length - 1] = current
      openUntil = Math.max(openUntil, at + gapMs)
    } else {
      current = { key, start: at, end: at, count: 1 }
      sessions.push(current)
      openUntil = at + gapMs
    }
  }
  return sessions
}

/** Results in the oracle's order, for comparing. */
export const inOrder = <T extends { readonly key: string; readonly start: number }>(sessions: readonly T[]): readonly T[] =>
  sessions.toSorted((a, b) => byText(a.key, b.key) || a.start - b.start)

const byKeyThenTime = (a: TimedEvent, b: TimedEvent): number => byText(a.key, b.key) || a.at - b.at

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
