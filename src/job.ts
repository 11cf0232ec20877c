/**
 * The builder: every step answers a new, immutable flow; `.to()` ends the job and checks it. Nothing throws before `.to()`, which names
 * every fault in one `job-invalid` error. What a job means is decided in plan.ts.
 */
import type { Actor, FlatMapOptions, MapOptions, StateFunction, Synchronous } from "./model/actor.ts"
import type { Duration } from "./model/duration.ts"
import type { KeyOf } from "./model/key.ts"
import type { RecordInfo } from "./model/record.ts"
import type { Sink, Source, Unkeyed } from "./model/topic.ts"
import type { Draft, Plan, SourceDraft, StepDraft } from "./plan.ts"
import { planJob } from "./planner.ts"

declare const shape: unique symbol

export interface FromOptions {
  /** Where a job without a journal starts: default `earliest`; `{ time }` is the first record published at or after it, ms. */
  readonly startAt?: "earliest" | "latest" | { readonly time: number }
}

export interface WatermarkOptions<T> {
  /** How long an input may be silent before it no longer holds the watermark back (W6). Default 1 minute. */
  readonly idleAfter?: Duration
  /** Lets the watermark follow the clock while everything is idle (W7). Default false. */
  readonly advanceWhenIdle?: boolean
  /** Receives the events that are dropped as late (W3). */
  readonly late?: Sink<T>
}

/** T: the event, K: its key, In: what enters the job, S: the states of its stages. */
export interface Flow<T, K, In, S> {
  map<const U>(fn: (value: T) => U & Synchronous<U>): Flow<U, K, In, S>
  filter<U extends T>(fn: (value: T) => value is U): Flow<U, K, In, S>
  filter(fn: (value: T) => boolean): Flow<T, K, In, S>
  flatMap<const U>(fn: (value: T) => Iterable<U>): Flow<U, K, In, S>
  /** Declares event time (ms) and how far rows may be out of order: watermark = newest event time - `delay` (W1). Once per input (W2). */
  withWatermark(eventTime: (value: T, info: RecordInfo) => number, delay: Duration, options?: WatermarkOptions<T>): Flow<T, K, In, S>
  /** Groups by the topic's own key, without a hop. */
  groupByKey(...none: Unkeyed extends K ? ["a source has no key: groupByKey(fn)"] : []): Groups<T, K, In, S>
  /** Groups by a key of your own: rows travel through an internal topic, exactly once, with their event time and watermark. */
  groupByKey<const K2>(key: (value: T) => K2 & KeyOf<K2>): Groups<T, K2, In, S>
  /** Ends and checks the job; every sink gets every result. None: side outputs only. */
  to(...sinks: readonly Sink<T>[]): Job<In, T, K, S>
  /** Ends and checks the job; `route` picks the sink of each result among `routes`. */
  to(route: (value: T) => Sink<T>, options: { readonly routes: readonly Sink<T>[] }): Job<In, T, K, S>
}

/** Before the first stage more sources may join (union); `through` runs on its own source only. */
export interface Sources<T, K, In, S> extends Flow<T, K, In, S> {
  from<T2, K2, U = T2>(
    source: Source<T2, K2>,
    options?: FromOptions & { readonly through?: (events: Flow<T2, K2, T2, never>) => Flow<U, K2, T2, never> }
  ): Sources<T | U, K | K2, In | T2, S>
}

export interface Groups<T, K, In, S> {
  /** Exactly one output per call, timeout calls included (G18). */
  mapGroupsWithState<S2, const Out>(
    options: MapOptions<K, S2>,
    run: StateFunction<K, T, S2, Out & Synchronous<Out>>
  ): Flow<Out, K, In, S | S2>
  /** Any number of outputs per call, in the order yielded, taken lazily (G17, G18). */
  flatMapGroupsWithState<S2, const Out>(
    options: FlatMapOptions<K, S2>,
    run: StateFunction<K, T, S2, Iterable<Out>>
  ): Flow<Out, K, In, S | S2>
  actor<S2, Out>(actor: Actor<K, T, S2, Out>, options?: { readonly name?: string }): Flow<Out, K, In, S | S2>
}

/** A checked job: an immutable value that any runtime can run. */
export interface Job<In = unknown, Out = unknown, K = unknown, S = unknown> {
  readonly name: string
  readonly [shape]: () => readonly [In, Out, K, S]
}

export interface JobOptions {
  /** What happens to the rows of a call that throws: default `dead-letter`; `stop` is Spark's way; `drop` only counts them (G23). */
  readonly onError?: "dead-letter" | "stop" | "drop"
  /** How often a call that throws is run again at once, with the state as it was, before `onError` applies. Default 0 (0 to 100). */
  readonly retries?: number
}

/** Begins a job. Its name names its journal, its internal topics and its dead letters (`<name>-dead`). */
export function job(name: string, options: JobOptions = {}): Pick<Sources<never, never, never, never>, "from"> {
  return new Builder({ name, options, sources: [], steps: [] }) as unknown as Pick<Sources<never, never, never, never>, "from">
}

/** The plan of a job; undefined for something that `.to()` did not make. */
export const planOf = (candidate: unknown): Plan | undefined => (candidate instanceof FinishedJob ? candidate.plan : undefined)

class FinishedJob {
  readonly name: string
  readonly plan: Plan

  constructor(plan: Plan) {
    this.name = plan.name
    this.plan = plan
    Object.freeze(this)
  }
}

/** The loosely typed side of Flow, Sources and Groups, whose interfaces carry the types. */
class Builder {
  readonly #draft: Draft

  constructor(draft: Draft) {
    this.#draft = draft
  }

  from(source: unknown, options?: { readonly startAt?: unknown; readonly through?: (events: unknown) => unknown }): Builder {
    const joined: SourceDraft = { source, options, startAt: options?.startAt, steps: stepsThrough(options?.through) }
    return new Builder({ ...this.#draft, sources: [...this.#draft.sources, joined] })
  }

  map(fn: unknown): Builder {
    return this.#then({ kind: "map", fn })
  }

  filter(fn: unknown): Builder {
    return this.#then({ kind: "filter", fn })
  }

  flatMap(fn: unknown): Builder {
    return this.#then({ kind: "flatMap", fn })
  }

  withWatermark(eventTime: unknown, delay: unknown, options: object = {}): Builder {
    return this.#then({ kind: "watermark", eventTime, delay, options })
  }

  groupByKey(key?: unknown): Builder {
    return this.#then({ kind: "group", key })
  }

  mapGroupsWithState(options: object, run: unknown): Builder {
    return this.#then({ kind: "stage", mode: "map", options, run, name: undefined })
  }

  flatMapGroupsWithState(options: object, run: unknown): Builder {
    return this.#then({ kind: "stage", mode: "flatMap", options, run, name: undefined })
  }

  actor(actor: { readonly run?: unknown }, options?: { readonly name?: string }): Builder {
    return this.#then({ kind: "stage", mode: "flatMap", options: actor, run: actor?.run, name: options?.name })
  }

  to(...sinks: readonly unknown[]): FinishedJob {
    const [first, second] = sinks
    const routed = typeof first === "function"
    const end = routed
      ? { route: first, sinks: (second as { readonly routes?: readonly unknown[] } | undefined)?.routes ?? [] }
      : { route: undefined, sinks }
    return new FinishedJob(planJob(this.#draft, end))
  }

  /** The steps so far: what `through` built on its own source. */
  static stepsOf(flow: unknown): readonly StepDraft[] | undefined {
    return flow instanceof Builder ? flow.#draft.steps : undefined
  }

  #then(step: StepDraft): Builder {
    return new Builder({ ...this.#draft, steps: [...this.#draft.steps, step] })
  }
}

/** `through` is called at once, on an empty flow; what throws in it is a fault that `.to()` names. */
const stepsThrough = (through: ((events: unknown) => unknown) | undefined): readonly StepDraft[] => {
  if (through === undefined) return []
  try {
    const steps = Builder.stepsOf(through(new Builder({ name: "", options: {}, sources: [], steps: [] })))
    return steps ?? [{ kind: "fault", message: "`through` must return the flow that it was given, with operators added" }]
  } catch (thrown) {
    return [{ kind: "fault", message: `\`through\` threw: ${String(thrown)}` }]
  }
}
