/** One key in memory, and what a call makes of it. */
import { type KeyText, keyOfText } from "./key.ts"
import type { TraceContext } from "./trace-context.ts"

/** What a call left behind: the state's bytes, or none, and the timeout that it set, or none (G6). */
export interface StateImage {
  readonly bytes: Uint8Array | undefined
  readonly timeoutAt: number | undefined
}

/** One key's change in a turn, and what it was before. */
export interface Change {
  readonly resident: Resident
  readonly before: StateImage
  readonly updated: boolean
  readonly removed: boolean
}

/** No timeout armed. A number, so that the field keeps one shape. */
export const noTimeout = -1

/** One key in memory: its state and timeout as of the last turn, and what the turn under way has for it. */
export class Resident {
  readonly keyText: KeyText
  bytes: Uint8Array | undefined
  timeoutAt: number
  /** The last turn that touched it: what eviction goes by. */
  turn = 0
  /** The turn's events, in log order; undefined outside a turn, and for a key that has none. */
  events: unknown[] | undefined = undefined
  /** The largest event time among them; NaN without a watermark. */
  eventTimeMax = Number.NaN
  /** The turn that armed its timeout, where turns are traced; not journaled, so it is forgotten with the key (X4). */
  armedBy: TraceContext | undefined = undefined

  constructor(keyText: KeyText, bytes: Uint8Array | undefined, timeoutAt: number) {
    this.keyText = keyText
    this.bytes = bytes
    this.timeoutAt = timeoutAt
  }

  /** Made anew from its text each time when it is composite: a function may change the one it got, the key stays what it is (G21). */
  get key(): unknown {
    return keyOfText(this.keyText)
  }

  get exists(): boolean {
    return this.bytes !== undefined || this.timeoutAt !== noTimeout
  }

  apply(image: StateImage): void {
    this.bytes = image.bytes
    this.timeoutAt = image.timeoutAt ?? noTimeout
  }
}
