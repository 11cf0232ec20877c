/** Where in a trace something was made, by the names of W3C Trace Context; telemetry/ knows what to do with it. */
export interface TraceContext {
  readonly traceId: string
  readonly spanId: string
  readonly traceFlags: number
}
