/** Effects in a target: what they fail with is thrown, and a sleep is over at once. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { frozenClock } from "../../src/testing/frozen-clock.ts"

export const settled = <A, E>(effect: Effect.Effect<A, E>): Promise<A> =>
  Effect.runPromiseExit(Effect.provideService(effect, Clock.Clock, frozenClock(1_000))).then((exit) => {
    if (Exit.isSuccess(exit)) return exit.value
    throw Cause.squash(exit.cause)
  })
