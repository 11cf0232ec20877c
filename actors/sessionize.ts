/**
 * Sessions of a key: runs of events with no pause longer than the gap. Owns which events belong together and when a session is final;
 * event time, lateness and timeouts are the engine's.
 *
 * Z1. An event at `t` with gap `g` keeps its session open up to and including `t + g`. Sessions that touch are one (S2), so a session is
 *     a connected group of the closed intervals [t, t + g]: neither the order of the rows nor the cuts between turns matter.
 * Z2. One final result per session (S3, append), those of a call in order of start.
 * Z3. A session is final when the watermark has reached its last `t + g`, the moment `closesAt`: a row that is not late lies above the
 *     watermark (W3), hence above `closesAt`, and cannot touch it. One millisecond less, and a row at `closesAt` could still come.
 * Z4. A key without an open session has neither state nor timeout.
 */
import { type Actor, type Duration, defineActor, type GroupState, KeyfoldError, toDurationMs } from "keyfold"
import { json } from "keyfold/codecs/json"

/** A session whose last word is spoken. Times are milliseconds. */
export interface Session<K> {
  readonly key: K
  /** Event time of the first event. */
  readonly start: number
  /** Event time of the last event. Spark's `session_window.end` is this plus the gap. */
  readonly end: number
  /** How many events it has, duplicates included. */
  readonly count: number
}

/** A session that may still grow: what the state of a key is a list of. */
export interface OpenSession {
  readonly start: number
  readonly end: number
  /** The largest event time + gap of its events: the last moment at which an event still joins. With one gap for all it is `end` + gap. */
  readonly closesAt: number
  readonly count: number
}

export interface SessionizeOptions<In> {
  /**
   * The longest pause within a session: an event that comes exactly this long after the last one still belongs to it, one millisecond
   * more begins the next. A function gives each event a gap of its own, as Spark's dynamic gap does; the session then stays open until the
   * latest event time + gap. An event whose gap is 0 or less is in no session: it is dropped (S2) and counted, in the counter
   * `sessionize.events.without.gap`. A text with a negative total is refused like everywhere (G15).
   */
  readonly gap: Duration | ((event: In) => Duration)
  /** When an event happened, ms since the epoch; fractions are floored (W8). The same function that `withWatermark` was given. */
  readonly eventTime: (event: In) => number
  /** The stage's name, which names its journal. Default `sessionize`. */
  readonly name?: string
  /**
   * What happens to an event at or below the watermark (W3). Default `drop`: it goes to the job's late topic. With `keep` it joins a
   * session that is still open, as if it had come in time; else it becomes a session that may be final at once. What was yielded is never
   * taken back, so an event that comes after its session has closed leaves two results where there would have been one.
   */
  readonly late?: "drop" | "keep"
}

/**
 * Cuts the events of a key into sessions and yields each once, when it is final: as soon as the watermark reaches its last event time +
 * gap. Needs `withWatermark`. Rows may come in any order; an out-of-order row may bridge two open sessions. The state is the key's open
 * sessions, and there is none when all are closed.
 *
 * A turn of n events costs n log n at worst, and n when they are in order.
 *
 * Throws `illegal-argument` for a gap that is no duration and `option-invalid` for an `eventTime` that is no function, at once. While it
 * runs, an event time that is no finite number (`event-time-invalid`) or a gap function whose answer is no duration (`illegal-argument`)
 * fails the key's call, and the job's `onError` decides.
 */
export const sessionize = <K, In>(options: SessionizeOptions<In>): Actor<K, In, readonly OpenSession[], Session<K>> => {
  const { gap, eventTime, name = "sessionize", late = "drop" } = options
  if (typeof eventTime !== "function") {
    throw new KeyfoldError("option-invalid", `eventTime of sessionize must be a function of the event, got ${typeof eventTime}`)
  }
  const reading = { eventTime, gapMsOf: gapReader(gap) }
  return defineActor({
    name,
    state: json<readonly OpenSession[]>(),
    timeout: "event-time",
    late,
    outputMode: "append",
    run: function* (key: K, events: readonly In[], state: GroupState<readonly OpenSession[]>, context) {
      const spans = (state.getOption() ?? []).map((open): Span => ({ ...open }))
      const dropped = addEvents(spans, events, reading)
      if (dropped > 0) context.metrics.counter("sessionize.events.without.gap").add(dropped)
      const sessions = mergeTouching(spans)
      const finalCount = countFinal(sessions, state.getCurrentWatermarkMs())
      keepOpen(state, sessions.slice(finalCount))
      for (let index = 0; index < finalCount; index++) yield resultOf(key, sessions[index] as Span)
    }
  })
}

/** An open session while a call works on it. */
type Span = { -readonly [Field in keyof OpenSession]: OpenSession[Field] }

interface Reading<In> {
  readonly eventTime: (event: In) => number
  readonly gapMsOf: (event: In) => number
}

const gapReader = <In>(gap: Duration | ((event: In) => Duration)): ((event: In) => number) => {
  if (typeof gap === "function") return (event) => toGapMs(gap(event))
  const gapMs = toGapMs(gap)
  return () => gapMs
}

/** 0 for a gap <= 0, which drops its event (S2). */
const toGapMs = (gap: Duration): number => (typeof gap === "number" && gap <= 0 ? 0 : toDurationMs(gap, 0, "the gap of sessionize"))

/**
 * Adds events to the spans and answers how many were dropped for their gap. This runs per event: most events belong to the span that was
 * touched last, so events in order add no object; the others become spans of their own, for `mergeTouching` to sort.
 */
const addEvents = <In>(spans: Span[], events: readonly In[], reading: Reading<In>): number => {
  let dropped = 0
  let last = spans.at(-1)
  for (let index = 0; index < events.length; index++) {
    const event = events[index] as In
    const at = Math.floor(finite(reading.eventTime(event)))
    const gapMs = reading.gapMsOf(event)
    if (gapMs === 0) {
      dropped++
    } else if (last !== undefined && at <= last.closesAt && at + gapMs >= last.start) {
      if (at < last.start) last.start = at
      if (at > last.end) last.end = at
      if (at + gapMs > last.closesAt) last.closesAt = at + gapMs
      last.count++
    } else {
      last = { start: at, end: at, closesAt: at + gapMs, count: 1 }
      spans.push(last)
    }
  }
  return dropped
}

/** The spans with those that touch made one, in order of start; as they no longer touch, in order of `closesAt` too. Reuses the objects. */
const mergeTouching = (spans: Span[]): Span[] => {
  const sessions: Span[] = []
  spans.sort((a, b) => a.start - b.start)
  for (const span of spans) {
    const last = sessions.at(-1)
    if (last === undefined || span.start > last.closesAt) {
      sessions.push(span)
    } else {
      last.end = Math.max(last.end, span.end)
      last.closesAt = Math.max(last.closesAt, span.closesAt)
      last.count += span.count
    }
  }
  return sessions
}

/** Z3. The final ones come first, because the sessions are in order of `closesAt`. */
const countFinal = (sessions: readonly Span[], watermarkMs: number): number => {
  const index = sessions.findIndex((session) => session.closesAt > watermarkMs)
  return index === -1 ? sessions.length : index
}

/**
 * Z4. A timeout fires when it is strictly below the watermark (G8), so `closesAt - 1` fires at the first watermark that makes the session
 * final (Z3). It is not below this turn's watermark, as the session is open: `closesAt` > watermark. Only a kept late row at 0 can close
 * at 1, where a timeout may not be set to 0 (G14); it waits one millisecond more.
 */
const keepOpen = (state: GroupState<readonly OpenSession[]>, open: readonly Span[]): void => {
  const [first] = open
  if (first === undefined) {
    state.remove()
    return
  }
  state.update(open)
  state.setTimeoutTimestamp(Math.max(1, first.closesAt - 1))
}

const resultOf = <K>(key: K, { start, end, count }: Span): Session<K> => ({ key, start, end, count })

const finite = (at: number): number => {
  if (Number.isFinite(at)) return at
  throw new KeyfoldError("event-time-invalid", `eventTime of sessionize must be a finite number of milliseconds, got ${String(at)}`)
}
