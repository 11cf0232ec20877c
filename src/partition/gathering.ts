/** Brings together what a turn's calls need: rows by key, and the state of every key, loaded in one round trip where it is not in memory. */
import * as Effect from "effect/Effect"
import { partitionOf } from "../model/hash.ts"
import { noTimeout, type Resident } from "../model/resident.ts"
import type { Row } from "../model/row.ts"
import type { InitialState } from "../model/stage.ts"
import type { TurnClock } from "../model/turn.ts"
import type { PartitionParts } from "./ports.ts"

/** Timeouts that a turn fires. */
export interface DueTimeouts {
  readonly residents: readonly Resident[]
  /** As many as were asked for: there may be more. */
  readonly more: boolean
  /** False: none could be due, so nobody asked the journal. */
  readonly asked: boolean
}

export const noDue: DueTimeouts = { residents: [], more: false, asked: false }
export const noInitial: ReadonlyMap<Resident, InitialState> = new Map()

const noRows: readonly Row[] = []

/** W3: a row at or below the watermark is late; whether it is dropped is the stage's choice. */
export const splitLate = (
  rows: readonly Row[],
  clock: TurnClock,
  drops: boolean
): { readonly onTime: readonly Row[]; readonly late: readonly Row[] } => {
  const { watermarkMs } = clock
  if (watermarkMs === undefined || !drops) return { onTime: rows, late: noRows }
  const late = rows.filter((row) => row.eventTime <= watermarkMs)
  return late.length === 0 ? { onTime: rows, late } : { onTime: rows.filter((row) => !(row.eventTime <= watermarkMs)), late }
}

export class Gathering {
  readonly #parts: Pick<PartitionParts, "stage" | "partition" | "partitions" | "residents" | "journal">

  readonly #initial: readonly InitialState[]

  constructor(parts: Pick<PartitionParts, "stage" | "partition" | "partitions" | "residents" | "journal">) {
    this.#parts = parts
    const { stage, partition, partitions } = parts
    this.#initial = (stage.actor?.initialState ?? []).filter((state) => partitionOf(state.keyText, partitions) === partition)
  }

  /** Groups rows by key, in order of each key's first row, and loads what is missing. Hot path. */
  readonly group = Effect.fnUntraced(function* (this: Gathering, rows: readonly Row[]) {
    const { residents } = this.#parts
    const groups: Resident[] = []
    const missing: Resident[] = []
    for (const row of rows) {
      let resident = residents.get(row.keyText)
      if (resident === undefined) {
        resident = residents.admit(row.keyText, undefined, noTimeout)
        missing.push(resident)
      }
      if (resident.events === undefined) {
        resident.events = [row.value]
        resident.eventTimeMax = row.eventTime
        groups.push(resident)
      } else {
        resident.events.push(row.value)
        if (!(row.eventTime <= resident.eventTimeMax)) resident.eventTimeMax = row.eventTime
      }
    }
    yield* this.#load(missing)
    return groups
  })

  /** The keys whose timeout is due strictly before the bound (G8), in firing order (T4). */
  readonly due = Effect.fnUntraced(function* (this: Gathering, bound: { readonly before: number; readonly countMax: number }) {
    const images = yield* this.#parts.journal.due(bound)
    const { residents } = this.#parts
    const due = images.map(
      (image) => residents.get(image.keyText) ?? residents.admit(image.keyText, image.bytes, image.timeoutAt ?? noTimeout)
    )
    return { residents: due, more: images.length === bound.countMax, asked: true } satisfies DueTimeouts
  })

  /** How many initial states this partition has. */
  get initialCount(): number {
    return this.#initial.length
  }

  /** Initial states to apply, in their order (G20). */
  readonly initialStates = Effect.fnUntraced(function* (this: Gathering, part: { readonly from: number; readonly countMax: number }) {
    const { residents } = this.#parts
    const initial = new Map<Resident, InitialState>()
    const missing: Resident[] = []
    for (const state of this.#initial.slice(part.from, part.from + part.countMax)) {
      let resident = residents.get(state.keyText)
      if (resident === undefined) {
        resident = residents.admit(state.keyText, undefined, noTimeout)
        missing.push(resident)
      }
      initial.set(resident, state)
    }
    yield* this.#load(missing)
    return initial
  })

  readonly #load = Effect.fnUntraced(function* (this: Gathering, missing: readonly Resident[]) {
    if (missing.length === 0) return
    const images = yield* this.#parts.journal.load(missing.map((resident) => resident.keyText))
    images.forEach((image, index) => {
      if (image !== undefined) this.#parts.residents.change(missing[index] as Resident, image)
    })
  })
}
