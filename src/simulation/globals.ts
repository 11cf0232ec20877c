/**
 * The clock and chance of the language, for functions that use them though they should not: those of a simulation while it runs, so that what
 * they do is the same with the same seed and another with another.
 */
import type { Dice } from "./dice.ts"

/** Answers how to have the real ones back. */
export const replaceGlobals = (nowMs: () => number, dice: Dice): (() => void) => {
  const real = { Date: globalThis.Date, random: Math.random }
  class SimulatedDate extends real.Date {
    constructor(...parts: readonly unknown[]) {
      super(...((parts.length === 0 ? [Math.floor(nowMs())] : parts) as [number]))
    }

    static override now(): number {
      return Math.floor(nowMs())
    }
  }
  globalThis.Date = SimulatedDate as unknown as DateConstructor
  Math.random = () => dice.fraction()
  return () => {
    globalThis.Date = real.Date
    Math.random = real.random
  }
}
