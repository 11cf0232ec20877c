/** The logger and metrics that a state function gets; the only user of OpenTelemetry's API. Without an SDK installed both metrics are no-ops. */
import { type Counter, type Histogram, metrics } from "@opentelemetry/api"
import { shown } from "../errors.ts"
import type { Context } from "../model/actor.ts"

type Level = "debug" | "info" | "warn" | "error"

/** A context for one partition of one stage; `emitTo` is the call's own. */
export const makeContext = (
  where: { readonly query: string; readonly stage: string; readonly partition: number },
  emitTo: (topic: unknown, value: unknown) => void
): Context => {
  const { query, stage, partition } = where
  const attributes = { "keyfold.query": query, "keyfold.stage": stage }
  const counters = new Map<string, Counter>()
  const histograms = new Map<string, Histogram>()
  const log = (level: Level) => (message: string, fields?: object) => {
    if (level === "debug" && process.env["KEYFOLD_DEBUG"] === undefined) return
    process.stderr.write(`${lineOf({ ...fields, level, message, query, stage, partition })}\n`)
  }
  return {
    partition,
    logger: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
    metrics: {
      counter: (name) => {
        const counter = remember(counters, name, (wanted) => metrics.getMeter("keyfold").createCounter(wanted))
        return { add: (n) => counter.add(n, attributes) }
      },
      histogram: (name) => {
        const histogram = remember(histograms, name, (wanted) => metrics.getMeter("keyfold").createHistogram(wanted))
        return { record: (n) => histogram.record(n, attributes) }
      }
    },
    emitTo
  }
}

/** A log line must not fail the call that writes it: what JSON cannot hold is shown as text. */
const lineOf = (fields: Readonly<Record<string, unknown>>): string => {
  try {
    return JSON.stringify(fields)
  } catch {
    return JSON.stringify(
      Object.fromEntries(
        Object.entries(fields).map(([name, value]) => [name, typeof value === "object" || typeof value === "bigint" ? shown(value) : value])
      )
    )
  }
}

const remember = <T>(made: Map<string, T>, name: string, make: (name: string) => T): T => {
  const known = made.get(name)
  if (known !== undefined) return known
  const fresh = make(name)
  made.set(name, fresh)
  return fresh
}
