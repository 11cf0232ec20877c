/**
 * What a job means, as a value: stages that read topics, group by key, call a state function and write topics. A stage whose rows must
 * be re-keyed writes them to an internal topic, which the next stage reads; such a hop before the first state function is the stage
 * `intake`. Planning is pure: it collects every fault, and a plan without faults can run on any runtime.
 *
 *   source ─ operators ─▶ [intake ─▶ internal topic ─▶] stage 1 ─ operators ─▶ [internal topic ─▶] stage 2 ... ─▶ sinks
 */
import type { ErrorPolicy, SinkDefinition, StagePlan } from "./model/stage.ts"

// ---- what the builder collects: unchecked

export interface Draft {
  readonly name: unknown
  readonly options: { readonly onError?: unknown; readonly retries?: unknown }
  readonly sources: readonly SourceDraft[]
  readonly steps: readonly StepDraft[]
}

export interface SourceDraft {
  readonly source: unknown
  readonly options: unknown
  readonly startAt: unknown
  readonly steps: readonly StepDraft[]
}

export type StepDraft =
  | { readonly kind: "map" | "filter" | "flatMap"; readonly fn: unknown }
  | { readonly kind: "watermark"; readonly eventTime: unknown; readonly delay: unknown; readonly options: object }
  | { readonly kind: "group"; readonly key: unknown }
  | StageDraft
  | { readonly kind: "fault"; readonly message: string }

export interface StageDraft {
  readonly kind: "stage"
  readonly mode: "map" | "flatMap"
  readonly options: object
  readonly run: unknown
  readonly name: string | undefined
}

/** How the job ends: its sinks, or the routes that `route` picks from. */
export interface EndDraft {
  readonly route: unknown
  readonly sinks: readonly unknown[]
}

/** A grouping, the state function behind it, and the operators from there to the next one or to the end. */
export interface GroupDraft {
  readonly key: unknown
  readonly stage: StageDraft
  readonly after: readonly StepDraft[]
}

// ---- the plan

export interface Plan {
  readonly name: string
  readonly onError: ErrorPolicy
  readonly retries: number
  readonly stages: readonly StagePlan[]
  /** Every topic and sink that the job declares: outputs, side outputs, late rows. Internal topics and dead letters are not among them. */
  readonly outputs: readonly SinkDefinition[]
  readonly lateTopics: ReadonlySet<string>
}

/** The hop before the first state function, where rows are re-keyed. */
export const intakeName = "intake"

/** The internal topic that a stage of a query reads. No job, stage or topic of a user's has a `~`, so no two names meet. */
export const internalTopicName = (query: string, stage: string): string => `${query}~${stage}`

export const deadLetterTopicName = (query: string): string => `${query}-dead`
