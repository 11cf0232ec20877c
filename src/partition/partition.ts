/**
 * One partition of one stage: turns records into committed turns. Owns positions, clock, watermark and the order of things within a turn;
 * does not own when turns happen (schedule.ts), what calls do (activation), where bytes go (journal, sink) or what the next stage knows of
 * the watermark (watermarks.ts).
 *
 *   records ─intake▶ rows ─late?▶ groups ─load▶ calls ─▶ outbox ─▶ ONE commit ─▶ publish
 *
 * B1. A turn has one clock reading and one watermark, both from before its rows (G2); the watermark moves only between turns (W2).
 * B2. Nothing is published before its commit (P8, P9).
 * B3. When a turn leaves due timeouts behind, or moves the watermark past some, a follow-up at the same clock runs before the next rows.
 * B4. A turn that fails leaves memory as it was, or is never used again: the partition is thrown away and recovered (P11).
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import { TurnTooLarge } from "../model/outgoing.ts"
import type { StoredRecord } from "../model/record.ts"
import { type Change, noTimeout, type Resident } from "../model/resident.ts"
import type { Row } from "../model/row.ts"
import { nothingSeen } from "../model/seen.ts"
import type { KeyImage, TurnClock } from "../model/turn.ts"
import { turnOutputBytesMax } from "../options.ts"
import { type Batch, countOf, halved } from "./batch.ts"
import { type DueTimeouts, Gathering, noDue, noInitial, splitLate } from "./gathering.ts"
import { Mishaps, TurnStopped } from "./mishaps.ts"
import { Numbering, outboxOf, writerOf } from "./outbox.ts"
import type { PartitionEngine, PartitionInput, PartitionParts } from "./ports.ts"
import { encodeProgress, type InputPosition, type Progress } from "./progress.ts"
import { recover } from "./recovery.ts"
import { screenBatch } from "./screening.ts"
import { nextDueAfter, type Taken, timeoutBound } from "./time-keeping.ts"
import { Watermarks } from "./watermarks.ts"

export class Partition {
  /** Completes when it is to be let go of, be it in the middle of a sweep: the next owner goes on with that (P5, P21). Whoever holds it says so. */
  over: Effect.Effect<void> = Effect.never
  readonly #parts: PartitionParts
  readonly #engine: PartitionEngine | undefined
  readonly #writer: string
  readonly #watermarks: Watermarks
  readonly #gathering: Gathering
  readonly #mishaps: Mishaps
  #progress!: Progress
  #numbering!: Numbering
  #revision = 0
  /** No armed timeout is earlier. */
  #nextDueMs = Number.POSITIVE_INFINITY

  constructor(parts: PartitionParts) {
    this.#parts = parts
    this.#writer = writerOf(parts.query, parts.stage.name, parts.partition)
    this.#watermarks = new Watermarks(parts)
    this.#gathering = new Gathering(parts)
    this.#mishaps = new Mishaps(parts)
    this.#engine = parts.engine?.({
      context: parts.context,
      callStarted: (resident, eventTime) => parts.outgoing.startCall(resident.keyText, eventTime),
      result: (value) => parts.outgoing.result(value),
      callEnded: () => parts.outgoing.endCall(),
      callUndone: () => parts.outgoing.undo(),
      callFailed: (resident, thrown) => this.#mishaps.callFailed(resident, thrown)
    })
  }

  get inputs(): readonly PartitionInput[] {
    return this.#parts.inputs
  }

  get progress(): Progress {
    return this.#progress
  }

  /** Undefined when the query has no watermark here. */
  get watermarkMs(): number | undefined {
    return this.#parts.stage.hasWatermark ? this.#progress.watermarkMs : undefined
  }

  get isIdle(): boolean {
    return this.#watermarks.isIdle
  }

  /** Whether it has ever seen a row or a watermark. */
  get hasShown(): boolean {
    return this.#progress.clocks.some((clock) => clock.newestMs !== null || clock.upstreamMs.some((upstream) => upstream > 0))
  }

  /** The earliest that a timeout can be due, in the time that this stage's timeouts are measured by. */
  get nextDueMs(): number {
    return this.#nextDueMs
  }

  get revision(): number {
    return this.#revision
  }

  get timesByProcessing(): boolean {
    return this.#parts.stage.actor?.timeout === "processing-time"
  }

  /** P1-P5; before anything else. */
  readonly recover = Effect.fnUntraced(function* (this: Partition, clockMs: number) {
    const recovered = yield* recover(this.#parts, clockMs)
    this.#revision = recovered.revision
    this.#progress = recovered.progress
    this.#nextDueMs = recovered.nextDueMs
    this.#numbering = new Numbering(this.#writer, recovered.progress.numbers)
  })

  /** Whether something is due at this clock without new rows: a follow-up, a timeout, the initial state. */
  needsTurn(clockMs: number): boolean {
    if (this.#progress.followUp || this.#hasInitialStates) return true
    return this.#nextDueMs < this.#bound(this.#clockAt(clockMs))
  }

  /** One turn over the next records of each input, and its follow-ups. */
  readonly turn = Effect.fnUntraced(function* (this: Partition, batch: Batch, clockMs: number) {
    if (this.#progress.followUp) yield* this.#followUps()
    if (this.#progress.followUp) return // B3
    yield* this.#fitting(batch, { nowMs: this.#clockAt(clockMs).nowMs, always: false })
    yield* this.#followUps()
  })

  /** Moves the watermark without rows (idleness, an adopted watermark, the end of a bounded run), and fires what became due (W2). */
  readonly advanceWatermark = Effect.fnUntraced(function* (this: Partition, watermarkMs: number, clockMs: number) {
    if (!this.#parts.stage.hasWatermark || watermarkMs <= this.#progress.watermarkMs) return false
    return yield* this.#move({ watermarkMs }, clockMs)
  })

  /** The same for the watermark of a `withWatermark` behind the stage: a partition that puts nothing out must not hold the next stage. */
  readonly advanceOutgoing = Effect.fnUntraced(function* (this: Partition, outgoingWatermarkMs: number, clockMs: number) {
    if (outgoingWatermarkMs <= this.#progress.outgoingWatermarkMs) return false
    return yield* this.#move({ outgoingWatermarkMs }, clockMs)
  })

  /** Where idleness puts the watermark of this partition by itself: other inputs no longer wait for an idle one (W6). */
  setIdle(input: number, idle: boolean): void {
    this.#watermarks.setIdle(input, idle)
  }

  /** The watermark as its inputs alone put it now. */
  get shownWatermarkMs(): number {
    return this.#watermarks.shownMs(this.#progress)
  }

  /** When a watermark that the next stage does not know yet should go out; undefined: it knows (P24). */
  get unsentWatermarkAtMs(): number | undefined {
    return this.#watermarks.unsentAtMs(this.#progress)
  }

  /** Sends what waits, when its time has come or `atOnce`. Answers whether it did. */
  readonly sendWatermark = Effect.fnUntraced(function* (this: Partition, clockMs: number, atOnce: boolean) {
    const at = this.unsentWatermarkAtMs
    if (at === undefined || (!atOnce && clockMs < at)) return false
    return yield* this.#move({}, clockMs)
  })

  /** Goes on reading an input at another position, for good: records are gone, and the job was told to go on (`failOnDataLoss: false`). */
  readonly skipTo = Effect.fnUntraced(function* (this: Partition, input: number, position: number) {
    const { positions, seen, nowMs } = this.#progress
    const { topic, created } = this.#parts.inputs[input] as PartitionInput
    const before = positions[input]?.position ?? 0
    const target = { topic, created, position, publishedAt: null }
    // P17: of another stream, numbers that were seen in the last one say nothing.
    const isSame = positions[input]?.created === created
    this.#progress = { ...this.#progress, positions: positions.with(input, target), seen: isSame ? seen : seen.with(input, nothingSeen) }
    yield* this.#fitting([], { nowMs, always: true })
    this.#parts.observer.skipped(Math.max(0, position - before))
  })

  /** The last armed timeout; undefined when none is. */
  readonly lastTimeout = Effect.fnUntraced(function* (this: Partition) {
    return (yield* this.#parts.journal.timeouts())?.last
  })

  /** Whether another turn may be taken before those under way are out (P15). */
  get hasRoom(): boolean {
    return this.#parts.publisher.hasRoom()
  }

  readonly room = (): Effect.Effect<void, KeyfoldError> => this.#parts.publisher.room()

  readonly settled = (): Effect.Effect<void, KeyfoldError> => this.#parts.publisher.settled()

  whenSettled(call: () => void): () => void {
    return this.#parts.publisher.whenSettled(call)
  }

  /** Whether everything that was committed is out. */
  get isSettled(): boolean {
    return this.#parts.publisher.isSettled()
  }

  // ---- one turn

  /** A turn without rows, which is committed whatever it finds. */
  readonly #move = Effect.fnUntraced(function* (this: Partition, to: Partial<Progress>, clockMs: number) {
    this.#progress = { ...this.#progress, ...to }
    yield* this.#fitting([], { nowMs: this.#clockAt(clockMs).nowMs, always: true })
    yield* this.#followUps()
    return true
  })

  /** P7: a turn that would write too much runs again with half the records, then half the timeouts; a single one is its call's fault. */
  readonly #fitting = Effect.fnUntraced(function* (
    this: Partition,
    batch: Batch,
    turn: { readonly nowMs: number; readonly always: boolean }
  ) {
    let taken = batch
    let timeoutsMax = this.#parts.turnTimeoutsMax
    let initialMax = this.#hasInitialStates ? this.#gathering.initialCount : 0
    let smallest = false
    const { trace } = this.#parts
    const failed = (cause: Cause.Cause<KeyfoldError>) => Effect.sync(() => trace.failed(Cause.squash(cause)))
    while (!(yield* Effect.onError(this.#run(taken, { ...turn, timeoutsMax, initialMax, smallest }), failed))) {
      trace.discarded()
      // Initial states come before rows, so rows wait until they are all applied.
      if (initialMax > 0) taken = []
      if (initialMax > 1) initialMax >>= 1
      else if (countOf(taken) > 1) taken = halved(taken)
      else if (timeoutsMax > 1) timeoutsMax >>= 1
      else smallest = true
    }
  })

  /** However many there are: no more of them than may wait to get out (P15). Between two of them a stop may come, or the end of the tenure. */
  readonly #followUps = Effect.fnUntraced(function* (this: Partition) {
    const { publisher } = this.#parts
    while (this.#progress.followUp) {
      if (!publisher.hasRoom()) yield* Effect.interruptible(Effect.raceFirst(publisher.room(), this.over))
      if (!publisher.hasRoom()) return
      yield* this.#fitting([], { nowMs: this.#progress.nowMs, always: false })
    }
  })

  /** Answers false, with everything as before, when the turn would write too much and can be made smaller. */
  readonly #run = Effect.fnUntraced(function* (this: Partition, batch: Batch, bounds: TurnBounds) {
    const { outgoing, inputs, stage, trace } = this.#parts
    const clock: TurnClock = { nowMs: bounds.nowMs, watermarkMs: this.#progress.sweepWatermarkMs ?? this.watermarkMs }
    const screened = screenBatch(batch, this.#progress.seen, this.#parts.failOnDataLoss)
    if (screened instanceof KeyfoldError) return yield* Effect.fail(screened)
    trace.begin({ revision: this.#revision + 1, batch: screened.taken, followUp: this.#progress.followUp })
    const taken = inputs.map((input, index) => input.intake.take(screened.taken[index] ?? []))
    const rows = taken.length === 1 ? (taken[0] as { rows: readonly Row[] }).rows : taken.flatMap((result) => result.rows)
    const { onTime, late } = splitLate(rows, clock, stage.actor?.late === "drop")
    outgoing.startTurn(clock.nowMs, bounds.smallest)
    this.#mishaps.startTurn(onTime)
    const stateful = this.#engine !== undefined
    const groups = stateful ? yield* this.#gathering.group(onTime) : noGroups
    const before = this.#bound(clock)
    const due = stateful && this.#nextDueMs < before ? yield* this.#gathering.due({ before, countMax: bounds.timeoutsMax }) : noDue
    const initial = this.#hasInitialStates
      ? yield* this.#gathering.initialStates({ from: this.#progress.initialised, countMax: bounds.initialMax })
      : noInitial

    let changes: readonly Change[] = []
    const heart = () => {
      for (const result of taken) for (const bad of result.bad) this.#mishaps.badRow(bad)
      for (const row of late) this.#mishaps.late(row)
      if (this.#engine === undefined) this.#passThrough(onTime)
      else changes = this.#engine.run({ turn: this.#revision + 1, clock, called: groups, initial, due: due.residents })
    }
    const called = { data: groups, initial: initial.size, due: due.residents }
    const failure = yield* this.#parts.breath.run(() => trace.calls(called, () => this.#guard(heart)))
    for (const resident of groups) resident.events = undefined
    if (failure instanceof KeyfoldError) return yield* Effect.fail(failure)
    if (failure === "too-large" || outgoing.tooLarge || (!bounds.smallest && this.#isTooLarge(changes))) {
      this.#engine?.undo()
      return false
    }

    const progress = this.#progressAfter({
      taken,
      read: screened.read,
      seen: screened.seen,
      clock,
      due,
      changes,
      initialCount: initial.size
    })
    this.#watermarks.append(progress, bounds.always)
    const empty = countOf(batch) === 0 && this.#nothingHappened(progress, changes)
    if (empty && !bounds.always) this.#progress = progress
    else {
      const left = yield* this.#commit(progress, changes)
      if (screened.skipped > 0) this.#parts.observer.skipped(screened.skipped)
      this.#parts.residents.evict(this.#revision, touchedBy(groups, due.residents))
      this.#observe({ clock, rows: rows.length, late, changes })
      yield* this.#parts.publisher.publish(this.#revision, left)
    }
    yield* this.#askNextDue(due.asked)
    return true
  })

  readonly #commit = Effect.fnUntraced(function* (this: Partition, progress: Progress, changes: readonly Change[]) {
    const { downstream, payloadBytesMax } = this.#parts
    const how = { publishedAt: progress.nowMs, internalTopic: downstream?.topic, payloadBytesMax }
    const outbox = outboxOf(this.#parts.outgoing, this.#numbering, how)
    const after = { ...progress, numbers: this.#numbering.numbers }
    const revision = this.#revision + 1
    const left = yield* this.#parts.journal.commit({ revision, progress: encodeProgress(after), changes: changes.map(imageOf), outbox })
    // Not before it is durable: whoever waits for the progress reads the results next.
    this.#progress = after
    this.#revision = revision
    return left
  })

  /** After timeouts were taken, only the journal knows which is the earliest now. */
  readonly #askNextDue = Effect.fnUntraced(function* (this: Partition, asked: boolean) {
    if (asked && !this.#progress.followUp) this.#nextDueMs = (yield* this.#parts.journal.timeouts())?.first ?? Number.POSITIVE_INFINITY
  })

  #clockAt(clockMs: number): TurnClock {
    return { nowMs: Math.max(this.#progress.nowMs, clockMs), watermarkMs: this.watermarkMs }
  }

  /** A stage without a state function hands every row on by itself. */
  #passThrough(rows: readonly Row[]): void {
    const { outgoing } = this.#parts
    for (const row of rows) {
      outgoing.startCall(row.keyText, row.eventTime, row.origin ?? row.record)
      try {
        outgoing.result(row.value, row.stamped)
      } catch (thrown) {
        outgoing.undo()
        if (thrown instanceof TurnTooLarge) throw thrown
        this.#mishaps.badRow({ record: row.record, origin: row.origin, thrown, value: row.value, keyText: undefined })
      }
    }
  }

  /** Whether some of the job's initial states are still to be applied (G20). */
  get #hasInitialStates(): boolean {
    return this.#progress.initialised < this.#gathering.initialCount
  }

  /** Runs the synchronous heart of a turn. Answers why it was given up: the error to stop with, or that it puts out too much. */
  #guard(run: () => void): KeyfoldError | "too-large" | undefined {
    try {
      run()
      return undefined
    } catch (thrown) {
      if (thrown instanceof TurnStopped) return thrown.error
      if (thrown instanceof TurnTooLarge) return "too-large"
      throw thrown
    }
  }

  // ---- after the calls

  #isTooLarge(changes: readonly Change[]): boolean {
    let bytes = this.#parts.outgoing.bytes
    for (const { resident } of changes) bytes += resident.bytes?.byteLength ?? 0
    return bytes > turnOutputBytesMax
  }

  #progressAfter(turn: {
    readonly taken: readonly Taken[]
    readonly read: Batch
    readonly seen: Progress["seen"]
    readonly clock: TurnClock
    readonly due: DueTimeouts
    readonly changes: readonly Change[]
    readonly initialCount: number
  }): Progress {
    const { nowMs } = turn.clock
    const before = this.#progress
    turn.read.forEach((records, index) => {
      if (records.length > 0) this.#watermarks.setIdle(index, false)
    })
    const moved = this.#watermarks.after(before, turn.taken, nowMs)
    this.#nextDueMs = nextDueAfter(this.#nextDueMs, turn, this.#bound(turn.clock))
    const initialised = before.initialised + turn.initialCount
    const boundAfter = this.#bound({ nowMs, watermarkMs: this.#parts.stage.hasWatermark ? moved.watermarkMs : undefined })
    return {
      ...before,
      ...moved,
      positions: before.positions.map((at, index) => positionAfter(at, turn.read[index]?.at(-1))),
      seen: turn.seen,
      nowMs,
      followUp: turn.due.more || this.#nextDueMs < boundAfter || initialised < this.#gathering.initialCount,
      sweepWatermarkMs: turn.due.more ? (turn.clock.watermarkMs ?? null) : null,
      initialised
    }
  }

  #bound(clock: TurnClock): number {
    return timeoutBound(this.#parts.stage.actor?.timeout, clock)
  }

  /** A turn without rows that found nothing needs no commit; that a follow-up was flagged for it is harmless to find again. */
  #nothingHappened(progress: Progress, changes: readonly Change[]): boolean {
    const { outgoing } = this.#parts
    const before = this.#progress
    return (
      changes.length === 0 &&
      outgoing.records.length === 0 &&
      outgoing.deliveries.length === 0 &&
      progress.watermarkMs === before.watermarkMs &&
      progress.initialised === before.initialised
    )
  }

  #observe(turn: { clock: TurnClock; rows: number; late: readonly Row[]; changes: readonly Change[] }): void {
    const { stage, partition, outgoing, residents, observer } = this.#parts
    observer.committed({
      stage: stage.name,
      partition,
      clock: turn.clock,
      rows: turn.rows,
      bad: this.#mishaps.bad,
      dropped: this.#mishaps.dropped,
      late: turn.late.map((row) => row.value),
      changes: turn.changes,
      results: outgoing.results,
      outputRecords: outgoing.records.length,
      residentKeys: residents.size
    })
    this.#mishaps.startTurn([])
  }
}

const noGroups: readonly Resident[] = []

interface TurnBounds {
  readonly nowMs: number
  readonly timeoutsMax: number
  /** Initial states that the turn applies at most. */
  readonly initialMax: number
  /** Commits even when nothing happened: the watermark was moved from outside, and that must last. */
  readonly always: boolean
  /** Cannot be made smaller: what puts out too much fails its call. */
  readonly smallest: boolean
}

const imageOf = ({ resident }: Change): KeyImage => ({
  keyText: resident.keyText,
  bytes: resident.bytes,
  timeoutAt: resident.timeoutAt === noTimeout ? undefined : resident.timeoutAt
})

const positionAfter = (at: InputPosition, last: StoredRecord | undefined): InputPosition =>
  last === undefined ? at : { ...at, position: last.position, publishedAt: last.publishedAt }

const touchedBy = (groups: readonly Resident[], due: readonly Resident[]): readonly Resident[] =>
  due.length === 0 ? groups : [...groups, ...due]
