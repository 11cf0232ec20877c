/**
 * The same job with a state function of one's own, which the ready-made actor cannot be: it keeps the page that each session began with.
 * Try: close a session at "/logout"; yield an alert when one user asks for 1,000 pages; end a session after 8 hours at the latest.
 *
 * It keeps one open session a user, so it is right when the requests of one user come in order. The ready-made actor also takes them in any
 * order: it keeps every session that a late-coming request could still join.
 */
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import type { Request } from "./request.ts"
import { lateRequests, requests } from "./sessionize.ts"

interface Open {
  readonly start: number
  readonly end: number
  readonly requests: number
  readonly landing: string
}

export interface LandedSession extends Open {
  readonly userId: string
}

export const landedSessions = topic("landed-sessions", { codec: json<LandedSession>(), key: (session) => session.userId })

const gapMs = 30 * 60_000

export default job("sessionize-by-hand")
  .from(requests)
  .withWatermark((request) => request.at, "30 seconds", { late: lateRequests })
  .groupByKey()
  .flatMapGroupsWithState({ name: "sessions", state: json<Open>(), timeout: "event-time" }, function* (userId, events, state) {
    if (state.hasTimedOut) {
      yield { userId, ...state.get() } // nothing for 30 minutes: the session is over
      state.remove()
      return
    }
    let open = state.getOption()
    for (const request of events) {
      if (open !== undefined && request.at - open.end > gapMs) {
        yield { userId, ...open }
        open = undefined
      }
      open = grown(open, request)
    }
    if (open === undefined) return
    state.update(open)
    state.setTimeoutTimestamp(open.end, "30 minutes")
  })
  .to(landedSessions)

const grown = (open: Open | undefined, { at, page = "" }: Request): Open =>
  open === undefined
    ? { start: at, end: at, requests: 1, landing: page }
    : { ...open, end: Math.max(open.end, at), requests: open.requests + 1 }
