import type { Duration } from "./duration.ts"

/** `none`, or what a key's timeout is measured by: the turn's clock, or the watermark. */
export type TimeoutKind = "none" | "processing-time" | "event-time"

/**
 * A key's state and timeout, as its state function sees them during one call. Spark's `GroupState`, rule by rule (SEMANTICS G1-G16);
 * times are milliseconds. Used after its call has ended it throws `unsupported-operation`.
 */
export interface GroupState<S> {
  /** Whether the key has a state now: false after `remove()`, and for a key that only has a timeout (G7). */
  readonly exists: boolean
  /** Whether this is a timeout call: it has no events (G9). */
  readonly hasTimedOut: boolean
  /** The state. Throws `no-state` when there is none (G4). Changing the object is no change without `update()`. */
  get(): S
  /** The state, or undefined when there is none. */
  getOption(): S | undefined
  /** Sets the state. `null` and `undefined` are refused with `illegal-argument` and change nothing (G4). */
  update(value: S): void
  /** Removes the state; legal when there is none. A timeout set in the same call stays (G7). */
  remove(): void
  /** Sets a processing-time timeout at the turn's clock + `duration` (> 0). Needs timeout kind `processing-time` (G13, G14). */
  setTimeoutDuration(duration: Duration): void
  /** Sets an event-time timeout at `timestampMs` + `plus`, > 0 and not below the watermark. Needs timeout kind `event-time` (G13, G14). */
  setTimeoutTimestamp(timestampMs: number, plus?: Duration): void
  /** The turn's watermark. Throws `unsupported-operation` when the query has none (G16). */
  getCurrentWatermarkMs(): number
  /** The turn's one clock reading (G2). */
  getCurrentProcessingTimeMs(): number
}
