/**
 * One partition of one stage: turns records into committed turns. Owns positions, clock, watermark and the order of things within a turn;
 * does not own when turns happen (schedule.ts), what calls do (activation) or where bytes go (journal, sink).
 *
 *   records ─intake▶ rows ─late?▶ groups ─load▶ calls ─▶ outbox ─▶ ONE commit ─▶ publish
 *
 * B1. A turn has one clock reading and one watermark, both from before its rows (G2); the watermark moves only between turns (W2).
 * B2. Nothing is published before its commit (P8, P9).
 * B3. When a turn leaves due timeouts behind, or moves the watermark past some, a follow-up at the same clock runs before the next rows.
 * B4. A turn that fails leaves memory as it was, or is never used again: the partition is thrown away and recovered (P11).
 */
import * as Effect from "effect/Effect"
import { asKeyfoldError, type ErrorCode, KeyfoldError, reasonOf } from "../errors.ts"
import { type DeadLetterParts, deadLetterOf, encodeDeadLetter } from "../model/dead-letter.ts"
import { encodeWatermark } from "../model/envelope.ts"
import { type InputClock, inputWatermark, nextWatermark } from "../model/event-clock.ts"
import { partitionOf } from "../model/hash.ts"
import type { StoredRecord } from "../model/record.ts"
import { type Change, noTimeout, type Resident } from "../model/resident.ts"
import type { BadRow, Row } from "../model/row.ts"
import type { InitialState } from "../model/stage.ts"
import type { KeyImage, TurnClock } from "../model/turn.ts"
import { turnOutputBytesMax, turnTimeoutsMax } from "../options.ts"
import { checkOutputs, Numbering, outboxOf, writerOf } from "./outbox.ts"
import type { PartitionEngine, PartitionInput, PartitionParts } from "./ports.ts"
import { decodeProgress, encodeProgress, freshProgress, type Progress } from "./progress.ts"

/** The next records of each input, in the order of the inputs. */
export type Batch = readonly (readonly StoredRecord[])[]

/** Gives a turn up: onError "stop". Carries what the query stops with. */
class TurnStopped extends Error {
  readonly error: KeyfoldError

  constructor(error: KeyfoldError) {
    super(error.message)
    this.error = error
  }
}

export class Partition {
  readonly #parts: PartitionParts
  readonly #engine: PartitionEngine | undefined
  readonly #writer: string
  readonly #idle: boolean[]
  #progress!: Progress
  #numbering!: Numbering
  #revision = 0
  /** No armed timeout is earlier. */
  #nextDueMs = Number.POSITIVE_INFINITY
  #watermarkSentMs = 0

  // The turn under way.
  #rows: readonly Row[] = []
  #dropped = 0
  #bad = 0

  constructor(parts: PartitionParts) {
    this.#parts = parts
    this.#writer = writerOf(parts.query, parts.stage.name, parts.partition)
    this.#idle = parts.inputs.map(() => false)
    this.#engine = parts.engine?.({
      context: parts.context,
      callStarted: (resident, eventTime) => parts.outgoing.startCall(resident.keyText, eventTime),
      result: (value) => parts.outgoing.result(value),
      callUndone: () => parts.outgoing.undo(),
      callFailed: (resident, thrown) => this.#callFailed(resident, thrown)
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
    return this.#idle.every((idle) => idle)
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

  /** Recovers from the journal, or begins one: positions of a first start are fixed here, whatever happens next (P1-P5). */
  readonly recover = Effect.fnUntraced(function* (this: Partition, clockMs: number) {
    const { journal, inputs, publisher } = this.#parts
    const head = yield* journal.open()
    this.#revision = head.revision
    if (head.progress === undefined) yield* this.#begin(clockMs)
    else {
      this.#progress = decodeProgress(head.progress, inputs, this.#name)
      this.#numbering = new Numbering(this.#writer, this.#progress.numbers)
    }
    for (const { revision, outbox } of head.unpublished) yield* publisher.publish(revision, outbox)
    for (const [stream, journaled] of Object.entries(this.#progress.numbers)) {
      const cut = stream.lastIndexOf("/")
      const stored = yield* publisher.lastNumber({ topic: stream.slice(0, cut), partition: Number(stream.slice(cut + 1)) })
      yield* attempt(() => checkOutputs(stream, journaled, stored))
    }
    this.#nextDueMs = (yield* journal.timeouts())?.first ?? Number.POSITIVE_INFINITY
  })

  /** Whether something is due at this clock without new rows: a follow-up, a timeout, the initial state. */
  needsTurn(clockMs: number): boolean {
    const { followUp, initialised } = this.#progress
    if (followUp || (!initialised && this.#hasInitialState)) return true
    return this.#nextDueMs < this.#bound(this.#clockAt(clockMs))
  }

  /** One turn over the next records of each input, and its follow-ups. */
  readonly turn = Effect.fnUntraced(function* (this: Partition, batch: Batch, clockMs: number) {
    if (this.#progress.followUp) yield* this.#followUps()
    yield* this.#fitting(batch, { nowMs: this.#clockAt(clockMs).nowMs, always: false })
    yield* this.#followUps()
  })

  /** Moves the watermark without rows (idleness, an adopted watermark, the end of a bounded run), and fires what became due (W2). */
  readonly advanceWatermark = Effect.fnUntraced(function* (this: Partition, watermarkMs: number, clockMs: number) {
    if (!this.#parts.stage.hasWatermark || watermarkMs <= this.#progress.watermarkMs) return false
    this.#progress = { ...this.#progress, watermarkMs }
    yield* this.#fitting([], { nowMs: this.#clockAt(clockMs).nowMs, always: true })
    yield* this.#followUps()
    return true
  })

  /** The same for the watermark of a `withWatermark` behind the stage: a partition that puts nothing out must not hold the next stage. */
  readonly advanceOutgoing = Effect.fnUntraced(function* (this: Partition, outgoingWatermarkMs: number, clockMs: number) {
    if (outgoingWatermarkMs <= this.#progress.outgoingWatermarkMs) return false
    this.#progress = { ...this.#progress, outgoingWatermarkMs }
    yield* this.#fitting([], { nowMs: this.#clockAt(clockMs).nowMs, always: true })
    yield* this.#followUps()
    return true
  })

  /** Where idleness puts the watermark of this partition by itself: other inputs no longer wait for an idle one (W6). */
  setIdle(input: number, idle: boolean): void {
    this.#idle[input] = idle
  }

  /** The watermark as its inputs alone put it now. */
  get shownWatermarkMs(): number {
    const { watermarkMs, clocks } = this.#progress
    return nextWatermark(watermarkMs, this.#shows(clocks))
  }

  /** The last armed timeout; undefined when none is. */
  readonly lastTimeout = Effect.fnUntraced(function* (this: Partition) {
    return (yield* this.#parts.journal.timeouts())?.last
  })

  readonly settled = (): Effect.Effect<void, KeyfoldError> => this.#parts.publisher.settled()

  // ---- one turn

  /** P7: a turn that would write too much runs again with half the records, or half the timeouts. */
  readonly #fitting = Effect.fnUntraced(function* (
    this: Partition,
    batch: Batch,
    turn: { readonly nowMs: number; readonly always: boolean }
  ) {
    let taken = batch
    let timeoutsMax = turnTimeoutsMax
    while (!(yield* this.#run(taken, { ...turn, timeoutsMax }))) {
      const count = countOf(taken)
      if (count > 1) taken = halved(taken)
      else timeoutsMax = Math.max(1, timeoutsMax >> 1)
    }
  })

  readonly #followUps = Effect.fnUntraced(function* (this: Partition) {
    while (this.#progress.followUp) yield* this.#fitting([], { nowMs: this.#progress.nowMs, always: false })
  })

  /** Answers false, with everything as before, when the turn would write too much and can be made smaller. */
  readonly #run = Effect.fnUntraced(function* (this: Partition, batch: Batch, bounds: TurnBounds) {
    const { outgoing, inputs, journal } = this.#parts
    const clock: TurnClock = { nowMs: bounds.nowMs, watermarkMs: this.watermarkMs }
    const taken = inputs.map((input, index) => input.intake.take(batch[index] ?? []))
    outgoing.startTurn(clock.nowMs)
    this.#dropped = 0
    this.#bad = 0
    const rows = taken.length === 1 ? (taken[0] as { rows: readonly Row[] }).rows : taken.flatMap((result) => result.rows)
    const { onTime, late } = this.#splitLate(rows, clock)
    this.#rows = onTime
    const groups = this.#engine === undefined ? noGroups : yield* this.#group(onTime)
    const due = this.#engine === undefined ? noDue : yield* this.#due(clock, bounds.timeoutsMax)
    const initial = this.#engine === undefined ? noInitial : yield* this.#initialStates()

    let changes: readonly Change[] = []
    const failure = this.#guard(() => {
      for (const result of taken) for (const bad of result.bad) this.#badRow(bad)
      for (const row of late) this.#writeLate(row)
      if (this.#engine === undefined) this.#passThrough(onTime)
      else changes = this.#engine.run({ turn: this.#revision + 1, clock, called: groups, initial, due: due.residents })
    })
    for (const resident of groups) resident.events = undefined
    if (failure !== undefined) return yield* Effect.fail(failure)
    if (this.#tooLarge(changes) && (countOf(batch) > 1 || due.residents.length > 1)) {
      this.#engine?.undo()
      return false
    }

    const progress = this.#progressAfter({ taken, batch, clock, due, changes })
    this.#appendWatermark(progress)
    if (!bounds.always && countOf(batch) === 0 && this.#nothingHappened(progress, changes)) {
      this.#progress = progress
      yield* this.#askNextDue(due.asked)
      return true
    }
    const outbox = outboxOf(outgoing, this.#numbering, clock.nowMs)
    this.#progress = { ...progress, numbers: this.#numbering.numbers }
    this.#revision += 1
    const left = yield* journal.commit({
      revision: this.#revision,
      progress: encodeProgress(this.#progress),
      changes: changes.map(imageOf),
      outbox
    })
    this.#parts.residents.evict(this.#revision, touchedBy(groups, due.residents))
    this.#observe({ clock, rows: rows.length, late, changes, outputRecords: outbox.records.length })
    yield* this.#parts.publisher.publish(this.#revision, left)
    yield* this.#askNextDue(due.asked)
    return true
  })

  /** After timeouts were taken, only the journal knows which is the earliest now. */
  readonly #askNextDue = Effect.fnUntraced(function* (this: Partition, asked: boolean) {
    if (asked && !this.#progress.followUp) this.#nextDueMs = (yield* this.#parts.journal.timeouts())?.first ?? Number.POSITIVE_INFINITY
  })

  /** W3: a row at or below the watermark is late; whether it is dropped is the stage's choice. */
  #splitLate(rows: readonly Row[], clock: TurnClock): { readonly onTime: readonly Row[]; readonly late: readonly Row[] } {
    const { watermarkMs } = clock
    if (watermarkMs === undefined || this.#parts.stage.actor?.late !== "drop") return { onTime: rows, late: noRows }
    const late = rows.filter((row) => row.eventTime <= watermarkMs)
    return late.length === 0 ? { onTime: rows, late } : { onTime: rows.filter((row) => !(row.eventTime <= watermarkMs)), late }
  }

  /** Groups rows by key, in order of each key's first row, with every missing key loaded in one go. Hot path. */
  readonly #group = Effect.fnUntraced(function* (this: Partition, rows: readonly Row[]) {
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
        if (row.eventTime > resident.eventTimeMax) resident.eventTimeMax = row.eventTime
      }
    }
    yield* this.#load(missing)
    return groups
  })

  readonly #load = Effect.fnUntraced(function* (this: Partition, missing: readonly Resident[]) {
    // A partition that has never committed a key has none to load.
    if (missing.length === 0) return
    const images = yield* this.#parts.journal.load(missing.map((resident) => resident.keyText))
    images.forEach((image, index) => {
      if (image !== undefined) this.#parts.residents.change(missing[index] as Resident, image)
    })
  })

  /** The keys whose timeout is due, in firing order (T4). */
  readonly #due = Effect.fnUntraced(function* (this: Partition, clock: TurnClock, countMax: number) {
    const before = this.#bound(clock)
    if (!(this.#nextDueMs < before)) return noDue
    const images = yield* this.#parts.journal.due({ before, countMax })
    const { residents } = this.#parts
    const due = images.map(
      (image) => residents.get(image.keyText) ?? residents.admit(image.keyText, image.bytes, image.timeoutAt ?? noTimeout)
    )
    return { residents: due, more: images.length === countMax, asked: true }
  })

  /** G8: what timeouts are compared with; strictly below it is due. */
  #bound(clock: TurnClock): number {
    const timeout = this.#parts.stage.actor?.timeout
    if (timeout === "processing-time") return clock.nowMs
    return timeout === "event-time" ? (clock.watermarkMs ?? Number.NEGATIVE_INFINITY) : Number.NEGATIVE_INFINITY
  }

  #clockAt(clockMs: number): TurnClock {
    return { nowMs: Math.max(this.#progress.nowMs, clockMs), watermarkMs: this.watermarkMs }
  }

  readonly #initialStates = Effect.fnUntraced(function* (this: Partition) {
    if (this.#progress.initialised || !this.#hasInitialState) return noInitial
    const { stage, partition, partitions, residents } = this.#parts
    const initial = new Map<Resident, InitialState>()
    const missing: Resident[] = []
    for (const state of stage.actor?.initialState ?? []) {
      if (partitionOf(state.keyText, partitions) !== partition) continue
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

  get #hasInitialState(): boolean {
    return (this.#parts.stage.actor?.initialState.length ?? 0) > 0
  }

  /** A stage without a state function hands every row on by itself. */
  #passThrough(rows: readonly Row[]): void {
    const { outgoing } = this.#parts
    for (const row of rows) {
      outgoing.startCall(row.keyText, row.eventTime)
      try {
        outgoing.result(row.value, row.stamped)
      } catch (thrown) {
        outgoing.undo()
        this.#badRow({ record: row.record, thrown, value: row.value, keyText: undefined })
      }
    }
  }

  // ---- what goes wrong with data

  /** Runs the synchronous heart of a turn; a policy of "stop" comes out as the error to stop with. */
  #guard(run: () => void): KeyfoldError | undefined {
    try {
      run()
      return undefined
    } catch (thrown) {
      if (thrown instanceof TurnStopped) return thrown.error
      throw thrown
    }
  }

  #badRow(bad: BadRow): void {
    this.#bury({ ...bad, stage: this.#parts.stage.name }, asKeyfoldError(bad.thrown, "function-failed", "a function of the job threw").code)
  }

  /** G23: the key's rows of this turn, one dead letter each; a timeout call leaves one without rows. */
  #callFailed(resident: Resident, thrown: unknown): void {
    const parts = { thrown, stage: this.#parts.stage.name, keyText: resident.keyText }
    if (resident.events === undefined) this.#bury({ ...parts, value: undefined, record: undefined }, "function-failed")
    else {
      for (const row of this.#rows) {
        if (row.keyText === resident.keyText) this.#bury({ ...parts, value: row.value, record: row.record }, "function-failed")
      }
    }
  }

  /** The job's error policy (G23); `stopCode` is what the query stops with under "stop". */
  #bury(parts: DeadLetterParts, stopCode: ErrorCode): void {
    const { onError, outgoing, deadLetterTopic } = this.#parts
    const letter = deadLetterOf(parts)
    this.#bad += 1
    if (onError === "drop") return
    if (onError === "stop") {
      const where =
        parts.record === undefined ? "" : ` (${parts.record.topic}, partition ${parts.record.partition}, position ${parts.record.position})`
      const message = `the stage ${letter.stage} failed${where}: ${letter.message}`
      throw new TurnStopped(new KeyfoldError(stopCode, message, { cause: parts.thrown }))
    }
    outgoing.append({ topic: deadLetterTopic, partition: 0, payload: encodeDeadLetter(letter) })
  }

  #writeLate(row: Row): void {
    this.#dropped += 1
    const late = this.#parts.lateSinks.get(row.record.topic)
    if (late === undefined || row.stamped === undefined) return
    try {
      this.#parts.outgoing.write(late, row.stamped)
    } catch (thrown) {
      this.#badRow({ record: row.record, thrown, value: row.value, keyText: row.keyText })
    }
  }

  // ---- after the calls

  #tooLarge(changes: readonly Change[]): boolean {
    let bytes = this.#parts.outgoing.bytes
    for (const { resident } of changes) bytes += resident.bytes?.byteLength ?? 0
    return bytes > turnOutputBytesMax
  }

  #progressAfter(turn: {
    readonly taken: readonly {
      readonly rows: readonly Row[]
      readonly newestMs: number
      readonly upstreamMs: ReadonlyMap<number, number>
    }[]
    readonly batch: Batch
    readonly clock: TurnClock
    readonly due: DueTimeouts
    readonly changes: readonly Change[]
  }): Progress {
    const { nowMs } = turn.clock
    const before = this.#progress
    turn.batch.forEach((records, index) => {
      if (records.length > 0) this.#idle[index] = false
    })
    const clocks = before.clocks.map((clock, index) => clockAfter(clock, turn.taken[index], nowMs))
    const watermarkMs = this.#parts.stage.hasWatermark ? nextWatermark(before.watermarkMs, this.#shows(clocks)) : 0
    this.#nextDueMs = nextDue(this.#nextDueMs, turn, this.#bound(turn.clock))
    const outgoing = this.#outgoingClock(watermarkMs)
    const after = this.#bound({ nowMs, watermarkMs: this.#parts.stage.hasWatermark ? watermarkMs : undefined })
    return {
      ...before,
      ...outgoing,
      positions: before.positions.map((at, index) => ({ ...at, position: turn.batch[index]?.at(-1)?.position ?? at.position })),
      nowMs,
      watermarkMs,
      clocks,
      followUp: turn.due.more || this.#nextDueMs < after,
      initialised: true
    }
  }

  #shows(clocks: readonly InputClock[]): { showsMs: number; idle: boolean }[] {
    return clocks.map((clock, index) => {
      const { time } = this.#parts.inputs[index] as PartitionInput
      return { showsMs: inputWatermark(clock, time?.delayMs ?? 0), idle: this.#idle[index] === true }
    })
  }

  /** The watermark that goes downstream: the stage's own, or that of a `withWatermark` behind it (W1 over the results). */
  #outgoingClock(watermarkMs: number): Pick<Progress, "outgoingNewestMs" | "outgoingWatermarkMs"> {
    const before = this.#progress
    const declaration = this.#parts.stage.operators.find((operator) => operator.kind === "watermark")?.declaration
    const { newestMs } = this.#parts.outgoing
    const newest = Number.isNaN(newestMs) ? before.outgoingNewestMs : Math.max(newestMs, before.outgoingNewestMs ?? newestMs)
    const showsMs = declaration === undefined ? watermarkMs : newest === null ? 0 : newest - declaration.delayMs
    return { outgoingNewestMs: newest, outgoingWatermarkMs: Math.max(before.outgoingWatermarkMs, showsMs) }
  }

  /** P24: after all rows of the turn and its follow-ups, to every partition of the internal topic. */
  #appendWatermark(progress: Progress): void {
    const { downstream, outgoing, partition } = this.#parts
    if (downstream === undefined || progress.followUp || progress.outgoingWatermarkMs <= this.#watermarkSentMs) return
    const payload = encodeWatermark({ watermarkMs: progress.outgoingWatermarkMs, upstream: partition })
    for (let target = 0; target < downstream.partitions; target++) outgoing.append({ topic: downstream.topic, partition: target, payload })
    this.#watermarkSentMs = progress.outgoingWatermarkMs
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

  #observe(turn: { clock: TurnClock; rows: number; late: readonly Row[]; changes: readonly Change[]; outputRecords: number }): void {
    const { stage, partition, outgoing, residents, observer } = this.#parts
    observer.committed({
      stage: stage.name,
      partition,
      clock: turn.clock,
      rows: turn.rows,
      bad: this.#bad,
      dropped: this.#dropped,
      late: turn.late.map((row) => row.value),
      changes: turn.changes,
      results: outgoing.results,
      outputRecords: turn.outputRecords,
      residentKeys: residents.size
    })
    this.#rows = noRows
  }

  readonly #begin = Effect.fnUntraced(function* (this: Partition, clockMs: number) {
    const { inputs, journal } = this.#parts
    const starts: { topic: string; created: string; upstreamCount: number; position: number }[] = []
    for (const input of inputs) starts.push({ ...input, position: yield* input.startPosition() })
    this.#progress = { ...freshProgress(starts), nowMs: clockMs }
    this.#numbering = new Numbering(this.#writer, {})
    this.#revision += 1
    yield* journal.commit({
      revision: this.#revision,
      progress: encodeProgress(this.#progress),
      changes: [],
      outbox: { records: [], deliveries: [] }
    })
  })

  get #name(): string {
    return `the journal of ${this.#parts.query}/${this.#parts.stage.name}/${this.#parts.partition}`
  }
}

const noRows: readonly Row[] = []
const noGroups: readonly Resident[] = []
const noInitial: ReadonlyMap<Resident, InitialState> = new Map()
const noDue: DueTimeouts = { residents: [], more: false, asked: false }

interface TurnBounds {
  readonly nowMs: number
  readonly timeoutsMax: number
  /** Commits even when nothing happened: the watermark was moved from outside, and that must last. */
  readonly always: boolean
}

interface DueTimeouts {
  readonly residents: readonly Resident[]
  /** As many as were asked for: there may be more. */
  readonly more: boolean
  readonly asked: boolean
}

/**
 * A lower bound of the earliest armed timeout after a turn. When all that was due below `bound` has been taken, what is left is at or
 * above it, but for keys whose data came first and failed: they keep their timeout (G23).
 */
const nextDue = (before: number, turn: { readonly due: DueTimeouts; readonly changes: readonly Change[] }, bound: number): number => {
  let next = turn.due.asked && !turn.due.more ? bound : before
  for (const { timeoutAt } of turn.due.residents) if (timeoutAt !== noTimeout && timeoutAt < next) next = timeoutAt
  for (const { resident } of turn.changes) if (resident.timeoutAt !== noTimeout && resident.timeoutAt < next) next = resident.timeoutAt
  return next
}

const countOf = (batch: Batch): number => batch.reduce((count, records) => count + records.length, 0)

const halved = (batch: Batch): Batch => {
  let left = countOf(batch) >> 1
  return batch.map((records) => {
    const taken = records.slice(0, left)
    left -= taken.length
    return taken
  })
}

const imageOf = ({ resident }: Change): KeyImage => ({
  keyText: resident.keyText,
  bytes: resident.bytes,
  timeoutAt: resident.timeoutAt === noTimeout ? undefined : resident.timeoutAt
})

const touchedBy = (groups: readonly Resident[], due: readonly Resident[]): readonly Resident[] =>
  due.length === 0 ? groups : [...groups, ...due]

const clockAfter = (
  clock: InputClock,
  taken: { readonly rows: readonly Row[]; readonly newestMs: number; readonly upstreamMs: ReadonlyMap<number, number> } | undefined,
  nowMs: number
): InputClock => {
  if (taken === undefined || (taken.rows.length === 0 && Number.isNaN(taken.newestMs) && taken.upstreamMs.size === 0)) return clock
  const newestMs = Number.isNaN(taken.newestMs) ? clock.newestMs : Math.max(taken.newestMs, clock.newestMs ?? taken.newestMs)
  return {
    newestMs,
    lastRowAtMs: taken.rows.length > 0 || !Number.isNaN(taken.newestMs) ? nowMs : clock.lastRowAtMs,
    upstreamMs: clock.upstreamMs.map((upstream, index) => Math.max(upstream, taken.upstreamMs.get(index) ?? 0))
  }
}

const attempt = (check: () => void): Effect.Effect<void, KeyfoldError> =>
  Effect.suspend(() => {
    try {
      check()
      return Effect.void
    } catch (thrown) {
      if (thrown instanceof KeyfoldError) return Effect.fail(thrown)
      return Effect.die(new Error(reasonOf(thrown)))
    }
  })
