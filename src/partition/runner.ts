/**
 * Decides when a partition's turns happen: reads its inputs, notices idleness, and sleeps until something is due. One runner per
 * partition; what "when" means for a whole query (its trigger, its end) is decided in schedule.ts.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { KeyfoldError } from "../errors.ts"
import { type InputClock, idleWatermark } from "../model/event-clock.ts"
import type { ReadPosition, StoredRecord, TopicPartition } from "../model/record.ts"
import type { Limits } from "../options.ts"
import type { Batch } from "./batch.ts"
import type { PartitionNews } from "./membership.ts"
import type { Partition } from "./partition.ts"
import type { PartitionInput } from "./ports.ts"
import type { StageClock } from "./stage-clock.ts"

/** What a runner needs of the source. */
export interface RunnerSource {
  readonly check: (of: TopicPartition, at: ReadPosition) => Effect.Effect<void, KeyfoldError>
  readonly read: (
    request: TopicPartition & { readonly after: number; readonly countMax: number; readonly bytesMax: number }
  ) => Effect.Effect<readonly StoredRecord[], KeyfoldError>
  readonly lastPosition: (of: TopicPartition) => Effect.Effect<number, KeyfoldError>
  readonly resumeAfter: (of: TopicPartition, after: number) => Effect.Effect<number, KeyfoldError>
  readonly arrival: (behind: readonly (TopicPartition & { readonly after: number })[]) => Effect.Effect<void, KeyfoldError>
  readonly positionBefore: (of: TopicPartition, timeMs: number) => Effect.Effect<number, KeyfoldError>
  readonly trim: (of: TopicPartition, upTo: number) => Effect.Effect<void, KeyfoldError>
}

export interface RunnerParts {
  readonly partition: Partition
  readonly index: number
  readonly source: RunnerSource
  readonly limits: Limits
  /** How long rows of an internal topic stay after they were read (P26). */
  readonly historyKeptMs: number
  readonly failOnDataLoss: boolean
  readonly ownClock: StageClock
  readonly outgoingClock: StageClock
  /** Tells other processes how far the partition has come. */
  readonly post: (news: Omit<PartitionNews, "phase">) => void
  /** The `withWatermark` behind the stage: how long it may put nothing out before the next stage no longer waits for it. */
  readonly outgoingIdleAfterMs: number | undefined
}

interface Passed {
  readonly position: number
  readonly atMs: number
}

/** Positions that a bounded run reads up to, by input. */
export type Ends = readonly number[]

const waitMsMax = 3_600_000
const askMsEvery = 1_000
const askMsMax = 1_000
const siblingsMsEvery = 200
const restingMoveMsEvery = 2_000
const trimEvery = 8_192
const trimMsEvery = 5_000
const trimsPerHistory = 10

export class Runner {
  readonly #parts: RunnerParts
  /** Since when each input has had nothing new; undefined: nobody knows (P23). */
  readonly #silentSince: (number | undefined)[]
  readonly #askedAtMs: number[]
  #outgoingSilentSince = 0
  #outgoingNewest: number | null = null
  #outgoingIdle = false
  #movedAtMs = Number.NEGATIVE_INFINITY
  #trimmed = 0
  #trimmedAtMs = Number.NEGATIVE_INFINITY
  #busy = false
  #settledPositions: readonly number[] = []
  /** Positions of the first input by when the journal had them, oldest first; at most `trimsPerHistory` and two. */
  readonly #passed: Passed[]

  constructor(parts: RunnerParts, startedAtMs: number) {
    this.#parts = parts
    this.#silentSince = parts.partition.inputs.map(() => undefined)
    this.#askedAtMs = parts.partition.inputs.map(() => Number.NEGATIVE_INFINITY)
    this.#outgoingSilentSince = startedAtMs
    this.#passed = [
      { position: 0, atMs: Number.NEGATIVE_INFINITY },
      { position: parts.partition.progress.positions[0]?.position ?? 0, atMs: startedAtMs }
    ]
  }

  get partition(): Partition {
    return this.#parts.partition
  }

  /** Whether a turn is under way. */
  get isBusy(): boolean {
    return this.#busy
  }

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
    for (const [index, records] of batch.entries()) {
      if (records.length > 0) this.#silentSince[index] = nowMs
      // A busy input does not wait for one that is idle (W6).
      else if (yield* this.#fallsIdle(index, nowMs, this.#isAtEnd(index, ends))) this.partition.setIdle(index, true)
    }
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
    const restingMs = yield* this.#restingWatermark(nowMs, how.atOnce)
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

  /** Completes when something may be there to do: records, a due timeout, an idle input; or with `over`. */
  readonly wait = Effect.fnUntraced(function* (this: Runner, over: Effect.Effect<void>) {
    const nowMs = yield* Clock.currentTimeMillis
    const { positions } = this.partition.progress
    const behind = this.partition.inputs.map((input, index) => ({ ...this.#place(input), after: positions[index]?.position ?? 0 }))
    yield* this.resting(Effect.raceAllFirst([this.#parts.source.arrival(behind), Effect.sleep(this.#waitMs(nowMs)), over]))
  })

  /** Others wait for what is out: while this one does something else than turns, they are told when it is. */
  resting<E>(until: Effect.Effect<void, E>): Effect.Effect<void, E> {
    return Effect.clockWith((clock) => {
      if (this.partition.isSettled) return until
      const forget = this.partition.whenSettled(() => this.tell(clock.currentTimeMillisUnsafe()))
      return Effect.ensuring(until, Effect.sync(forget))
    })
  }

  /** Tells the siblings where this partition is. */
  tell(nowMs: number): void {
    const { partition, index, ownClock, outgoingClock, post } = this.#parts
    const { watermarkMs, outgoingWatermarkMs, outgoingNewestMs } = partition.progress
    const own = { watermarkMs, idle: partition.isIdle, shown: partition.hasShown }
    ownClock.tell(index, own)
    if (outgoingNewestMs !== this.#outgoingNewest) {
      this.#outgoingNewest = outgoingNewestMs
      this.#outgoingSilentSince = nowMs
      this.#outgoingIdle = false
    }
    const outgoing = { watermarkMs: outgoingWatermarkMs, idle: this.#outgoingIdle, shown: outgoingNewestMs !== null }
    outgoingClock.tell(index, outgoing)
    if (partition.isSettled) this.#settledPositions = partition.progress.positions.map(({ position }) => position)
    post({ own, outgoing, positions: this.#settledPositions })
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

  /** P3, at recovery: are the logs still those that the positions were read from? */
  readonly guard = Effect.fnUntraced(function* (this: Runner, nowMs: number) {
    for (const [index, input] of this.partition.inputs.entries()) {
      const at = this.partition.progress.positions[index] as ReadPosition
      yield* Effect.catch(this.#parts.source.check(this.#place(input), at), (error) => this.#skipGap(index, error))
      if (input.time !== undefined) yield* this.#askSilence(index, nowMs, input.time.idleAfterMs)
    }
  })

  /** With `failOnDataLoss: false` reading goes on behind the gap, which is counted; else, and where there is no way on, it fails. */
  readonly #skipGap = Effect.fnUntraced(function* (this: Runner, index: number, error: KeyfoldError) {
    const { failOnDataLoss, source, partition } = this.#parts
    if (failOnDataLoss || error.code !== "source-gap") return yield* Effect.fail(error)
    const place = this.#place(partition.inputs[index] as PartitionInput)
    const { position: after, created } = partition.progress.positions[index] as ReadPosition
    const isAnother = created !== (partition.inputs[index] as PartitionInput).created
    const target = yield* source.resumeAfter(place, isAnother ? 0 : after)
    if (target === after && !isAnother) return yield* Effect.fail(error)
    yield* partition.skipTo(index, target)
    return target
  })

  /** P26: what the journal has passed of an internal topic is of no more use; nobody else reads it. A source that is away keeps it a while longer. */
  readonly #trim = Effect.fnUntraced(function* (this: Runner, least: number) {
    const { inputs, progress } = this.partition
    const [input] = inputs
    const position = progress.positions[0]?.position ?? 0
    if (input === undefined || input.upstreamCount === 0 || position - this.#trimmed < least) return
    const nowMs = yield* Clock.currentTimeMillis
    const { historyKeptMs, source } = this.#parts
    if (historyKeptMs > 0 && nowMs - this.#trimmedAtMs < historyKeptMs / trimsPerHistory) return
    this.#trimmedAtMs = nowMs
    const aged = historyKeptMs > 0 ? this.#agedPosition(position, nowMs) : Effect.succeed(position)
    yield* Effect.ignore(
      Effect.flatMap(aged, (upTo) =>
        Effect.tap(upTo > this.#trimmed ? source.trim(this.#place(input), upTo) : Effect.void, () =>
          Effect.sync(() => {
            this.#trimmed = Math.max(this.#trimmed, upTo)
          })
        )
      )
    )
  })

  /**
   * A journal that loses its last moments must find what it has to read again. So a row stays until it is old itself and this owner saw its
   * position in the journal long ago, be it that it found it there when it took over.
   */
  readonly #agedPosition = Effect.fnUntraced(function* (this: Runner, position: number, nowMs: number) {
    const { historyKeptMs, source } = this.#parts
    const since = nowMs - historyKeptMs
    this.#passed.push({ position, atMs: nowMs })
    while ((this.#passed[1]?.atMs ?? nowMs) <= since) this.#passed.shift()
    const safe = this.#passed[0] as Passed
    const place = this.#place(this.partition.inputs[0] as PartitionInput)
    return Math.min(safe.position, yield* source.positionBefore(place, since))
  })

  /**
   * Where the watermark belongs while the inputs rest. Inputs fall idle in the order in which they fell silent, so that it does not matter
   * how often somebody looks.
   */
  readonly #restingWatermark = Effect.fnUntraced(function* (this: Runner, nowMs: number, atOnce: boolean) {
    const { partition, ownClock } = this.#parts
    let restingMs = partition.shownWatermarkMs
    for (const index of yield* this.#fallingIdle(nowMs, atOnce)) {
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
  })

  readonly #fallingIdle = Effect.fnUntraced(function* (this: Runner, nowMs: number, atOnce: boolean) {
    const since = (index: number): number => this.#silentSince[index] ?? nowMs
    const falling: number[] = []
    for (const index of this.partition.inputs.keys()) if (yield* this.#fallsIdle(index, nowMs, atOnce)) falling.push(index)
    return falling.toSorted((left, right) => since(left) - since(right))
  })

  readonly #fallsIdle = Effect.fnUntraced(function* (this: Runner, index: number, nowMs: number, atOnce: boolean) {
    const time = this.partition.inputs[index]?.time
    if (time === undefined) return false
    if (atOnce) return true
    yield* this.#askSilence(index, nowMs, time.idleAfterMs)
    return nowMs - (this.#silentSince[index] ?? nowMs) > time.idleAfterMs
  })

  /**
   * P23: an input is silent from when its leader first says that nothing is behind the position. It is asked again and again, and at last
   * when idleness would follow, because during an outage nobody knows: doubt is not silence.
   */
  readonly #askSilence = Effect.fnUntraced(function* (this: Runner, index: number, nowMs: number, idleAfterMs: number) {
    const since = this.#silentSince[index]
    const isDue = since !== undefined && nowMs - since > idleAfterMs
    if (!isDue && since !== undefined && nowMs - (this.#askedAtMs[index] as number) < Math.max(askMsEvery, idleAfterMs / 4)) return
    if (isDue && this.#askedAtMs[index] === nowMs) return
    this.#askedAtMs[index] = nowMs
    const place = this.#place(this.partition.inputs[index] as PartitionInput)
    const asked = Effect.catch(this.#parts.source.lastPosition(place), () => Effect.succeed(Number.NaN))
    const last = Option.getOrElse(yield* Effect.timeoutOption(asked, askMsMax), () => Number.NaN)
    if (last !== this.partition.progress.positions[index]?.position) this.#silentSince[index] = undefined
    else this.#silentSince[index] ??= nowMs
  })

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
      const since = this.#silentSince[index]
      const idleAtMs = since === undefined ? nowMs + askMsEvery : since + time.idleAfterMs + 1
      wakeAtMs = Math.min(wakeAtMs, idleAtMs > nowMs ? idleAtMs : nowMs + siblingsMsEvery)
    })
    if (this.#parts.outgoingIdleAfterMs !== undefined) wakeAtMs = Math.min(wakeAtMs, nowMs + siblingsMsEvery)
    return Math.max(0, wakeAtMs - nowMs)
  }
}
