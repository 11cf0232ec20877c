import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** A clock that stands still: only the test moves it, and a sleep is over at once. */
export const frozenClock = (nowMs: number): Clock.Clock => {
  const nanos = BigInt(nowMs) * 1_000_000n
  return {
    currentTimeMillisUnsafe: () => nowMs,
    currentTimeMillis: Effect.succeed(nowMs),
    currentTimeNanosUnsafe: () => nanos,
    currentTimeNanos: Effect.succeed(nanos),
    monotonicTimeNanosUnsafe: () => nanos,
    monotonicTimeNanos: Effect.succeed(nanos),
    sleep: () => Effect.yieldNow
  }
}
