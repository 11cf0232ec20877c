/** What the benches of both runtimes fold: clicks into sessions, with the fold that a state function and a loop by hand have in common. */
import { type Job, job, type Topic } from "keyfold"
import { json } from "keyfold/codecs/json"

export interface Click {
  readonly user: string
  readonly at: number
  readonly page: string
}

export interface Open {
  readonly start: number
  readonly end: number
  readonly clicks: number
}

export interface Session extends Open {
  readonly user: string
}

export const gapMs = 1_800_000
export const delayMs = 10_000
/** How far a click may be behind the one before it. */
export const jitterMs = 5_000

/** Users click in bursts: `users` of them, in turn at random, a second of event time every ten clicks. */
export const clickLog = (count: number, users: number): Click[] => {
  let seed = 99
  return Array.from({ length: count }, (_, index) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    return { user: `user-${(seed >>> 8) % users}`, at: 1_700_000_000_000 + index * 100 - (seed % jitterMs), page: `/page/${seed % 1_000}` }
  })
}

export const fold = (
  user: string,
  events: readonly Click[],
  open: Open | undefined,
  finish: (session: Session) => void
): Open | undefined => {
  let current = open
  for (const { at } of events) {
    if (current !== undefined && at - current.end > gapMs) {
      finish({ user, ...current })
      current = undefined
    }
    current =
      current === undefined
        ? { start: at, end: at, clicks: 1 }
        : { start: Math.min(current.start, at), end: Math.max(current.end, at), clicks: current.clicks + 1 }
  }
  return current
}

/** The job of the benches: sessions with timeouts by event time. */
export const sessionize = <C extends Click>(clicks: Topic<C, string>, sessions: Topic<Session, string>): Job =>
  job("sessionize")
    .from(clicks)
    .withWatermark((click) => click.at, delayMs)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<Open>(), timeout: "event-time" }, (user, events, state) => {
      const finished: Session[] = []
      if (state.hasTimedOut) {
        finished.push({ user, ...state.get() })
        state.remove()
        return finished
      }
      const open = fold(user, events, state.getOption(), (session) => finished.push(session)) as Open
      state.update(open)
      state.setTimeoutTimestamp(open.end, gapMs)
      return finished
    })
    .to(sessions)
