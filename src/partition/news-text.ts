/** The news of a partition as members send it to each other: a JSON array, as short as it can be read. */
import type { SiblingClock } from "../model/event-clock.ts"
import type { PartitionNews, RunPhase } from "./membership.ts"

/** `["reading",[60000,0,1],[55000,0,1],[17,4]]` */
export const newsText = ({ phase, own, outgoing, positions }: PartitionNews): string =>
  JSON.stringify([phase, clockParts(own), clockParts(outgoing), positions])

/** Undefined for what another version may have written: a partition that nobody has spoken for holds the others where they are. */
export const newsOf = (text: string): PartitionNews | undefined => {
  const [phase, own, outgoing, positions, ...more] = partsOf(text)
  if (more.length > 0 || !isPhase(phase) || !isClock(own) || !isClock(outgoing) || !isNumbers(positions)) return undefined
  return { phase, own: clockOf(own), outgoing: clockOf(outgoing), positions }
}

type ClockParts = readonly [watermarkMs: number, idle: number, shown: number]

const clockParts = ({ watermarkMs, idle, shown }: SiblingClock): ClockParts => [watermarkMs, Number(idle), Number(shown)]

const clockOf = ([watermarkMs, idle, shown]: ClockParts): SiblingClock => ({ watermarkMs, idle: idle === 1, shown: shown === 1 })

const partsOf = (text: string): readonly unknown[] => {
  try {
    const parts: unknown = JSON.parse(text)
    return Array.isArray(parts) ? parts : []
  } catch {
    return []
  }
}

const phases: Readonly<Record<RunPhase, true>> = { reading: true, read: true, rested: true, closed: true }

const isPhase = (value: unknown): value is RunPhase => typeof value === "string" && Object.hasOwn(phases, value)

const isNumbers = (value: unknown): value is readonly number[] => Array.isArray(value) && value.every(Number.isFinite)

const isClock = (value: unknown): value is ClockParts => isNumbers(value) && value.length === 3
