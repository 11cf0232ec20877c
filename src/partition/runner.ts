/**
 * Decides when a partition's turns happen: reads its inputs, notices idleness, and sleeps until something is due. One runner per
 * partition; what "when" means for a whole query (its trigger, its end) is decided in schedule.ts.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import { type InputClock, idleWatermark } from "../model/event-clock.ts"
import type { StoredRecord, TopicPartition } from "../model/record.ts"
import type { Limits } from "../options.ts"
import type { Batch } from "./batch.ts"
import type { Partition } from "./partition.ts"
import type { PartitionInput } from "./ports.ts"
import type { StageClock } from "./stage-clock.ts"

/** What a runner needs of the source. */
export interface RunnerSource {
  readonly read: (
    request: TopicPartition & { readonly after: number; readonly countMax: number; readonly bytesMax: number }
  ) => Effect.Effect<readonly StoredRecord[], KeyfoldError>
  readonly lastPosition: (of: TopicPartition) => Effect.Effect<number, KeyfoldError>
  readonly arrival: (behind: readonly (TopicPartition & { readonly after: number })[]) => Effect.Effect<void, KeyfoldError>
  readonly positionBefore: (of: TopicPartition, timeMs: number) => Effect.Effect<number, KeyfoldError>
  readonly trim: (of: TopicPartition, upTo: number) => Effect.Effect<void, KeyfoldError>
}

export interface RunnerParts {
  readonly partition: Partition
  readonly index: number
  readonly source: RunnerSource
  readonly limits: Limits
  readonly failOnDataLoss: boolean
  readonly ownClock: StageClock
  readonly outgoingClock: StageClock
  /** The `withWatermark` behind the stage: how long it may put nothing out before the next stage no longer waits for it. */
  readonly outgoingIdleAfterMs: number | undefined
}

/** Positions that a bounded run reads up to, by input. */
export type Ends = readonly number[]

const waitMsMax = 3_600_000
const siblingsMsEvery = 200
const restingMoveMsEvery = 2_000
const trimEvery = 8_192
const trimMsEvery = 5_000

export class Runner {
  readonly #parts: RunnerParts
  readonly #silentSince: number[]
  #outgoingSilentSince = 0
  #outgoingNewest: number | null = null
  #outgoingIdle = false
  #movedAtMs = Number.NEGATIVE_INFINITY
  #trimmed = 0
  #trimmedAtMs = Number.NEGATIVE_INFINITY
  #busy = false

  constructor(parts: RunnerParts, startedAtMs: number) {
    this.#parts = parts
    this.#silentSince = parts.partition.inputs.map(() => startedAtMs)
    this.#outgoingSilentSince = startedAtMs
  }

  get partition(): Partition {
    return this.#parts.partition
  }

  /** Whether a turn is under way. */
  get isBusy(): boolean {
    return this.#busy
  }

  /** The end of every input as it is now. */
  readonly ends = Effect.fnUntraced(function* (this: Runner) {
    const ends: number[] = []
    for (const input of this.partition.inputs) ends.push(yield* this.#parts.source.lastPosition(this.#place(input)))
    return ends
  })

  /** How many records lie before the ends. */
  lag(ends: Ends): number {
    return this.partition.progress.positions.reduce((lag, { position }, index) => lag + Math.max(0, (ends[index] ?? 0) - position), 0)
  }

  /** One turn and its follow-ups over what is there, up to `ends`. Answers whether there was anything to do. */
  readonly step = Effect.fnUntraced(function* (this: Runner, ends?: Ends) {
    yield* Effect.interruptible(this.partition.room())
    const batch = yield* this.#fetch(ends)
    const nowMs = yield* Clock.currentTimeMillis
    const hasRows = batch.some((records) => records.length > 0)
    if (!hasRows && !this.partition.needsTurn(nowMs)) return false
    batch.forEach((records, index) => {
      if (records.length > 0) this.#silentSince[index] = nowMs
      // A busy input does not wait for one that is idle (W6).
      else if (this.#isFallingIdle(index, nowMs, this.#isAtEnd(index, ends))) this.partition.setIdle(index, true)
    })
    this.#busy = true
    yield* this.partition.turn(hasRows ? batch : [], nowMs)
    this.#busy = false
    this.tell(nowMs)
    yield* this.#idleOutgoing(nowMs, false)
    yield* this.#trim(trimEvery)
    return true
  })

  /**
   * Notices inputs that have been read to their end for long enough, and lets time go on without them (W6, W7). `atOnce`: a bounded run,
   * where that is idle. `lazily`: a move that fires nothing may wait a while, so that a job that rests writes next to nothing.
   */
  readonly idle = Effect.fnUntraced(function* (this: Runner, how: { readonly atOnce: boolean; readonly lazily: boolean }) {
    const nowMs = yield* Clock.currentTimeMillis
    yield* this.#trim(how.atOnce || nowMs - this.#trimmedAtMs >= trimMsEvery ? 1 : trimEvery)
    const restingMs = this.#restingWatermark(nowMs, how.atOnce)
    this.tell(nowMs)
    let moved = false
    if (!how.lazily || this.#isWorthAMove(restingMs, nowMs)) {
      moved = yield* this.partition.advanceWatermark(restingMs, nowMs)
      if (moved) this.#movedAtMs = nowMs
    }
    const movedOutgoing = yield* this.#idleOutgoing(nowMs, how.atOnce)
    const sent = yield* this.partition.sendWatermark(nowMs, !how.lazily)
    if (moved || movedOutgoing) this.tell(nowMs)
    return moved || movedOutgoing || sent
  })

  /**
   * `atEnd: "close"`, one round: moves the watermark just past the last armed event-time timeout. Answers whether there was one; timeout
   * calls may have armed the next. Processing-time timeouts are none of its business: no clock is moved.
   */
  readonly close = Effect.fnUntraced(function* (this: Runner) {
    const nowMs = yield* Clock.currentTimeMillis
    const last = this.partition.timesByProcessing ? undefined : yield* this.partition.lastTimeout()
    if (last === undefined) {
      yield* this.partition.sendWatermark(nowMs, true)
      return false
    }
    const moved = yield* this.partition.advanceWatermark(last + 1, nowMs)
    this.tell(nowMs)
    return moved
  })

  /** Completes when something may be there to do: records, a due timeout, an idle input. */
  readonly wait = Effect.fnUntraced(function* (this: Runner) {
    const nowMs = yield* Clock.currentTimeMillis
    const { positions } = this.partition.progress
    const behind = this.partition.inputs.map((input, index) => ({ ...this.#place(input), after: positions[index]?.position ?? 0 }))
    yield* Effect.raceFirst(this.#parts.source.arrival(behind), Effect.sleep(this.#waitMs(nowMs)))
  })

  /** Tells the siblings where this partition is. */
  tell(nowMs: number): void {
    const { partition, index, ownClock, outgoingClock } = this.#parts
    const { watermarkMs, outgoingWatermarkMs, outgoingNewestMs } = partition.progress
    ownClock.tell(index, { watermarkMs, idle: partition.isIdle, shown: partition.hasShown })
    if (outgoingNewestMs !== this.#outgoingNewest) {
      this.#outgoingNewest = outgoingNewestMs
      this.#outgoingSilentSince = nowMs
      this.#outgoingIdle = false
    }
    outgoingClock.tell(index, { watermarkMs: outgoingWatermarkMs, idle: this.#outgoingIdle, shown: outgoingNewestMs !== null })
  }

  // ---- inside

  #place(input: PartitionInput): TopicPartition {
    return { topic: input.topic, partition: this.#parts.index }
  }

  /** The inputs share the turn evenly, so that a busy one does not starve the others. */
  readonly #fetch = Effect.fnUntraced(function* (this: Runner, ends: Ends | undefined) {
    const { inputs, progress } = this.partition
    const { turnEventsMax, turnBytesMax } = this.#parts.limits
    const batch: (readonly StoredRecord[])[] = []
    for (let index = 0; index < inputs.length; index++) {
      const after = (progress.positions[index] as { position: number }).position
      const countMax = Math.min(Math.max(1, Math.floor(turnEventsMax / inputs.length)), (ends?.[index] ?? Number.POSITIVE_INFINITY) - after)
      const request = {
        ...this.#place(inputs[index] as PartitionInput),
        after,
        countMax,
        bytesMax: Math.floor(turnBytesMax / inputs.length)
      }
      const read = this.#parts.source.read(request)
      const onward = (error: KeyfoldError) =>
        Effect.flatMap(this.#skipGap(index, error), (at) =>
          this.#parts.source.read({ ...request, after: at, countMax: Math.max(1, Math.min(countMax, countMax - (at - after))) })
        )
      batch.push(countMax <= 0 ? [] : yield* Effect.catch(read, onward))
    }
    return batch as Batch
  })

  /** P3, at recovery: a position beyond the end says that the log has lost records, or is another one. */
  readonly guard = Effect.fnUntraced(function* (this: Runner) {
    for (const [index, input] of this.partition.inputs.entries()) {
      const { topic, partition } = this.#place(input)
      const last = yield* this.#parts.source.lastPosition({ topic, partition })
      const position = this.partition.progress.positions[index]?.position ?? 0
      if (position <= last) continue
      const message = `${topic}/${partition} ends at position ${last}, but the job has read up to ${position}: records are gone`
      yield* this.#skipGap(
        index,
        new KeyfoldError("source-gap", `${message}. Restore the log, or start with failOnDataLoss: false to go on from its end`)
      )
    }
  })

  /** With `failOnDataLoss: false` reading goes on behind the gap, which is counted; else, and where there is no way on, it fails. */
  readonly #skipGap = Effect.fnUntraced(function* (this: Runner, index: number, error: KeyfoldError) {
    const { failOnDataLoss, source, partition } = this.#parts
    if (failOnDataLoss || error.code !== "source-gap") return yield* Effect.fail(error)
    const place = this.#place(partition.inputs[index] as PartitionInput)
    const after = (partition.progress.positions[index] as { position: number }).position
    const last = yield* source.lastPosition(place)
    const target = after > last ? last : yield* source.positionBefore(place, Number.NEGATIVE_INFINITY)
    if (target === after) return yield* Effect.fail(error)
    yield* partition.skipTo(index, target)
    return target
  })

  /** P26: what the journal has passed of an internal topic is of no more use; nobody else reads it. */
  readonly #trim = Effect.fnUntraced(function* (this: Runner, least: number) {
    const { inputs, progress } = this.partition
    const [input] = inputs
    const position = progress.positions[0]?.position ?? 0
    if (input === undefined || input.upstreamCount === 0 || position - this.#trimmed < least) return
    yield* this.#parts.source.trim(this.#place(input), position)
    this.#trimmed = position
    this.#trimmedAtMs = yield* Clock.currentTimeMillis
  })

  /**
   * Where the watermark belongs while the inputs rest. Inputs fall idle in the order in which they fell silent, so that it does not matter
   * how often somebody looks.
   */
  #restingWatermark(nowMs: number, atOnce: boolean): number {
    const { partition, ownClock } = this.#parts
    let restingMs = partition.shownWatermarkMs
    for (const index of this.#fallingIdle(nowMs, atOnce)) {
      partition.setIdle(index, true)
      restingMs = Math.max(restingMs, partition.shownWatermarkMs)
    }
    if (!partition.isIdle) return restingMs
    this.tell(nowMs)
    restingMs = Math.max(restingMs, ownClock.adoptable() ?? 0)
    if (ownClock.hasActive) return restingMs
    const idling = partition.inputs.map(({ time }, index) => {
      const clock = partition.progress.clocks[index] as InputClock
      return time?.advanceWhenIdle === true ? (idleWatermark(clock, time, nowMs) ?? 0) : 0
    })
    return Math.max(restingMs, ...idling)
  }

  #fallingIdle(nowMs: number, atOnce: boolean): number[] {
    const since = (index: number): number => this.#silentSince[index] as number
    return this.partition.inputs
      .flatMap((_, index) => (this.#isFallingIdle(index, nowMs, atOnce) ? [index] : []))
      .toSorted((left, right) => since(left) - since(right))
  }

  #isFallingIdle(index: number, nowMs: number, atOnce: boolean): boolean {
    const time = this.partition.inputs[index]?.time
    return time !== undefined && (atOnce || nowMs - (this.#silentSince[index] as number) > time.idleAfterMs)
  }

  /** In a bounded run, an input that has been read to its end is idle. */
  #isAtEnd(index: number, ends: Ends | undefined): boolean {
    return ends !== undefined && (this.partition.progress.positions[index]?.position ?? 0) >= (ends[index] ?? 0)
  }

  /** A move that fires a timeout is; any other now and then, for whoever looks and for stages behind. */
  #isWorthAMove(restingMs: number, nowMs: number): boolean {
    const fires = !this.partition.timesByProcessing && this.partition.nextDueMs < restingMs
    return fires || nowMs - this.#movedAtMs >= restingMoveMsEvery
  }

  readonly #idleOutgoing = Effect.fnUntraced(function* (this: Runner, nowMs: number, atOnce: boolean) {
    const { outgoingIdleAfterMs, outgoingClock } = this.#parts
    if (outgoingIdleAfterMs === undefined) return false
    if (atOnce || nowMs - this.#outgoingSilentSince > outgoingIdleAfterMs) this.#outgoingIdle = true
    this.tell(nowMs)
    if (!this.#outgoingIdle) return false
    return yield* this.partition.advanceOutgoing(outgoingClock.adoptable() ?? 0, nowMs)
  })

  /** Milliseconds until something could be due without new records. */
  #waitMs(nowMs: number): number {
    const { partition } = this.#parts
    let wakeAtMs = nowMs + waitMsMax
    if (partition.unsentWatermarkAtMs !== undefined) wakeAtMs = Math.min(wakeAtMs, partition.unsentWatermarkAtMs)
    // Strictly after it is due (G8).
    if (partition.timesByProcessing) wakeAtMs = Math.min(wakeAtMs, partition.nextDueMs + 1)
    partition.inputs.forEach(({ time }, index) => {
      if (time === undefined) return
      const idleAtMs = (this.#silentSince[index] as number) + time.idleAfterMs + 1
      wakeAtMs = Math.min(wakeAtMs, idleAtMs > nowMs ? idleAtMs : nowMs + siblingsMsEvery)
    })
    if (this.#parts.outgoingIdleAfterMs !== undefined) wakeAtMs = Math.min(wakeAtMs, nowMs + siblingsMsEvery)
    return Math.max(0, wakeAtMs - nowMs)
  }
}
