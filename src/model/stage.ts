/** What one stage of a job does, as a value: what it reads, whom it calls, what it writes. Planned in planner.ts, run by a partition. */
import type { StateFunction } from "./actor.ts"
import type { Codec } from "./codec.ts"
import type { TimeoutKind } from "./group-state.ts"
import type { KeyText } from "./key.ts"
import type { Operator } from "./operator.ts"
import type { ForeachDefinition, StreamDefinition, TopicDefinition } from "./topic.ts"

export type ErrorPolicy = "dead-letter" | "stop" | "drop"
export type StartAt = "earliest" | "latest" | { readonly time: number }

export type SinkDefinition = TopicDefinition | ForeachDefinition

export interface StagePlan {
  /** Names the stage's journal within the query. */
  readonly name: string
  readonly inputs: readonly InputPlan[]
  /** Without an actor a stage only transforms rows. */
  readonly actor: ActorPlan | undefined
  /** Whether a watermark reaches the stage's rows. */
  readonly hasWatermark: boolean
  /** From the stage's results to its output. */
  readonly operators: readonly Operator[]
  readonly output: OutputPlan
}

export type InputPlan =
  | {
      readonly kind: "source"
      readonly source: TopicDefinition | StreamDefinition
      readonly startAt: StartAt
      readonly operators: readonly Operator[]
    }
  | { readonly kind: "internal"; readonly writtenBy: string }

export interface ActorPlan {
  readonly mode: "map" | "flatMap"
  readonly run: StateFunction<unknown, unknown, unknown, unknown>
  readonly state: Codec<unknown>
  readonly timeout: TimeoutKind
  readonly late: "drop" | "keep"
  readonly outputMode: "append" | "update"
  readonly initialState: readonly InitialState[]
  readonly emits: readonly TopicDefinition[]
}

export interface InitialState {
  readonly keyText: KeyText
  readonly key: unknown
  readonly bytes: Uint8Array
}

export type OutputPlan =
  | { readonly kind: "sinks"; readonly sinks: readonly SinkDefinition[] }
  | { readonly kind: "route"; readonly route: (value: unknown) => unknown; readonly sinks: readonly SinkDefinition[] }
  /** To the internal topic that `stage` reads. No `key`: the rows keep the key that they have. */
  | { readonly kind: "shuffle"; readonly stage: string; readonly key: ((value: unknown) => unknown) | undefined }
