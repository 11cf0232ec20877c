/**
 * Trace context between record headers and OpenTelemetry: `traceparent` and `tracestate` of W3C Trace Context, in lower case, whatever
 * propagator the process has. No other header of an input is ever copied to an output (`Nats-Trace-Dest` would make servers trace again).
 */
import {
  createTraceState,
  isSpanContextValid,
  type SpanContext,
  TraceFlags,
  type Tracer,
  type TracerProvider,
  trace
} from "@opentelemetry/api"
import { noHeaders } from "../model/record.ts"

export type Headers = ReadonlyMap<string, string>

const parentHeader = "traceparent"
const stateHeader = "tracestate"
const stateCharsMax = 512

/** The tracer of the SDK that this process has; undefined without one, so that nobody does the work for nothing (X5). */
export const installedTracer = (): Tracer | undefined => {
  const provider: TracerProvider & { readonly getDelegateTracer?: (name: string) => Tracer | undefined } = trace.getTracerProvider()
  return provider.getDelegateTracer === undefined ? provider.getTracer("keyfold") : provider.getDelegateTracer("keyfold")
}

export const traceparentIn = (headers: Headers): string | undefined => (headers.size === 0 ? undefined : headers.get(parentHeader))

/** Where the parts of a `traceparent` end: version, trace id, span id, flags. */
const [versionEnd, traceIdEnd, spanIdEnd, flagsEnd] = [2, 35, 52, 55]

/** Looks without making anything, because it may run per event; what is no trace context is passed over (X6). */
export const isTraceparent = (text: string): boolean => {
  // A later version may say more behind the flags; what version 00 says is there in all of them.
  if (text.length !== flagsEnd && (text[flagsEnd] !== "-" || text.startsWith("00"))) return false
  if (text[versionEnd] !== "-" || text[traceIdEnd] !== "-" || text[spanIdEnd] !== "-" || text.startsWith("ff")) return false
  const traceId = digitsIn(text, versionEnd + 1, traceIdEnd)
  const spanId = digitsIn(text, traceIdEnd + 1, spanIdEnd)
  return traceId > 0 && spanId > 0 && digitsIn(text, 0, versionEnd) >= 0 && digitsIn(text, spanIdEnd + 1, flagsEnd) >= 0
}

/** What each ASCII character is worth as a lower-case hexadecimal digit. */
const digits = new Uint8Array(128).fill(0xff)
for (let digit = 0; digit < 16; digit++) digits[digit.toString(16).charCodeAt(0)] = digit

/** All digits put together: 0 when all are 0, -1 when one is none. A table and no branch: a third of what a regular expression takes. */
const digitsIn = (text: string, from: number, end: number): number => {
  let all = 0
  let codes = 0
  for (let at = from; at < end; at++) {
    const code = text.charCodeAt(at)
    codes |= code
    all |= digits[code & 127] as number
  }
  return codes < 128 && all < 16 ? all : -1
}

/** Of a `traceparent` that is one. */
export const isSampledIn = (text: string): boolean => (digitsIn(text, flagsEnd - 1, flagsEnd) & TraceFlags.SAMPLED) !== 0

/** Of a `traceparent` that is one. */
export const traceIdIn = (text: string): string => text.slice(versionEnd + 1, traceIdEnd)

/** Of headers whose `traceparent` is one. */
export const contextIn = (text: string, headers: Headers): SpanContext => {
  const traceFlags = Number.parseInt(text.slice(spanIdEnd + 1, flagsEnd), 16)
  const found: SpanContext = { traceId: traceIdIn(text), spanId: text.slice(traceIdEnd + 1, spanIdEnd), traceFlags, isRemote: true }
  const state = headers.get(stateHeader)
  if (state !== undefined) found.traceState = createTraceState(state)
  return found
}

/** None for a context that says nothing, which an SDK gives where tracing is suppressed. */
export const headersOf = (of: SpanContext): Headers => {
  if (!isSpanContextValid(of)) return noHeaders
  const flags = (of.traceFlags & 0xff).toString(16).padStart(2, "0")
  const headers = new Map([[parentHeader, `00-${of.traceId}-${of.spanId}-${flags}`]])
  const state = of.traceState?.serialize() ?? ""
  if (state !== "" && state.length <= stateCharsMax) headers.set(stateHeader, state)
  return headers
}

/** Gives records the span that is active when they are published; many of one span share their headers. */
export class ActiveTrace {
  #last: SpanContext | undefined
  #headers: Headers = noHeaders

  /** Headers with the active span's context, when there is one; a trace that `given` carries wins. */
  into(given: Headers): Headers {
    const active = trace.getActiveSpan()?.spanContext()
    if (active === undefined || traceparentIn(given) !== undefined) return given
    if (active !== this.#last) {
      this.#last = active
      this.#headers = headersOf(active)
    }
    return given.size === 0 ? this.#headers : new Map([...given, ...this.#headers])
  }
}
