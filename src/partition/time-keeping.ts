/** How a turn moves a partition's clocks: pure functions over its progress. Milliseconds. */
import { type InputClock, inputWatermark, nextWatermark } from "../model/event-clock.ts"
import type { TimeoutKind } from "../model/group-state.ts"
import type { WatermarkDeclaration } from "../model/operator.ts"
import { type Change, noTimeout } from "../model/resident.ts"
import type { TurnClock } from "../model/turn.ts"
import type { DueTimeouts } from "./gathering.ts"
import type { PartitionInput } from "./ports.ts"
import type { Progress } from "./progress.ts"

/** What one input's records said about time. */
export interface Taken {
  readonly rows: readonly unknown[]
  readonly newestMs: number
  readonly upstreamMs: ReadonlyMap<number, number>
}

export const clockAfter = (clock: InputClock, taken: Taken, nowMs: number): InputClock => {
  const sawTime = !Number.isNaN(taken.newestMs)
  if (taken.rows.length === 0 && !sawTime && taken.upstreamMs.size === 0) return clock
  return {
    newestMs: sawTime ? Math.max(taken.newestMs, clock.newestMs ?? taken.newestMs) : clock.newestMs,
    lastRowAtMs: taken.rows.length > 0 || sawTime ? nowMs : clock.lastRowAtMs,
    upstreamMs: clock.upstreamMs.map((upstream, index) => Math.max(upstream, taken.upstreamMs.get(index) ?? 0))
  }
}

/** The watermark as the inputs alone put it; those that are idle have no say (W5, W6). */
export const shownWatermark = (
  progress: Pick<Progress, "watermarkMs" | "clocks">,
  inputs: readonly Pick<PartitionInput, "time">[],
  idle: readonly boolean[]
): number => {
  const shows = progress.clocks.map((clock, index) => ({
    showsMs: inputWatermark(clock, inputs[index]?.time?.delayMs ?? 0),
    idle: idle[index] === true
  }))
  return nextWatermark(progress.watermarkMs, shows)
}

/** The watermark that goes downstream: the stage's own, or that of a `withWatermark` behind it (W1 over the results). */
export const outgoingAfter = (
  before: Progress,
  turn: { readonly watermarkMs: number; readonly newestMs: number },
  declaration: WatermarkDeclaration | undefined
): Pick<Progress, "outgoingNewestMs" | "outgoingWatermarkMs"> => {
  const { newestMs } = turn
  const newest = Number.isNaN(newestMs) ? before.outgoingNewestMs : Math.max(newestMs, before.outgoingNewestMs ?? newestMs)
  const declared = newest === null ? 0 : newest - (declaration?.delayMs ?? 0)
  const showsMs = declaration === undefined ? turn.watermarkMs : declared
  return { outgoingNewestMs: newest, outgoingWatermarkMs: Math.max(before.outgoingWatermarkMs, showsMs) }
}

/** G8: what timeouts are compared with; strictly below it is due. */
export const timeoutBound = (kind: TimeoutKind | undefined, clock: TurnClock): number => {
  if (kind === "processing-time") return clock.nowMs
  return kind === "event-time" ? (clock.watermarkMs ?? Number.NEGATIVE_INFINITY) : Number.NEGATIVE_INFINITY
}

/**
 * A lower bound of the earliest armed timeout after a turn. When all that was due below `bound` has been taken, what is left is at or
 * above it, but for keys whose data came first and failed: they keep their timeout (G23).
 */
export const nextDueAfter = (
  before: number,
  turn: { readonly due: DueTimeouts; readonly changes: readonly Change[] },
  bound: number
): number => {
  let next = turn.due.asked && !turn.due.more ? bound : before
  for (const { timeoutAt } of turn.due.residents) if (timeoutAt !== noTimeout && timeoutAt < next) next = timeoutAt
  for (const { resident } of turn.changes) if (resident.timeoutAt !== noTimeout && resident.timeoutAt < next) next = resident.timeoutAt
  return next
}
