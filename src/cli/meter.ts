/** Reads the figures of running queries. What a handle counts beyond the public Query is optional here: an older one shows zeros. */
import type { Query } from "../index.ts"
import { RateWindow, type StatusFigures } from "./status.ts"

/** What start.ts's handles count for whoever shows them. */
interface Counting {
  readonly totals: {
    readonly inputRows: number
    readonly late: number
    readonly bad: number
    readonly residentKeys: number
    readonly watermarkMs: number | undefined
  }
  readonly lag: () => Promise<number>
}

export class Meter {
  readonly #queries: readonly (Query & Partial<Counting>)[]
  readonly #rate = new RateWindow()
  #lag: number | undefined
  #isAsking = false

  constructor(queries: readonly Query[]) {
    this.#queries = queries as readonly (Query & Partial<Counting>)[]
  }

  /** The figures at `nowMs`. */
  read(nowMs: number): StatusFigures {
    const totals = this.#queries.flatMap((query) => query.totals ?? [])
    const sum = (figure: "inputRows" | "late" | "bad" | "residentKeys"): number => totals.reduce((total, each) => total + each[figure], 0)
    const watermarks = totals.flatMap(({ watermarkMs }) => watermarkMs ?? [])
    this.#rate.add(nowMs, sum("inputRows"))
    return {
      events: sum("inputRows"),
      eventsPerSecond: this.#rate.perSecond,
      watermarkMs: watermarks.length === 0 ? undefined : Math.min(...watermarks),
      keys: sum("residentKeys"),
      lag: this.#lag,
      late: sum("late"),
      dead: sum("bad")
    }
  }

  /** Asks the sources anew, one question at a time. A question without an answer (the query is ending) changes nothing. */
  async askLag(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      const lags = await Promise.all(this.#queries.map((query) => (query.isActive ? (query.lag?.() ?? 0) : 0)))
      this.#lag = lags.reduce((total, lag) => total + lag, 0)
    } catch {
      // The status line is a courtesy; what is wrong with the query is said when it ends.
    } finally {
      this.#isAsking = false
    }
  }
}
