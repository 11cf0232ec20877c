/** Plans a job: from what the builder collected to a plan, or to one `job-invalid` error that names every fault. Pure. */
import { failWithFaults, shown } from "./errors.ts"
import type { Operator } from "./model/operator.ts"
import type { ErrorPolicy, InputPlan, OutputPlan, SinkDefinition, StagePlan } from "./model/stage.ts"
import { partitionsDefault } from "./model/topic.ts"
import { type Draft, type EndDraft, type GroupDraft, intakeName, type Plan, type StageDraft } from "./plan.ts"
import { checkNames, checkTopics } from "./plan-names.ts"
import { checkFunction, checkOptionNames, FaultList, planActor, planInput, planOperators, planSinks, splitSteps } from "./plan-parts.ts"

/** Checks a draft and plans it. Throws one `job-invalid` error that names every fault. */
export const planJob = (draft: Draft, end: EndDraft): Plan => {
  const faults = new FaultList()
  const { onError, retries } = planOptions(draft, faults)
  const segments = splitSteps(draft.steps, faults)
  const inputs = draft.sources.map((source) => planInput(source, segments.before, faults))
  const sinks = planSinks(end, faults)
  const stages = planStages(inputs, segments.groups, { sinks, route: end.route }, faults)
  const plan: Plan = { name: textOf(draft.name), onError, retries, stages, ...declaredOutputs(stages) }
  checkNames(plan, draft.name, faults)
  checkTopics(plan, faults)
  failWithFaults("job-invalid", `the job ${shown(plan.name)} cannot work`, faults.all)
  return plan
}

const planOptions = (draft: Draft, faults: FaultList): Pick<Plan, "onError" | "retries"> => {
  checkOptionNames(draft.options, ["onError", "retries"], "job", faults)
  const { onError = "dead-letter", retries = 0 } = draft.options ?? {}
  if (onError !== "dead-letter" && onError !== "stop" && onError !== "drop") {
    faults.add(`onError must be "dead-letter", "stop" or "drop", got ${shown(onError)}`)
  }
  if (typeof retries !== "number" || !Number.isInteger(retries) || retries < 0 || retries > 100) {
    faults.add(`retries must be an integer from 0 to 100, got ${shown(retries)}`)
  }
  return { onError: onError as ErrorPolicy, retries: retries as number }
}

const planStages = (
  inputs: readonly Extract<InputPlan, { kind: "source" }>[],
  groups: readonly GroupDraft[],
  end: { readonly sinks: readonly SinkDefinition[]; readonly route: unknown },
  faults: FaultList
): StagePlan[] => {
  const ending: OutputPlan =
    typeof end.route === "function"
      ? { kind: "route", route: end.route as (value: unknown) => unknown, sinks: end.sinks }
      : { kind: "sinks", sinks: end.sinks }
  const names = groups.map((group, index) => stageName(group.stage, index))
  const outputInto = (index: number): OutputPlan =>
    index < groups.length ? { kind: "shuffle", stage: names[index] as string, key: keyFunction(groups[index]?.key, faults) } : ending

  const stages: StagePlan[] = []
  let stageInputs: readonly InputPlan[] = inputs
  let hasWatermark = checkInputWatermarks(inputs, faults)
  if (groups.length === 0 || needsIntake(inputs, groups[0]?.key, faults)) {
    if (groups.length > 0) checkOneLateSink(inputs, faults)
    stages.push({ name: intakeName, inputs, actor: undefined, hasWatermark, operators: [], output: outputInto(0) })
    stageInputs = [{ kind: "internal", writtenBy: intakeName }]
  }
  let declaresEventTime = hasWatermark
  groups.forEach((group, index) => {
    const name = names[index] as string
    const actor = planActor(group.stage, { name, declaresEventTime, hasWatermark }, faults)
    const operators = planOperators(group.after, faults)
    stages.push({ name, inputs: stageInputs, actor, hasWatermark, operators, output: outputInto(index + 1) })
    stageInputs = [{ kind: "internal", writtenBy: name }]
    declaresEventTime = declaresWatermark(operators, `after the stage ${name}`, faults)
    hasWatermark ||= declaresEventTime
  })
  return stages
}

/** Stage name: the `name` option, else the actor's, else stage-1, stage-2 ... */
const stageName = (stage: StageDraft, index: number): string => {
  const named = stage.name ?? (stage.options as { readonly name?: unknown })?.name
  return named === undefined ? `stage-${index + 1}` : textOf(named)
}

/** A name that is no string is shown; checkNames refuses it. */
const textOf = (name: unknown): string => (typeof name === "string" ? name : shown(name))

const keyFunction = (key: unknown, faults: FaultList): ((value: unknown) => unknown) | undefined => {
  if (key !== undefined) checkFunction(key, "groupByKey takes a synchronous function from an event to its key", faults)
  return key as ((value: unknown) => unknown) | undefined
}

/** Whether the rows must travel to be grouped. A function that is the topic's own key function, on its own events, need not (P25). */
const needsIntake = (inputs: readonly Extract<InputPlan, { kind: "source" }>[], key: unknown, faults: FaultList): boolean => {
  if (key !== undefined) {
    const isOwn = inputs.every(({ source, operators }) => source.kind === "topic" && source.key === key && operators.every(keepsEvents))
    return !isOwn || partitionCounts(inputs).size > 1
  }
  for (const { source } of inputs) {
    if (source.kind === "stream") faults.add(`the stream ${source.name} has no key: group it with groupByKey(fn)`)
  }
  if (partitionCounts(inputs).size > 1) {
    const listed = inputs.map(
      ({ source }) => `${source.name} has ${source.kind === "topic" ? (source.partitions ?? partitionsDefault) : "none"}`
    )
    faults.add(
      `groupByKey() would bring the same key to different partitions, because the topics' partition counts differ (${listed.join(", ")}): ` +
        "give them the same count, or re-key with groupByKey(fn)"
    )
  }
  return false
}

const partitionCounts = (inputs: readonly Extract<InputPlan, { kind: "source" }>[]): ReadonlySet<number | undefined> =>
  new Set(inputs.map(({ source }) => (source.kind === "topic" ? (source.partitions ?? partitionsDefault) : undefined)))

const keepsEvents = (operator: Operator): boolean => operator.kind === "filter" || operator.kind === "watermark"

/** Whether the inputs declare event time: all of them, or none (W5). */
const checkInputWatermarks = (inputs: readonly Extract<InputPlan, { kind: "source" }>[], faults: FaultList): boolean => {
  const declared = inputs.map((input) => declaresWatermark(input.operators, `on ${input.source.name}`, faults))
  const without = inputs.filter((_, index) => !declared[index]).map((input) => input.source.name)
  if (without.length > 0 && without.length < inputs.length) {
    faults.add(
      `${without.join(", ")} has no watermark while the other sources have one: declare withWatermark on all of them, or after the union`
    )
  }
  return declared.includes(true)
}

/** Behind a hop a row no longer says which source it came from, so it could not find its own late sink. */
const checkOneLateSink = (inputs: readonly Extract<InputPlan, { kind: "source" }>[], faults: FaultList): void => {
  const sinks = new Set(
    inputs.flatMap((input) => input.operators.flatMap((operator) => (operator.kind === "watermark" ? [operator.declaration.late] : [])))
  )
  if (sinks.size > 1) faults.add("sources that are re-keyed together need one late sink for all: declare withWatermark after the union")
}

const declaresWatermark = (operators: readonly Operator[], where: string, faults: FaultList): boolean => {
  const count = operators.filter((operator) => operator.kind === "watermark").length
  if (count > 1) faults.add(`a second withWatermark ${where}: an input has one event time (W2)`)
  return count > 0
}

const declaredOutputs = (stages: readonly StagePlan[]): Pick<Plan, "outputs" | "lateTopics"> => {
  const late = stages.flatMap((stage) => [...stage.inputs.flatMap(lateSinks), ...stage.operators.flatMap(lateOf)])
  const emitted = stages.flatMap((stage) => stage.actor?.emits ?? [])
  const ends = stages.flatMap((stage) => (stage.output.kind === "shuffle" ? [] : stage.output.sinks))
  return {
    outputs: [...new Set<SinkDefinition>([...ends, ...emitted, ...late])],
    lateTopics: new Set(late.map((sink) => sink.name))
  }
}

const lateSinks = (input: InputPlan): SinkDefinition[] => (input.kind === "source" ? input.operators.flatMap(lateOf) : [])

const lateOf = (operator: Operator): SinkDefinition[] =>
  operator.kind === "watermark" && operator.declaration.late !== undefined ? [operator.declaration.late] : []
