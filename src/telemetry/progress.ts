/** What a query tells of itself, in the shape of Spark's StreamingQueryProgress, gathered from committed turns. */

import { isoTime } from "../model/event-clock.ts"

/** One report: what happened since the one before. Times in milliseconds, timestamps ISO 8601. */
export interface Progress {
  /** The query's: the same after a restart. */
  readonly id: string
  /** This run's. */
  readonly runId: string
  readonly name: string
  /** Counts the reports of this run, from 0. */
  readonly batchId: number
  readonly timestamp: string
  readonly numInputRows: number
  readonly inputRowsPerSecond: number
  readonly processedRowsPerSecond: number
  readonly durationMs: { readonly [phase: string]: number }
  readonly eventTime: { readonly watermark?: string }
}

/** Totals of this run. */
export interface Totals {
  readonly inputRows: number
  readonly turns: number
  readonly late: number
  readonly bad: number
  readonly outputs: number
  /** Records that were gone before they were read (`failOnDataLoss: false`). */
  readonly lost: number
  readonly residentKeys: number
  /** The smallest watermark over the first stage's partitions that have one; undefined without. */
  readonly watermarkMs: number | undefined
}

/** What of a committed turn is counted. */
export interface CountedTurn {
  readonly stage: string
  readonly partition: number
  readonly rows: number
  readonly bad: number
  readonly dropped: number
  readonly outputRecords: number
  readonly residentKeys: number
}

const recentMax = 100

export class ProgressLog {
  /** Known when the query's topics are. */
  id = ""
  readonly #who: { readonly runId: string; readonly name: string; readonly firstStage: string }
  readonly #recent: Progress[] = []
  readonly #residents = new Map<string, number>()
  #totals = { inputRows: 0, turns: 0, late: 0, bad: 0, outputs: 0, lost: 0 }
  #reported = { inputRows: 0, atMs: 0 }
  #batchId = 0

  constructor(who: { readonly runId: string; readonly name: string; readonly firstStage: string }, startedAtMs: number) {
    this.#who = who
    this.#reported.atMs = startedAtMs
  }

  /** Rows count once, where they enter the job. */
  count(turn: CountedTurn): void {
    const totals = this.#totals
    if (turn.stage === this.#who.firstStage) totals.inputRows += turn.rows
    totals.turns += 1
    totals.late += turn.dropped
    totals.bad += turn.bad
    totals.outputs += turn.outputRecords
    this.#residents.set(`${turn.stage}/${turn.partition}`, turn.residentKeys)
  }

  countLost(records: number): void {
    this.#totals.lost += records
  }

  totals(watermarkMs: number | undefined): Totals {
    let residentKeys = 0
    for (const keys of this.#residents.values()) residentKeys += keys
    return { ...this.#totals, residentKeys, watermarkMs }
  }

  /** Closes a report over everything since the last one. */
  report(nowMs: number, watermarkMs: number | undefined): Progress {
    const { runId, name } = this.#who
    const rows = this.#totals.inputRows - this.#reported.inputRows
    const tookMs = Math.max(1, nowMs - this.#reported.atMs)
    const perSecond = Math.round((rows * 1_000) / tookMs)
    const progress: Progress = {
      id: this.id,
      runId,
      name,
      batchId: this.#batchId,
      timestamp: new Date(nowMs).toISOString(),
      numInputRows: rows,
      inputRowsPerSecond: perSecond,
      processedRowsPerSecond: perSecond,
      durationMs: { triggerExecution: tookMs },
      eventTime: watermarkMs === undefined ? {} : { watermark: isoTime(watermarkMs) }
    }
    this.#batchId += 1
    this.#reported = { inputRows: this.#totals.inputRows, atMs: nowMs }
    this.#recent.push(progress)
    if (this.#recent.length > recentMax) this.#recent.shift()
    return progress
  }

  get recent(): readonly Progress[] {
    return this.#recent
  }

  /** Rows since the last report. */
  get unreported(): number {
    return this.#totals.inputRows - this.#reported.inputRows
  }
}
