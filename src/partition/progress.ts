/** What a partition must know to go on after a crash: journaled as JSON with every turn, read once at recovery. Milliseconds. */
import { KeyfoldError } from "../errors.ts"
import { freshInputClock, type InputClock } from "../model/event-clock.ts"

export interface Progress {
  /** Where each input has been read to, and of which topic (P3). */
  readonly positions: readonly { readonly topic: string; readonly created: string; readonly position: number }[]
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
  positions: inputs.map(({ topic, created, position }) => ({ topic, created, position })),
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
export const decodeProgress = (
  text: string,
  inputs: readonly { readonly topic: string; readonly created: string }[],
  where: string
): Progress | KeyfoldError => {
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
  const recreated = inputs.find((input, index) => stored.positions[places[index] as number]?.created !== input.created)
  if (recreated !== undefined) {
    return new KeyfoldError(
      "source-gap",
      `${where}: the topic ${recreated.topic} was deleted and created again since it was read: ` +
        "start under another query name to read the new one from its beginning"
    )
  }
  return {
    ...stored,
    positions: places.map((place) => stored.positions[place] as Progress["positions"][number]),
    clocks: places.map((place) => stored.clocks[place] as InputClock)
  }
}
