/** The ready-made actors infer key and event from the flow that they are used in. Checked by tsc, never run. */
import { job, topic } from "keyfold"
import { sessionize } from "keyfold/actors/sessionize"
import { json } from "keyfold/codecs/json"

interface Click {
  readonly userId: string
  readonly at: number
  readonly slow: boolean
}
const clicks = topic("clicks", { codec: json<Click>(), key: (click) => click.userId })
const sessions = topic("sessions", { codec: json<{ user: string; start: number; end: number; clicks: number }>(), key: (session) => session.user })

export const inferred = job("inferred")
  .from(clicks)
  .withWatermark((click) => click.at, "30 seconds")
  .groupByKey()
  .actor(sessionize({ gap: "30 minutes", eventTime: (click) => click.at }))
  .map((session) => ({ user: session.key, start: session.start, end: session.end, clicks: session.count }))
  .to(sessions)

export const dynamic = job("dynamic")
  .from(clicks)
  .withWatermark((click) => click.at, "30 seconds")
  .groupByKey((click) => [click.userId, click.slow])
  .actor(sessionize({ gap: (click) => (click.slow ? "1 hour" : 60_000), eventTime: (click) => click.at }), { name: "by-speed" })
  .map((session) => ({ user: session.key[0], start: session.start, end: session.end, clicks: session.count }))
  .to(sessions)
