/** A GroupState for unit tests of a state function: the engine's own, with a value, a clock and a watermark of your choice. */
import { StateHandle } from "../activation/state-handle.ts"
import { KeyfoldError } from "../errors.ts"
import type { Codec } from "../model/codec.ts"
import type { GroupState, TimeoutKind } from "../model/group-state.ts"

export interface GroupStateOptions<S> {
  /** The state; undefined for none. */
  readonly value?: S
  /** Default `none`. */
  readonly timeout?: TimeoutKind
  /** The turn's clock, ms. Default 0. */
  readonly now?: number
  /** The turn's watermark, ms. Default: the query has none. */
  readonly watermark?: number
  /** Whether this is a timeout call. */
  readonly hasTimedOut?: boolean
}

/** What a test asks after its function has run. */
export interface TestState {
  /** Whether `update()` was the last word. */
  readonly updated: boolean
  /** Whether `remove()` took a state away and was the last word. */
  readonly removed: boolean
  /** The timeout that the function set, ms. */
  readonly timeoutAt: number | undefined
}

/** Throws `illegal-argument` for a negative clock or watermark, `unsupported-operation` for a timeout call without a timeout kind. */
export function groupState<S>(options: GroupStateOptions<S> = {}): GroupState<S> & TestState {
  const { value, timeout = "none", now = 0, watermark, hasTimedOut = false } = options
  assertTime(now, "now")
  if (watermark !== undefined) assertTime(watermark, "watermark")
  if (hasTimedOut && timeout === "none") {
    throw new KeyfoldError("unsupported-operation", 'hasTimedOut needs a timeout kind: timeout: "event-time" or "processing-time"')
  }
  const held: Codec<S> = { contentType: "", fingerprint: "", encode: () => new Uint8Array(), decode: () => value as S }
  const state = new StateHandle(held, timeout)
  state.startTurn({ nowMs: now, watermarkMs: watermark })
  state.begin(value === undefined || value === null ? undefined : new Uint8Array(), hasTimedOut)
  return state
}

const assertTime = (time: number, name: string): void => {
  if (Number.isInteger(time) && time >= 0) return
  throw new KeyfoldError("illegal-argument", `${name} must be a whole number of milliseconds, not negative, got ${String(time)}`)
}
