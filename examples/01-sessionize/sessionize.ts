/**
 * Cuts the requests of a web log into sessions: runs of requests of one user with no pause longer than 30 minutes.
 *
 * `sessionize` is ready-made. Its place can take a function of your own, called for each user with the requests that have come in and the
 * user's state: by-hand.ts is this job written so, in twenty lines.
 */
import { job, topic } from "keyfold"
import { sessionize } from "keyfold/actors/sessionize"
import { json } from "keyfold/codecs/json"
import { checkRequest, type Request, userOf } from "./request.ts"

export interface UserSession {
  readonly userId: string
  /** Time of the first and of the last request, ms since the epoch. */
  readonly start: number
  readonly end: number
  readonly requests: number
}

/** What comes in. A line that `checkRequest` refuses goes to the dead letters, `sessionize-dead`, and the job goes on. */
export const requests = topic("requests", { codec: json<Request>({ validate: checkRequest }), key: userOf, partitions: 16 })

/** What comes out: each session once, when it is over. */
export const sessions = topic("sessions", { codec: json<UserSession>(), key: (session) => session.userId })

/** Requests that came when their time had passed (at or below the watermark). */
export const lateRequests = topic("late-requests", { codec: json<Request>(), key: userOf, partitions: 1 })

export default job("sessionize")
  .from(requests)
  // Requests may be up to 30 seconds out of order; time ("the watermark") follows the newest request at that distance.
  .withWatermark((request) => request.at, "30 seconds", { late: lateRequests })
  .groupByKey()
  .actor(sessionize({ gap: "30 minutes", eventTime: (request) => request.at }))
  .map((session) => ({ userId: session.key, start: session.start, end: session.end, requests: session.count }))
  .to(sessions)
