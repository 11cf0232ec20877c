/** Names: every stage and topic of a job must be usable in a journal and a subject, and mean one thing. */
import { failWithFaults, KeyfoldError, shown } from "./errors.ts"
import type { SinkDefinition } from "./model/stage.ts"
import { definitionOf, partitionsMax, type StreamDefinition, type TopicDefinition } from "./model/topic.ts"
import { deadLetterTopicName, intakeName, type Plan } from "./plan.ts"
import type { FaultList } from "./plan-parts.ts"

const nameShape = /^[A-Za-z0-9_][A-Za-z0-9_-]*$/

/** Jobs and stages; a topic's name may be a job's and a stage's together. */
const nameLengthMax = 60
const topicNameLengthMax = 150

/** Whether a text may name a job or stage; a dot, space, `*` or `>` would mean something else in a NATS subject. */
export const isUsableName = (name: unknown): name is string => isTopicName(name) && name.length <= nameLengthMax

const isTopicName = (name: unknown): name is string => typeof name === "string" && name.length <= topicNameLengthMax && nameShape.test(name)

export const nameRule = `1 to ${nameLengthMax} letters, digits, - and _, not beginning with -`
const topicNameRule = `1 to ${topicNameLengthMax} letters, digits, - and _, not beginning with -`

export const checkNames = (plan: Plan, name: unknown, faults: FaultList): void => {
  if (!isUsableName(name)) faults.add(`the job's name must be ${nameRule}, got ${shown(name)}`)
  const seen = new Set<string>()
  plan.stages.forEach((stage, index) => {
    if (!isUsableName(stage.name)) faults.add(`the name of a stage must be ${nameRule}, got ${shown(stage.name)}`)
    if (stage.name === intakeName && (index > 0 || stage.actor !== undefined)) {
      faults.add(`the stage name "${intakeName}" is keyfold's own: choose another`)
    } else if (seen.has(stage.name)) faults.add(`two stages are called ${shown(stage.name)}: a stage's name names its journal`)
    seen.add(stage.name)
  })
}

/** Faults of a topic by itself; empty when it can be created. */
export const topicFaults = (topic: TopicDefinition): string[] => {
  const faults: string[] = []
  if (!isTopicName(topic.name)) faults.push(`the name of a topic must be ${topicNameRule}, got ${shown(topic.name)}`)
  const { partitions } = topic
  if (partitions !== undefined && !(Number.isInteger(partitions) && partitions >= 1 && partitions <= partitionsMax)) {
    faults.push(`partitions of the topic ${topic.name} must be an integer from 1 to ${partitionsMax}, got ${shown(partitions)}`)
  }
  if (typeof topic.codec?.encode !== "function" || typeof topic.codec.decode !== "function") {
    faults.push(`the topic ${topic.name} needs a codec, such as json()`)
  }
  if (typeof topic.key !== "function") faults.push(`the topic ${topic.name} needs \`key\`, a function from a value to its key`)
  return faults
}

export const checkTopics = (plan: Plan, faults: FaultList): void => {
  const sources = plan.stages.flatMap((stage) => stage.inputs.flatMap((input) => (input.kind === "source" ? [input.source] : [])))
  const declared = new Map<string, TopicDefinition | StreamDefinition | SinkDefinition>()
  for (const definition of [...sources, ...plan.outputs]) {
    if (definition.kind === "topic") for (const message of topicFaults(definition)) faults.add(message)
    const earlier = declared.get(definition.name)
    if (earlier !== undefined && earlier !== definition) {
      faults.add(`two different topics or sinks are called ${shown(definition.name)}: declare it once and use that`)
    }
    if (definition.name === deadLetterTopicName(plan.name)) faults.add(deadLetterNameTaken(plan.name))
    declared.set(definition.name, definition)
  }
  const twice = sources.filter((source, index) => sources.indexOf(source) !== index)
  for (const source of twice) faults.add(`the source ${source.name} is named twice: each event would count twice`)
}

export const deadLetterNameTaken = (query: string): string =>
  `the name ${deadLetterTopicName(query)} is that of the dead letters of ${query}: choose another`

/** The definition of a topic that is used outside a job. Throws `option-invalid` with every fault. */
export const topicDefinition = (topic: unknown): TopicDefinition => {
  const defined = definitionOf(topic)
  if (defined?.kind !== "topic") throw new KeyfoldError("option-invalid", "this takes a topic that topic() made")
  failWithFaults(
    "option-invalid",
    "the topic cannot be used",
    topicFaults(defined).map((message) => ({ code: "option-invalid", message }))
  )
  return defined
}
