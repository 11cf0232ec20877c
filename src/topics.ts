/** The topics of a query as they really are: finds or creates every one of them, and knows their sizes. */
import * as Effect from "effect/Effect"
import { type Fault, failWithFaults, KeyfoldError } from "./errors.ts"
import type { InputPlan, StagePlan } from "./model/stage.ts"
import { partitionsDefault } from "./model/topic.ts"
import { deadLetterTopicName, internalTopicName, type Plan } from "./plan.ts"
import type { Ports } from "./ports.ts"
import type { TopicDescription } from "./source/source.ts"

export class QueryTopics {
  readonly #query: string
  readonly #known: ReadonlyMap<string, TopicDescription>

  constructor(query: string, known: ReadonlyMap<string, TopicDescription>) {
    this.#query = query
    this.#known = known
  }

  describe(name: string): TopicDescription {
    const description = this.#known.get(name)
    if (description === undefined) throw new KeyfoldError("illegal-argument", `the topic ${name} is none of the job's`)
    return description
  }

  /** The topic that an input of a stage reads. */
  nameOf(stage: StagePlan, input: InputPlan): string {
    return input.kind === "source" ? input.source.name : internalTopicName(this.#query, stage.name)
  }

  /** A stage has as many partitions as the largest of its inputs. */
  partitionsOf(stage: StagePlan): number {
    return Math.max(...stage.inputs.map((input) => this.describe(this.nameOf(stage, input)).partitions))
  }
}

/** Opens sources and outputs as declared, then each internal topic with the size of the stage before it, then the dead letters. */
export const openTopics = Effect.fnUntraced(function* (plan: Plan, query: string, ports: Ports) {
  const known = new Map<string, TopicDescription>()
  const open = Effect.fnUntraced(function* (name: string, partitions: number | undefined, byDefault: number) {
    known.set(name, yield* ports.source.open(name, { partitions, partitionsDefault: byDefault }))
  })
  for (const { source } of plan.stages.flatMap(({ inputs }) => inputs.filter((input) => input.kind === "source"))) {
    if (source.kind === "topic") yield* open(source.name, source.partitions, partitionsDefault)
    else if (ports.foreignStreams) known.set(source.name, yield* ports.source.openStream(source.name, source.subjects))
    else {
      const message = `the source ${source.name} is a NATS stream, which this runtime cannot read: use clustered({ nats, redis })`
      return yield* Effect.fail(new KeyfoldError("unsupported-operation", message))
    }
  }
  for (const sink of plan.outputs) {
    if (sink.kind === "topic") yield* open(sink.name, sink.partitions, plan.lateTopics.has(sink.name) ? 1 : partitionsDefault)
  }
  const topics = new QueryTopics(query, known)
  for (const stage of plan.stages) {
    if (stage.output.kind === "shuffle") yield* open(internalTopicName(query, stage.output.stage), undefined, topics.partitionsOf(stage))
  }
  yield* open(deadLetterTopicName(query), undefined, 1)
  yield* Effect.try({ try: () => checkSizes(plan, topics), catch: (thrown) => thrown as KeyfoldError })
  return topics
})

/** P25 again, now that the sizes are known: topics that declare no count take the one that they were created with. */
const checkSizes = (plan: Plan, topics: QueryTopics): void => {
  const faults: Fault[] = plan.stages
    .filter((stage) => stage.actor !== undefined && stage.inputs.length > 1)
    .flatMap((stage) => {
      const sizes = stage.inputs.map((input) => topics.describe(topics.nameOf(stage, input)))
      if (new Set(sizes.map(({ partitions }) => partitions)).size === 1) return []
      const listed = sizes.map(({ name, partitions }) => `${name} has ${partitions}`).join(", ")
      return [
        {
          code: "topic-mismatch",
          message: `groupByKey() needs sources with the same partition count, but ${listed}: re-key with groupByKey(fn)`
        }
      ]
    })
  failWithFaults("topic-mismatch", `the job ${plan.name} cannot run here`, faults)
}
