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
  const stored = JSON.parse(text) as Progress
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
