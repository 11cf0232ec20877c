/** Every option of a running job: default, bounds, unit in the name. Checked once, at the edge, all faults in one error. */
import { type Fault, failWithFaults } from "./errors.ts"

/** Every bound of a running job; each has a default, a minimum and a maximum. */
export interface Limits {
  /** Records that one turn takes at most, over all its inputs, and timeouts that it fires, of which 4,096 are the most. Default 4,096 (1 to 65,536). */
  readonly turnEventsMax: number
  /** Payload bytes that one turn takes at most; a larger single record is a turn of its own. Default 1 MiB (1 KiB to 16 MiB). */
  readonly turnBytesMax: number
  /** Turns of a partition that are committed but not yet published; more stop the reading. Default 4 (1 to 64). */
  readonly turnsInFlightMax: number
  /** Keys in memory, shared out evenly among the partitions of the query; the rest live in the journal. Default 100,000 (1 to 10,000,000). */
  readonly residentKeysMax: number
  /** Bytes of states and keys in memory, counted like the keys. Default 64 MiB (64 KiB to 64 GiB). */
  readonly residentBytesMax: number
  /** Milliseconds between two background checkpoints of the clustered journal. Default 5,000 (10 to 600,000). */
  readonly checkpointEveryMs: number
  /** Milliseconds that the clustered runtime keeps what is no longer needed for late readers (P20, P26). Default 300,000 (0 to 86,400,000). */
  readonly historyKeptMs: number
}

const mebibyte = 1_048_576

/** R8: one row an option. */
export const limitRules = {
  turnEventsMax: { default: 4_096, min: 1, max: 65_536 },
  turnBytesMax: { default: mebibyte, min: 1_024, max: 16 * mebibyte },
  turnsInFlightMax: { default: 4, min: 1, max: 64 },
  residentKeysMax: { default: 100_000, min: 1, max: 10_000_000 },
  residentBytesMax: { default: 64 * mebibyte, min: 65_536, max: 65_536 * mebibyte },
  checkpointEveryMs: { default: 5_000, min: 10, max: 600_000 },
  historyKeptMs: { default: 300_000, min: 0, max: 86_400_000 }
} as const satisfies Record<keyof Limits, { readonly default: number; readonly min: number; readonly max: number }>

/** What a turn may write at most (P7): above it the turn is discarded and runs again with half the records. */
export const turnOutputBytesMax = 16 * mebibyte

/** What one record may hold at most, where no server has a smaller limit. */
export const payloadBytesMax = 8 * mebibyte

/** Timeouts that one turn fires at most, or fewer when it takes fewer records; more go into further turns at the same clock (P22). */
export const turnTimeoutsMax = 4_096

/** The limits with their defaults. Throws `option-invalid`, naming every fault. */
export const resolveLimits = (limits: Partial<Limits> = {}): Limits => {
  failWithFaults("option-invalid", "limits", limitFaults(limits))
  return Object.fromEntries(limitNames.map((name) => [name, limits[name] ?? limitRules[name].default])) as unknown as Limits
}

const limitNames = Object.keys(limitRules) as (keyof Limits)[]

const limitFaults = (limits: Partial<Limits>): Fault[] =>
  Object.entries(limits).flatMap(([name, value]): Fault[] => {
    if (!(name in limitRules)) {
      return [{ code: "option-invalid", message: `there is no limit called ${name}: the limits are ${limitNames.join(", ")}` }]
    }
    const { min, max } = limitRules[name as keyof Limits]
    if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return []
    return [{ code: "option-invalid", message: `${name} must be an integer from ${min} to ${max}, got ${String(value)}` }]
  })
