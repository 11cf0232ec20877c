/** What a run of the job has left in its topics, in numbers that a person can check. */
import { type Runtime, read, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { lateRequests, sessions, type UserSession } from "./sessionize.ts"

/** What we look at in a dead letter; it has more, the original bytes for example. */
interface DeadLetter {
  readonly code: string
  readonly message: string
  readonly bytes?: string
}

const deadLetters = topic("sessionize-dead", { codec: json<DeadLetter>(), key: () => null })

export interface Outcome {
  readonly sessions: readonly UserSession[]
  readonly late: number
  readonly dead: readonly DeadLetter[]
}

export const collect = async (runtime: Runtime): Promise<Outcome> => ({
  sessions: await valuesOf(read(runtime, sessions)),
  late: (await valuesOf(read(runtime, lateRequests))).length,
  dead: await valuesOf(read(runtime, deadLetters))
})

/** Whether every published line is in exactly one place. */
export const addsUp = (outcome: Outcome, published: number): boolean =>
  published === requestsIn(outcome.sessions) + outcome.late + outcome.dead.length

export const describeOutcome = (outcome: Outcome, published: number): string =>
  aligned([...sessionRows(outcome.sessions), ...restRows(outcome), ...sumRows(outcome, published)])

type Row = readonly [name: string, value: string, note?: string | undefined]

const sessionRows = (all: readonly UserSession[]): Row[] => {
  const lengths = all.map((session) => session.end - session.start).sort((a, b) => a - b)
  const longest = all.find((session) => session.end - session.start === lengths.at(-1))
  const users = busiest(all)
  return [
    ["sessions", count(all.length), `of ${count(users.length)} users`],
    ["requests in them", count(requestsIn(all)), all.length === 0 ? "" : `${(requestsIn(all) / all.length).toFixed(1)} a session`],
    ["median length", duration(lengths[Math.floor(lengths.length / 2)])],
    ["longest", duration(lengths.at(-1)), longest && `${longest.userId}, ${count(longest.requests)} requests`],
    ...users.slice(0, 3).map((user, index): Row => {
      return [index === 0 ? "busiest users" : "", count(user.requests), `requests of ${user.userId} in ${count(user.sessions)} sessions`]
    })
  ]
}

const restRows = ({ late, dead }: Outcome): Row[] => {
  const [first] = dead
  const sample: Row[] =
    first === undefined
      ? []
      : [
          ["", "", `${first.code}: ${first.message}`],
          ["", "", lineOf(first)]
        ]
  return [
    ["late", count(late), `in the topic ${lateRequests.name}`],
    ["bad", count(dead.length), `in the topic ${deadLetters.name}${first === undefined ? "" : ", the first one:"}`],
    ...sample
  ]
}

/** The line that a dead letter is about, fit for a terminal. */
const lineOf = ({ bytes = "" }: DeadLetter): string =>
  Buffer.from(bytes, "base64")
    .toString()
    .slice(0, 100)
    .replace(/\p{Cc}/gu, " ")

const sumRows = (outcome: Outcome, published: number): Row[] => {
  const { sessions: all, late, dead } = outcome
  const parts = `${count(requestsIn(all))} in sessions + ${count(late)} late + ${count(dead.length)} bad`
  return [["published", count(published), addsUp(outcome, published) ? `= ${parts}: it adds up` : `is not ${parts}: THIS IS A BUG`]]
}

interface UserTotal {
  readonly userId: string
  readonly sessions: number
  readonly requests: number
}

const busiest = (all: readonly UserSession[]): readonly UserTotal[] =>
  [...Map.groupBy(all, (session) => session.userId)]
    .map(([userId, own]) => ({ userId, sessions: own.length, requests: requestsIn(own) }))
    .sort((a, b) => b.requests - a.requests)

const requestsIn = (all: readonly UserSession[]): number => all.reduce((sum, session) => sum + session.requests, 0)

const valuesOf = async <T>(records: AsyncIterable<{ readonly value: T }>): Promise<T[]> => {
  const values: T[] = []
  for await (const { value } of records) values.push(value)
  return values
}

const aligned = (rows: readonly Row[]): string => {
  const nameWidth = Math.max(...rows.map(([name]) => name.length))
  const valueWidth = Math.max(...rows.map(([, value]) => value.length))
  return rows.map(([name, value, note = ""]) => `  ${name.padEnd(nameWidth)}  ${value.padStart(valueWidth)}  ${note}`.trimEnd()).join("\n")
}

const count = (number: number): string => number.toLocaleString("en")

const duration = (lengthMs: number | undefined): string => {
  if (lengthMs === undefined) return "-"
  const seconds = Math.round(lengthMs / 1_000)
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60]
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${seconds % 60} s`
}
