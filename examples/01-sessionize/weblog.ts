/**
 * A web log made from a seed: the same seed and options, the same lines.
 *
 * Users come by during the day, ask for a page, read for a while, ask for the next; some leave a page open for half an hour, a few are here
 * all day. As in a real log, some things are wrong with it:
 *   - lines are out of order, each at most `disorderMs` behind the newest line before it;
 *   - 1 in 200 requests stands in it twice, because a client has sent it again. Sessions count such a request twice; where that matters,
 *     drop the second before the job (their times, and so start and end of the session, are the same);
 *   - 1 in 1,000 lines is rubbish: cut off, not JSON, without a user or a usable time;
 *   - 1 in 20,000 comes far too late. It has a time from the log's first tenth, and stands in the last half.
 */
export interface WeblogOptions {
  readonly seed: number
  /** How many lines. Default 300,000. */
  readonly lines?: number
  /** Default 1 user per 50 lines, at least 1. */
  readonly users?: number
  /** Default 25,000 ms. */
  readonly disorderMs?: number
}

export interface Weblog {
  readonly lines: readonly string[]
  /** How many of the lines are what; the rest are requests, and in order but for `disorderMs`. */
  readonly duplicates: number
  readonly rubbish: number
  readonly tooLate: number
}

/** Numbers from 0 to below 1, the same for the same seed: mulberry32. */
export const randomNumbers = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export const weblog = (options: WeblogOptions): Weblog => {
  const { seed, lines: lineCount = 300_000, users = Math.max(1, Math.floor(lineCount / 50)), disorderMs = 25_000 } = options
  const random = randomNumbers(seed)
  const duplicates = Math.floor(lineCount / 200)
  const rubbish = Math.floor(lineCount / 1_000)
  const tooLate = Math.floor(lineCount / 20_000)
  const entries = visits(random, lineCount - duplicates - rubbish - tooLate, users)
  for (let sent = 0; sent < duplicates; sent++) entries.push({ ...pick(random, entries) })
  for (const entry of entries) entry.arrivesAt = entry.at + random() * disorderMs
  entries.sort((a, b) => a.arrivesAt - b.arrivesAt)
  const lines = entries.map(({ userId, at, page }) => JSON.stringify({ userId, at, page }))
  const insertions = [
    ...Array.from({ length: rubbish }, () => ({ before: Math.floor(random() * lines.length), line: pick(random, rubbishLines) })),
    ...Array.from({ length: tooLate }, () => ({
      before: Math.floor((0.5 + random() / 2) * lines.length),
      line: lines[Math.floor((random() / 10) * lines.length)] as string
    }))
  ]
  return { lines: withInsertions(lines, insertions), duplicates, rubbish, tooLate }
}

interface Entry {
  readonly userId: string
  readonly at: number
  readonly page: string
  arrivesAt: number
}

const minuteMs = 60_000
const dayMs = 1_440 * minuteMs
const firstDayMs = Date.UTC(2026, 0, 5)
const days = 3

/** Visits of random users at random times of the day, until there are `count` requests. */
const visits = (random: () => number, count: number, users: number): Entry[] => {
  const entries: Entry[] = []
  while (entries.length < count) {
    const userId = `user-${String(Math.floor(users * random() ** 1.5)).padStart(5, "0")}` // low numbers come more often
    let at = firstDayMs + Math.floor(random() * days) * dayMs + (6 + 8 * (random() + random())) * 60 * minuteMs // most at 14:00
    do {
      entries.push({ userId, at: Math.floor(at), page: pick(random, pages), arrivesAt: 0 })
      at += thinkMs(random)
    } while (random() < 0.88 && entries.length < count)
  }
  return entries
}

/** The time on a page: a minute on average; once in forty the user is away for up to 40 minutes. */
const thinkMs = (random: () => number): number => (random() < 0.025 ? (5 + 35 * random()) * minuteMs : -Math.log(1 - random()) * minuteMs)

const withInsertions = (lines: readonly string[], insertions: readonly { readonly before: number; readonly line: string }[]): string[] => {
  const inOrder = insertions.toSorted((a, b) => a.before - b.before)
  const all: string[] = []
  let next = 0
  for (let index = 0; index < lines.length; index++) {
    for (; inOrder[next]?.before === index; next++) all.push(inOrder[next]?.line as string)
    all.push(lines[index] as string)
  }
  return all
}

const pick = <T>(random: () => number, choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T

const pages = ["/", "/", "/", "/search", "/search", "/news", "/products/17", "/products/4", "/products/23", "/basket", "/checkout", "/help"]

const rubbishLines = [
  '10.0.0.7 - - "GET /favicon.ico HTTP/1.1" 404 209',
  '{"userId":"user-00001","at":17676',
  '{"at":1767610000000,"page":"/"}',
  '{"userId":42,"at":1767610000000,"page":"/"}',
  '{"userId":"user-00002","page":"/search"}',
  '{"userId":"user-00003","at":NaN,"page":"/"}',
  '{"userId":"user-00004","at":-1,"page":"/help"}',
  '{"userId":"user-00005","at":"yesterday","page":"/"}',
  "null"
]
