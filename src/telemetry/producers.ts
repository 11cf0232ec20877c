/** What a turn comes of: who made its records, who armed its timeouts. Each distinct trace context once, in bounded number however many records there are (X1). */
import { type Link, type SpanContext, TraceFlags } from "@opentelemetry/api"
import type { StoredRecord } from "../model/record.ts"
import type { Resident } from "../model/resident.ts"
import type { TraceContext } from "../model/trace-context.ts"
import { attributeNames } from "./span-names.ts"
import { contextIn, isSampledIn, isTraceparent, traceIdIn, traceparentIn } from "./trace-headers.ts"

export interface Producers {
  /** The first `linksMax` of them, those that are sampled first. */
  readonly contexts: readonly SpanContext[]
  readonly total: number
  /** All of them are of one trace. */
  readonly oneTrace: boolean
  readonly anySampled: boolean
}

/** As many as SDKs keep of a span by default. */
export const linksMax = 128

export const noProducers: Producers = { contexts: [], total: 0, oneTrace: true, anySampled: false }

const isSampled = (context: TraceContext): boolean => (context.traceFlags & TraceFlags.SAMPLED) !== 0

/** Runs per event, where an SDK is installed (R16): neighbours of one producer cost a comparison. */
export const producersOf = (batch: readonly (readonly StoredRecord[])[]): Producers => {
  const seen = new Set<string>()
  const sampled: SpanContext[] = []
  const unsampled: SpanContext[] = []
  let last = ""
  let total = 0
  let oneTrace = true
  let traceId: string | undefined
  for (const records of batch) {
    for (const record of records) {
      const text = traceparentIn(record.headers)
      if (text === undefined || text === last) continue
      last = text
      if (seen.has(text)) continue
      seen.add(text)
      if (!isTraceparent(text)) continue
      total += 1
      traceId ??= traceIdIn(text)
      oneTrace &&= text.startsWith(traceId, 3)
      const found = isSampledIn(text) ? sampled : unsampled
      if (found.length < linksMax) found.push(contextIn(text, record.headers))
    }
  }
  if (total === 0) return noProducers
  const contexts = unsampled.length === 0 ? sampled : [...sampled, ...unsampled].slice(0, linksMax)
  return { contexts, total, oneTrace, anySampled: sampled.length > 0 }
}

/** The turns that armed these timeouts, each once (X4). */
export const armedBy = (due: readonly Resident[], most: number): readonly TraceContext[] => {
  const armed = new Set<TraceContext>()
  for (const { armedBy: by } of due) if (by !== undefined && armed.size < most) armed.add(by)
  return [...armed]
}

/** X2. Undefined: a trace of its own. */
export const parentAmong = (producers: Producers, armed: readonly TraceContext[]): TraceContext | undefined => {
  const first = producers.contexts[0] ?? armed[0]
  if (first === undefined) return undefined
  const oneTrace = producers.oneTrace && armed.every(({ traceId }) => traceId === first.traceId)
  return oneTrace || !(producers.anySampled || armed.some(isSampled)) ? first : undefined
}

export const linksTo = (contexts: readonly TraceContext[], kind: string): Link[] =>
  contexts.map((to) => ({ context: to, attributes: { [attributeNames.link]: kind } }))
