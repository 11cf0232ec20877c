/** What a partition must know to go on after a crash: journaled as JSON with every turn, read once at recovery. Milliseconds. */
import { KeyfoldError } from "../errors.ts"
import { freshInputClock, type InputClock } from "../model/event-clock.ts"
import type { ReadPosition } from "../model/record.ts"
import { nothingSeen, type SeenNumbers } from "../model/seen.ts"

export interface InputPosition extends ReadPosition {
  readonly topic: string
}

export interface Progress {
  /** Where each input has been read to, and of which topic (P3). */
  readonly positions: readonly InputPosition[]
  /** What each input has shown of its writers (P17). */
  readonly seen: readonly SeenNumbers[]
  /** The last turn's clock: the next one's is not before it (P6). */
  readonly nowMs: number
  readonly watermarkMs: number
  readonly clocks: readonly InputClock[]
  /** Newest event time put out, for a `withWatermark` behind the stage; null: none yet. */
  readonly outgoingNewestMs: number | null
  readonly outgoingWatermarkMs: number
  /** More timeouts are due at the same clock and watermark (P22). */
  readonly followUp: boolean
  /** The watermark at which timeouts are being fired, while more of them are due (T4); null: none are. */
  readonly sweepWatermarkMs: number | null
  /** How many of this partition's initial states have been applied (G20): all of them in the first turn, if it can hold them. */
  readonly initialised: number
  /** The last number of this writer in each partition of each topic (PROTOCOL, Names). */
  readonly numbers: Readonly<Record<string, number>>
}

export const freshProgress = (
  inputs: readonly { readonly topic: string; readonly created: string; readonly upstreamCount: number; readonly position: number }[]
): Progress => ({
  positions: inputs.map(({ topic, created, position }) => ({ topic, created, position, publishedAt: null })),
  seen: inputs.map(() => nothingSeen),
  nowMs: 0,
  watermarkMs: 0,
  clocks: inputs.map(({ upstreamCount }) => freshInputClock(upstreamCount)),
  outgoingNewestMs: null,
  outgoingWatermarkMs: 0,
  followUp: false,
  sweepWatermarkMs: null,
  initialised: 0,
  numbers: {}
})

export const encodeProgress = (progress: Progress): string => JSON.stringify(progress)

/** Reads a journaled progress and matches it with the inputs of today's job, by topic name. */
export const decodeProgress = (text: string, inputs: readonly { readonly topic: string }[], where: string): Progress | KeyfoldError => {
  const stored = parsed(text)
  if (stored === undefined) return damaged(where)
  const known = stored.positions.map(({ topic }) => topic)
  const wanted = inputs.map(({ topic }) => topic)
  if (known.length !== wanted.length || wanted.some((topic) => !known.includes(topic))) {
    return new KeyfoldError(
      "schema-incompatible",
      `${where} was written by a job that read ${known.join(", ")}; this one reads ${wanted.join(", ")}: start it under another query name`
    )
  }
  const places = wanted.map((topic) => known.indexOf(topic))
  return {
    ...stored,
    positions: places.map((place) => stored.positions[place] as InputPosition),
    seen: places.map((place) => stored.seen[place] as SeenNumbers),
    clocks: places.map((place) => stored.clocks[place] as InputClock)
  }
}

const damaged = (where: string): KeyfoldError =>
  new KeyfoldError(
    "directory-damaged",
    `${where} is damaged: what it has of positions and clocks is none of keyfold's. Something else has written to it; restore a backup, or begin anew under another query name`
  )

// ---- what no checksum has looked at: a row of SQLite, or a field of `meta`

const parsed = (text: string): Progress | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return isProgress(value) ? value : undefined
  } catch {
    return undefined
  }
}

type Check = (value: unknown) => boolean

const isNumber: Check = (value) => Number.isFinite(value)
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0
const isText: Check = (value) => typeof value === "string"
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value)
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check)
const isObject = (value: unknown): value is object => typeof value === "object" && value !== null && !Array.isArray(value)
const isNumbers: Check = (value) => isObject(value) && Object.values(value).every(isCount)
const objectOf =
  (checks: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isObject(value) && Object.entries(checks).every(([name, check]) => check((value as Readonly<Record<string, unknown>>)[name]))

const hasMembers = objectOf({
  positions: listOf(objectOf({ topic: isText, created: isText, position: isCount, publishedAt: orNull(isNumber) })),
  seen: listOf(isNumbers),
  nowMs: isNumber,
  watermarkMs: isNumber,
  clocks: listOf(objectOf({ newestMs: orNull(isNumber), lastRowAtMs: orNull(isNumber), upstreamMs: listOf(isNumber) })),
  outgoingNewestMs: orNull(isNumber),
  outgoingWatermarkMs: isNumber,
  followUp: (value) => typeof value === "boolean",
  sweepWatermarkMs: orNull(isNumber),
  initialised: isCount,
  numbers: isNumbers
} satisfies Record<keyof Progress, Check>)

const isProgress = (value: unknown): value is Progress => {
  if (!hasMembers(value)) return false
  const { positions, seen, clocks } = value as Progress
  return seen.length === positions.length && clocks.length === positions.length
}
