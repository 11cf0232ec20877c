/** The job of the throughput bench, and the log that it reads. */
import { publisher, type Query, type Runtime, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { type Click, clickLog, type Session, sessionize } from "./clicks.ts"
import { Stopwatch, type Timed } from "./stopwatch.ts"

export interface SessionsPlace {
  readonly runtime: Runtime
  readonly users: number
  readonly partitions: number
}

/** About a hundred bytes each as JSON. */
interface LongClick extends Click {
  readonly from: string
}

export const outputPartitions = 16

export const inputName = ({ users, partitions }: Pick<SessionsPlace, "users" | "partitions">): string => `clicks-u${users}-p${partitions}`
export const outputName = "sessions"

const topicsOf = (place: SessionsPlace, began: () => void) => {
  const plain = json<LongClick>()
  const decode = (bytes: Uint8Array): LongClick => {
    began()
    return plain.decode(bytes)
  }
  const clicks = topic(inputName(place), { codec: { ...plain, decode }, key: (click) => click.user, partitions: place.partitions })
  const sessions = topic(outputName, { codec: json<Session>(), key: (session) => session.user, partitions: outputPartitions })
  return { clicks, sessions }
}

/** Puts the log into its topic, and makes the topic of the results. */
export const fill = async (place: SessionsPlace, count: number): Promise<void> => {
  const { clicks, sessions } = topicsOf(place, () => undefined)
  await using out = await publisher(place.runtime, clicks)
  for (const [index, click] of clickLog(count, place.users).entries()) {
    const sent = out.send({ ...click, from: "https://news.example.com/" })
    if (index % 4_096 === 0) await sent
  }
  await out.flush()
  await (await publisher(place.runtime, sessions))[Symbol.asyncDispose]()
}

const sessionsJob = (place: SessionsPlace, began: () => void) => {
  const { clicks, sessions } = topicsOf(place, began)
  return sessionize(clicks, sessions)
}

export interface KeyfoldRun extends Timed {
  readonly outputs: number
  readonly startMs: number
}

/** Reads the log to its end, from the first record to the last confirmed result. What starting takes is told apart. */
export const runByKeyfold = async (place: SessionsPlace, name: string): Promise<KeyfoldRun> => {
  const stopwatch = new Stopwatch()
  const job = sessionsJob(place, stopwatch.begin)
  const calledMs = performance.now()
  const query = await start(job, { runtime: place.runtime, name })
  const startMs = performance.now() - calledMs
  await query.processAllAvailable()
  const timed = stopwatch.end()
  await query.stop()
  return { ...timed, outputs: outputsOf(query), startMs }
}

const outputsOf = (query: Query): number => (query as unknown as { readonly totals: { readonly outputs: number } }).totals.outputs
