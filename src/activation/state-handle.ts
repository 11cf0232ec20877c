/** The GroupState that a state function gets: one handle per engine, reused call by call, dead in between. */
import { KeyfoldError, reasonOf } from "../errors.ts"
import type { Codec } from "../model/codec.ts"
import { type Duration, parseDuration } from "../model/duration.ts"
import type { GroupState, TimeoutKind } from "../model/group-state.ts"
import type { StateImage } from "../model/resident.ts"
import type { TurnClock } from "../model/turn.ts"

const timeMax = Number.MAX_SAFE_INTEGER

export class StateHandle<S> implements GroupState<S> {
  readonly #codec: Codec<S>
  readonly #kind: TimeoutKind
  #clock: TurnClock = { nowMs: 0, watermarkMs: undefined }
  #live = false
  #bytes: Uint8Array | undefined
  #value: S | undefined
  #exists = false
  #decoded = false
  #hasTimedOut = false
  #updated = false
  #removed = false
  #timeoutAt: number | undefined

  constructor(codec: Codec<S>, kind: TimeoutKind) {
    this.#codec = codec
    this.#kind = kind
  }

  // ---- the engine's side

  startTurn(clock: TurnClock): void {
    this.#clock = clock
  }

  /** Begins a call on a key whose state is `bytes`. The call starts without a timeout (G6). */
  begin(bytes: Uint8Array | undefined, hasTimedOut: boolean): void {
    this.#live = true
    this.#bytes = bytes
    this.#value = undefined
    this.#exists = bytes !== undefined
    this.#decoded = false
    this.#hasTimedOut = hasTimedOut
    this.#updated = false
    this.#removed = false
    this.#timeoutAt = undefined
  }

  /** Ends the call. Encodes the state when it was updated; throws `encode-failed` when the codec refuses it. */
  finish(): StateImage {
    this.#live = false
    if (!this.#exists) return { bytes: undefined, timeoutAt: this.#timeoutAt }
    return { bytes: this.#updated ? this.#encode() : this.#bytes, timeoutAt: this.#timeoutAt }
  }

  /** Ends a call that threw. */
  abandon(): void {
    this.#live = false
  }

  /** Whether `update()` was the last word of the call, also with an equal value. */
  get updated(): boolean {
    return this.#updated
  }

  /** Whether `remove()` took a state away and was the last word of the call. */
  get removed(): boolean {
    return this.#removed
  }

  get timeoutAt(): number | undefined {
    return this.#timeoutAt
  }

  // ---- the user's side

  get exists(): boolean {
    this.#assertLive()
    return this.#exists
  }

  get hasTimedOut(): boolean {
    this.#assertLive()
    return this.#hasTimedOut
  }

  get(): S {
    this.#assertLive()
    if (!this.#exists) throw new KeyfoldError("no-state", "get() on a key without state: ask `exists` first, or use getOption()")
    return this.#current()
  }

  getOption(): S | undefined {
    this.#assertLive()
    return this.#exists ? this.#current() : undefined
  }

  update(value: S): void {
    this.#assertLive()
    if (value === null || value === undefined) {
      throw new KeyfoldError("illegal-argument", `update(${value}): a state is a value; use remove() to have none (G4)`)
    }
    this.#value = value
    this.#decoded = true
    this.#exists = true
    this.#updated = true
    this.#removed = false
  }

  remove(): void {
    this.#assertLive()
    this.#removed ||= this.#exists
    this.#exists = false
    this.#value = undefined
    this.#updated = false
  }

  setTimeoutDuration(duration: Duration): void {
    this.#assertLive()
    const parsed = typeof duration === "string" ? parseDuration(duration) : undefined
    this.#assertKind("processing-time", "setTimeoutDuration")
    const durationMs = parsed ?? wholeMilliseconds(duration, "a timeout duration")
    if (durationMs <= 0) throw new KeyfoldError("illegal-argument", `a timeout duration must be greater than 0, got ${duration} (G14)`)
    this.#timeoutAt = withinTime(this.#clock.nowMs + durationMs)
  }

  setTimeoutTimestamp(timestampMs: number, plus: Duration = 0): void {
    this.#assertLive()
    this.#assertKind("event-time", "setTimeoutTimestamp")
    const plusMs = typeof plus === "string" ? parseDuration(plus) : wholeMilliseconds(plus, "`plus`")
    if (plusMs < 0) throw new KeyfoldError("illegal-argument", `\`plus\` must not be negative, got ${plus} (G14)`)
    if (typeof timestampMs !== "number" || !Number.isFinite(timestampMs)) {
      throw new KeyfoldError("illegal-argument", `a timeout timestamp must be a finite number of milliseconds, got ${String(timestampMs)}`)
    }
    const timeoutAt = withinTime(Math.floor(timestampMs) + plusMs)
    if (timeoutAt <= 0) throw new KeyfoldError("illegal-argument", `a timeout timestamp must be greater than 0, got ${timeoutAt} (G14)`)
    const { watermarkMs } = this.#clock
    if (watermarkMs !== undefined && timeoutAt < watermarkMs) {
      throw new KeyfoldError(
        "illegal-argument",
        `a timeout timestamp must not be below the watermark ${watermarkMs}, got ${timeoutAt} (G14)`
      )
    }
    this.#timeoutAt = timeoutAt
  }

  getCurrentWatermarkMs(): number {
    this.#assertLive()
    const { watermarkMs } = this.#clock
    if (watermarkMs !== undefined) return watermarkMs
    throw new KeyfoldError("unsupported-operation", "the query has no watermark: declare withWatermark(eventTime, delay) (G16)")
  }

  getCurrentProcessingTimeMs(): number {
    this.#assertLive()
    return this.#clock.nowMs
  }

  // ---- inside

  /**
   * Decoded from the bytes in every call, never kept from the call before: a function may change the object it got, or one it has given,
   * and the next call must see the last updated value all the same, resident or not (G23, DESIGN "State function").
   */
  #current(): S {
    if (!this.#decoded) {
      this.#value = this.#decode(this.#bytes as Uint8Array)
      this.#decoded = true
    }
    return this.#value as S
  }

  #decode(bytes: Uint8Array): S {
    try {
      return this.#codec.decode(ownBytes(bytes))
    } catch (thrown) {
      throw new KeyfoldError("decode-failed", `the stored state cannot be decoded: ${reasonOf(thrown)}`, { cause: thrown })
    }
  }

  #encode(): Uint8Array {
    try {
      return ownBytes(this.#codec.encode(this.#value as S))
    } catch (thrown) {
      throw new KeyfoldError("encode-failed", `the state cannot be encoded: ${reasonOf(thrown)}`, { cause: thrown })
    }
  }

  #assertLive(): void {
    if (this.#live) return
    throw new KeyfoldError("unsupported-operation", "the state was used after its call had ended: a state function is synchronous")
  }

  #assertKind(kind: TimeoutKind, call: string): void {
    if (this.#kind === kind) return
    throw new KeyfoldError("unsupported-operation", `${call} needs timeout: "${kind}", this stage has "${this.#kind}" (G13)`)
  }
}

const wholeMilliseconds = (duration: unknown, what: string): number => {
  if (typeof duration === "number" && Number.isInteger(duration)) return duration
  throw new KeyfoldError("illegal-argument", `${what} must be a whole number of milliseconds or an interval text, got ${String(duration)}`)
}

const withinTime = (timeMs: number): number => {
  if (timeMs <= timeMax) return timeMs
  throw new KeyfoldError("illegal-argument", `a timeout at ${timeMs} ms is beyond what a timestamp can hold`)
}

/** A codec may use its buffer again, and a function may change what a codec hands through: the state's bytes are nobody else's. */
const ownBytes = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)
