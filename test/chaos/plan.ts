/** Which fault comes when: everything from the seed, before the run begins. Pure. */
import { randomFrom } from "../fixtures/random.ts"
import type { Fault, Target } from "./faults.ts"

export interface PlannedFault<F = Fault> {
  readonly fault: F
  /** Of the run. */
  readonly atMs: number
  /** How long it lasts. */
  readonly ms: number
  /** -1 for a fault of no seat. */
  readonly seat: number
  /** What it has to itself meanwhile. */
  readonly holds: readonly string[]
}

export interface PlanExtent {
  readonly seed: number
  readonly ms: number
  readonly seats: number
  /** How many seats have a worker at first: the first ones. */
  readonly workers: number
}

type Planned = Pick<Fault, "weight" | "target" | "msMax">

const pauseMsLeast = 300
const pauseMsMost = 4_000
const faultMsLeast = 200
/** From outage to outage, so that the work gets on in between. */
const serverRestMs = 5_000

export const planFaults = <F extends Planned>(
  table: readonly F[],
  { seed, ms, seats, workers }: PlanExtent
): readonly PlannedFault<F>[] => {
  const random = randomFrom(seed)
  const filled = Array.from({ length: seats }, (_, seat) => seat < workers)
  const freeAtMs = new Map<string, number>()
  const planned: PlannedFault<F>[] = []
  const pauseMs = (): number => Math.round(pauseMsLeast + random() * (pauseMsMost - pauseMsLeast))
  for (let atMs = pauseMs(); atMs < ms; atMs += pauseMs()) {
    const isFree = (thing: string): boolean => (freeAtMs.get(thing) ?? 0) <= atMs
    const possible = table.flatMap((fault) => {
      const places = placesOf(fault.target, filled, Math.max(1, workers - 1)).filter(({ holds }) => holds.every(isFree))
      return places.map((place) => ({ fault, ...place, weight: fault.weight / places.length }))
    })
    const chosen = pick(possible, random())
    if (chosen === undefined) continue
    const { fault, seat, holds } = chosen
    const lasts = fault.msMax === 0 ? 0 : Math.round(faultMsLeast + (fault.msMax - faultMsLeast) * random() ** 2)
    planned.push({ fault, atMs, ms: lasts, seat, holds })
    const restMs = fault.target === "nats" || fault.target === "redis" ? serverRestMs : 0
    for (const thing of holds) freeAtMs.set(thing, atMs + lasts + restMs)
    if (fault.target === "leaver") filled[seat] = false
    if (fault.target === "newcomer") filled[seat] = true
  }
  return planned
}

/** Where a fault could be done. `least` workers stay, so that there is somebody to take over. */
const placesOf = (target: Target, filled: readonly boolean[], least: number): readonly Pick<PlannedFault, "seat" | "holds">[] => {
  const seatsThat = (are: boolean): number[] => filled.flatMap((is, seat) => (is === are ? [seat] : []))
  const each = (seats: readonly number[], thing: string) => seats.map((seat) => ({ seat, holds: [`${thing} ${seat}`] }))
  switch (target) {
    case "worker":
      return each(seatsThat(true), "worker")
    case "leaver":
      return seatsThat(true).length > least ? each(seatsThat(true), "worker") : []
    case "newcomer":
      return each(seatsThat(false), "worker")
    case "line":
      return each(seatsThat(true), "line")
    case "workers":
      return [{ seat: -1, holds: filled.map((_, seat) => `worker ${seat}`) }]
    default:
      return [{ seat: -1, holds: [target] }]
  }
}

const pick = <P extends { readonly weight: number }>(possible: readonly P[], chance: number): P | undefined => {
  let left = chance * possible.reduce((sum, { weight }) => sum + weight, 0)
  return possible.find(({ weight }) => {
    left -= weight
    return left < 0
  })
}
