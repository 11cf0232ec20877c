/**
 * The event-time clock of one partition (SEMANTICS W), as pure functions over a plain value that the journal keeps. Milliseconds.
 *
 * A partition has one input clock per input. A source's shows newest event time - delay (W1); the input clock of an internal topic shows
 * the minimum of what its upstream partitions said (W5). The partition's watermark is the minimum over its inputs that are not idle (W6),
 * and never moves back.
 */

/** What one input has shown so far. Journaled. */
export interface InputClock {
  /** Newest event time seen; null before the first row. */
  readonly newestMs: number | null
  /** The partition's clock at the last row; null before the first row. */
  readonly lastRowAtMs: number | null
  /** Of an internal topic: the last watermark of each upstream partition. */
  readonly upstreamMs: readonly number[]
}

export const freshInputClock = (upstreamCount: number): InputClock => ({
  newestMs: null,
  lastRowAtMs: null,
  upstreamMs: new Array<number>(upstreamCount).fill(0)
})

/** How an input's time is read: the delay and idleness of its `withWatermark`; none for an internal topic. */
export interface InputTime {
  readonly delayMs: number
  readonly idleAfterMs: number
  readonly advanceWhenIdle: boolean
}

/** Where an input alone would put the watermark; 0 while it has shown nothing (W5). */
export const inputWatermark = (clock: InputClock, delayMs: number): number => {
  if (clock.upstreamMs.length > 0) return Math.min(...clock.upstreamMs)
  return clock.newestMs === null ? 0 : clock.newestMs - delayMs
}

/** The watermark after a turn: the minimum over the active inputs, never below `watermarkMs`. All idle: it stays. */
export const nextWatermark = (watermarkMs: number, inputs: readonly { readonly showsMs: number; readonly idle: boolean }[]): number => {
  let least = Number.POSITIVE_INFINITY
  for (const input of inputs) if (!input.idle && input.showsMs < least) least = input.showsMs
  return least === Number.POSITIVE_INFINITY ? watermarkMs : Math.max(watermarkMs, least)
}

/** W7: while everything is idle, the newest event time goes on with the clock. Undefined when nothing was seen yet. */
export const idleWatermark = (clock: InputClock, time: InputTime, nowMs: number): number | undefined =>
  clock.newestMs === null || clock.lastRowAtMs === null ? undefined : clock.newestMs + (nowMs - clock.lastRowAtMs) - time.delayMs

/** One partition of a stage, as its siblings see it. */
export interface SiblingClock {
  readonly watermarkMs: number
  readonly idle: boolean
  /** Whether it has ever had a row or a watermark: before that it says nothing about time. */
  readonly shown: boolean
}

/**
 * The watermark that an idle partition adopts (W6): the minimum of the stage's active partitions; when all are idle, the minimum of those
 * that have shown something, so that a partition that never had a row does not hold a later stage at 0. Undefined: nothing to adopt.
 */
export const adoptedWatermark = (siblings: readonly SiblingClock[]): number | undefined => {
  const active = siblings.filter((sibling) => !sibling.idle)
  const telling = active.length > 0 ? active : siblings.filter((sibling) => sibling.shown)
  return telling.length === 0 ? undefined : Math.min(...telling.map((sibling) => sibling.watermarkMs))
}

const dateMsMax = 8.64e15

/** ISO 8601, or the number itself beyond what a Date can hold: event times are the user's. */
export const isoTime = (timeMs: number): string => (Math.abs(timeMs) <= dateMsMax ? new Date(timeMs).toISOString() : String(timeMs))
