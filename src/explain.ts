/** Prints a job: its stages, what they read and write, how they keep time. */
import { KeyfoldError } from "./errors.ts"
import { type Job, planOf } from "./job.ts"
import { isoTime } from "./model/event-clock.ts"
import type { Operator } from "./model/operator.ts"
import type { InputPlan, OutputPlan, SinkDefinition, StagePlan } from "./model/stage.ts"
import { partitionsDefault } from "./model/topic.ts"
import { deadLetterTopicName, internalTopicName, type Plan } from "./plan.ts"

/** A job as text: one block a stage, in the order that events pass through. Throws `illegal-argument` for something that is no job. */
export function explain(job: Job): string {
  const plan = planOf(job)
  if (plan === undefined) throw new KeyfoldError("illegal-argument", "explain takes a job that .to() has ended")
  const policy = plan.onError === "dead-letter" ? `dead-letter, to ${deadLetterTopicName(plan.name)}` : plan.onError
  const retries = plan.retries === 0 ? "" : `, after ${plan.retries} ${plan.retries === 1 ? "retry" : "retries"}`
  return [
    `job ${plan.name}`,
    `  on error: ${policy}${retries}`,
    ...plan.stages.flatMap((stage) => ["", ...stageLines(plan, stage)]),
    ""
  ].join("\n")
}

const stageLines = (plan: Plan, stage: StagePlan): string[] => [
  `stage ${stage.name}${stage.actor === undefined ? " (no state)" : ""}`,
  ...stage.inputs.flatMap((input) => inputLines(plan, stage, input)),
  ...actorLines(stage),
  ...operatorLines(stage.operators, "then"),
  ...outputLines(plan, stage.output)
]

const inputLines = (plan: Plan, stage: StagePlan, input: InputPlan): string[] => {
  if (input.kind === "internal") return [`  reads     ${internalTopicName(plan.name, stage.name)} (internal, from ${input.writtenBy})`]
  const { source, startAt, operators } = input
  const size =
    source.kind === "stream" ? "NATS stream" : `${source.partitions ?? partitionsDefault} partitions, ${source.codec.contentType}`
  const from = typeof startAt === "object" ? isoTime(startAt.time) : startAt
  return [`  reads     ${source.name} (${size}) from ${from}`, ...operatorLines(operators, "through")]
}

const operatorLines = (operators: readonly Operator[], label: string): string[] =>
  operators.map((operator) => `  ${label.padEnd(9)} ${operator.kind === "watermark" ? watermarkText(operator) : operator.kind}`)

const watermarkText = ({ declaration }: Extract<Operator, { kind: "watermark" }>): string => {
  const { delayMs, idleAfterMs, advanceWhenIdle, late } = declaration
  const details = [
    `idle after ${idleAfterMs} ms`,
    ...(advanceWhenIdle ? ["advances when idle"] : []),
    ...(late === undefined ? [] : [`late to ${late.name}`])
  ]
  return `watermark = newest event time - ${delayMs} ms (${details.join(", ")})`
}

const actorLines = ({ actor }: StagePlan): string[] => {
  if (actor === undefined) return []
  const { mode, timeout, late, outputMode, state, initialState, emits } = actor
  return [
    `  calls     ${mode}GroupsWithState, output mode ${outputMode}`,
    `  state     ${state.fingerprint} (${state.contentType})${initialState.length === 0 ? "" : `, ${initialState.length} initial`}`,
    `  timeout   ${timeout}, late rows: ${late}`,
    ...(emits.length === 0 ? [] : [`  emits     ${emits.map(({ name }) => name).join(", ")}`])
  ]
}

const outputLines = (plan: Plan, output: OutputPlan): string[] => {
  if (output.kind === "shuffle") {
    return [
      `  writes    ${internalTopicName(plan.name, output.stage)} (internal), ${output.key === undefined ? "keeping the key" : "by a new key"}`
    ]
  }
  if (output.sinks.length === 0) return ["  writes    nothing but side outputs"]
  return output.sinks.map((sink) => `  ${output.kind === "route" ? "may write" : "writes   "} ${sinkText(sink)}`)
}

const sinkText = (sink: SinkDefinition): string =>
  sink.kind === "foreach" ? `${sink.name} (your own, at least once)` : `${sink.name} (${sink.codec.contentType}, exactly once)`
