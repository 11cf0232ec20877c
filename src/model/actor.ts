/** An actor is a definition: a state function, the codec of its state and its timeout kind. Its live instance for a key is an activation. */
import type { Codec } from "./codec.ts"
import type { GroupState, TimeoutKind } from "./group-state.ts"
import type { Frozen, Sink, Topic } from "./topic.ts"

/** What a state function may use besides its key, events and state. */
export interface Context {
  /** The partition that the key belongs to. */
  readonly partition: number
  readonly logger: { readonly [level in "debug" | "info" | "warn" | "error"]: (message: string, fields?: object) => void }
  readonly metrics: { counter(name: string): { add(n: number): void }; histogram(name: string): { record(n: number): void } }
  /** Writes to another topic, in the same commit as the state; the topic must be named in the stage's `emits`. */
  emitTo<T>(topic: Topic<T>, value: NoInfer<Frozen<T>>): void
}

export interface MapOptions<K, S> {
  /** The stage's name: names its journal, so renaming it starts from nothing. Default `stage-1`, `stage-2`, ... */
  readonly name?: string
  readonly state: Codec<S>
  /** Default `none`. */
  readonly timeout?: TimeoutKind
  /** What happens to rows at or below the watermark: default `drop` with event-time timeouts, `keep` otherwise (W3). */
  readonly late?: "drop" | "keep"
  /** Prior states: each key gets a call in the first turn, also without rows (G20). */
  readonly initialState?: Iterable<readonly [key: K, state: S]>
  /** Every topic that `context.emitTo` may write to: recovery must know them. */
  readonly emits?: readonly Sink<never>[]
}

export interface FlatMapOptions<K, S> extends MapOptions<K, S> {
  /** Default `append`. */
  readonly outputMode?: "append" | "update"
}

/** A state function is synchronous: a promise as its output does not compile. */
export type Synchronous<Out> = Out extends PromiseLike<unknown> ? "a state function is synchronous" : unknown

/** Called once per key and turn, with all of the key's pending events in log order (G1). */
export type StateFunction<K, In, S, Out> = (key: K, events: readonly In[], state: GroupState<S>, context: Context) => Out

export interface Actor<K, In, S, Out> extends FlatMapOptions<K, S> {
  readonly name: string
  readonly run: StateFunction<K, In, S, Iterable<Out>>
}

/** Names a state function and what belongs to it, to be used in many jobs with `.actor()`. */
export function defineActor<K, In, S, const Out>(actor: Actor<K, In, S, Out>): Actor<K, In, S, Out> {
  return actor
}
