/**
 * The same job with a state function of one's own, which can know what the ready-made actor does not: the page that a session began with.
 * Try: close a session at "/logout"; yield an alert when one user asks for 1,000 pages; end a session after 8 hours at the latest.
 *
 * It keeps one open session a user, so it is right when the requests of one user come in order. The ready-made actor takes them in any
 * order: it keeps every session that a straggler could still join.
 */
import { type GroupState, job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import type { Request } from "./request.ts"
import { lateRequests, requests } from "./sessionize.ts"

export interface OpenVisit {
  readonly start: number
  readonly end: number
  readonly requests: number
  readonly landing: string
}

export interface Visit extends OpenVisit {
  readonly userId: string
}

export const visits = topic("visits", { codec: json<Visit>(), key: (visit) => visit.userId })

/** Called for a user with the requests that have come in, or with none when nothing came for 30 minutes (`hasTimedOut`). */
export function* visitsOf(userId: string, events: readonly Request[], state: GroupState<OpenVisit>): Generator<Visit> {
  if (state.hasTimedOut) {
    yield { userId, ...state.get() }
    state.remove()
    return
  }
  let open = state.getOption()
  for (const request of events) {
    if (open !== undefined && request.at - open.end > gapMs) {
      yield { userId, ...open }
      open = undefined
    }
    open = open === undefined ? begun(request) : { ...open, end: Math.max(open.end, request.at), requests: open.requests + 1 }
  }
  if (open === undefined) return
  state.update(open)
  state.setTimeoutTimestamp(open.end, "30 minutes")
}

export default job("visits-by-hand")
  .from(requests)
  .withWatermark((request) => request.at, "30 seconds", { late: lateRequests })
  .groupByKey()
  .flatMapGroupsWithState({ name: "visits", state: json<OpenVisit>(), timeout: "event-time" }, visitsOf)
  .to(visits)

const gapMs = 30 * 60_000

const begun = ({ at, page = "" }: Request): OpenVisit => ({ start: at, end: at, requests: 1, landing: page })
