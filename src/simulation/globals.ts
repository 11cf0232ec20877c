/**
 * The clock and chance of the language, for functions that use them though they should not: those of a simulation while it runs, so that what
 * they do is the same with the same seed and another with another.
 */
import type { Dice } from "./dice.ts"

/** Answers how to have the real ones back. One at a time. */
export const replaceGlobals = (nowMs: () => number, dice: Dice): (() => void) => {
  const real = { Date: globalThis.Date, random: Math.random }
  const now = (): number => Math.floor(nowMs())
  // What was made before is still a Date.
  globalThis.Date = new Proxy(real.Date, {
    construct: (target, parts, newTarget) => Reflect.construct(target, parts.length === 0 ? [now()] : parts, newTarget),
    apply: () => new real.Date(now()).toString(),
    get: (target, name) => (name === "now" ? now : Reflect.get(target, name))
  })
  Math.random = () => dice.fraction()
  return () => {
    globalThis.Date = real.Date
    Math.random = real.random
  }
}
