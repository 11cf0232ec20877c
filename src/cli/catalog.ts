/** What a module offers: the jobs that it exports, and every topic that it exports or that its jobs mention. Pure. */
import { type Job, type Topic, topic } from "../index.ts"
import { planOf } from "../job.ts"
import { type Definition, definitionOf, type TopicDefinition } from "../model/topic.ts"
import { deadLetterTopicName, type Plan } from "../plan.ts"
import { misuse } from "./refusal.ts"
import { didYouMean, listed } from "./suggestion.ts"

export interface NamedJob {
  readonly name: string
  readonly job: Job
  readonly plan: Plan
}

export interface Catalog {
  /** As the user named it. */
  readonly path: string
  readonly jobs: readonly NamedJob[]
  readonly topics: ReadonlyMap<string, Definition>
  /** Why exports that look like jobs or topics are none. */
  readonly strays: readonly string[]
}

export type Exports = Readonly<Record<string, unknown>>

export const catalogOf = (path: string, exports: Exports): Catalog => {
  const jobs = jobsIn(exports)
  const topics = new Map<string, Definition>()
  const declared = [
    ...Object.values(exports).flatMap((value) => definitionOf(value) ?? []),
    ...jobs.flatMap(({ plan }) => definitionsIn(plan))
  ]
  for (const definition of declared) if (!topics.has(definition.name)) topics.set(definition.name, definition)
  const strays = Object.entries(exports).flatMap(([name, value]) => strayReason(name, value) ?? [])
  return { path, jobs, topics, strays }
}

/** The jobs to run: all, or the named ones. Throws a Refusal. */
export const chosenJobs = (catalog: Catalog, names: readonly string[]): readonly NamedJob[] => {
  const { path, jobs, strays } = catalog
  if (jobs.length === 0) {
    throw misuse(`${path} exports no job`, strays[0] ?? "Export one: export default job(...).from(...) ... .to(...)")
  }
  const known = jobs.map((job) => job.name)
  const twice = known.find((name, index) => known.indexOf(name) !== index)
  if (twice !== undefined) throw misuse(`${path} exports two jobs called ${twice}: their journals would mix`, "Rename one of them.")
  const unknown = names.find((name) => !known.includes(name))
  if (unknown !== undefined) throw misuse(`${path} has no job ${JSON.stringify(unknown)}`, didYouMean(unknown, known, "Its jobs are"))
  return names.length === 0 ? jobs : jobs.filter((job) => names.includes(job.name))
}

/** The topic to publish to. Throws a Refusal. */
export const topicToPublish = (catalog: Catalog, name: string): Topic<unknown> => {
  const definition = catalog.topics.get(name)
  if (definition !== undefined) return topicOf(definition)
  if (deadLetterNames(catalog).includes(name)) throw misuse(`${name} holds dead letters: keyfold alone writes them`)
  throw unknownTopic(catalog, name, topicNames(catalog))
}

/** What tail prints: a topic of the module's, or the dead letters of one of its jobs. Throws a Refusal. */
export const topicToRead = (catalog: Catalog, name: string): TopicDefinition | "dead-letters" => {
  const definition = catalog.topics.get(name)
  if (definition !== undefined) return onlyTopic(definition)
  if (deadLetterNames(catalog).includes(name)) return "dead-letters"
  throw unknownTopic(catalog, name, [...topicNames(catalog), ...deadLetterNames(catalog)])
}

/** The default export first; a job exported twice counts once. */
const jobsIn = (exports: Exports): NamedJob[] => {
  const { default: first, ...others } = exports
  return [...new Set([first, ...Object.values(others)])].flatMap((value) => {
    const plan = planOf(value)
    return plan === undefined ? [] : [{ name: plan.name, job: value as Job, plan }]
  })
}

const definitionsIn = (plan: Plan): Definition[] => [
  ...plan.stages.flatMap((stage) => stage.inputs.flatMap((input) => (input.kind === "source" ? [input.source] : []))),
  ...plan.outputs
]

const onlyTopic = (definition: Definition): TopicDefinition => {
  if (definition.kind === "topic") return definition
  const what =
    definition.kind === "stream"
      ? "a foreign NATS stream, which needs the clustered runtime"
      : "a sink of your own, which keyfold cannot read"
  throw misuse(`${definition.name} is ${what}`)
}

/** A definition as a value that the public functions take. Throws a Refusal for what is no topic. */
export const topicOf = (definition: Definition): Topic<unknown> => {
  const { name, codec, key, partitions } = onlyTopic(definition)
  // The key's type is the user's affair; what has no value equality is refused when it is published.
  return topic(name, { codec, key: key as (value: unknown) => string, ...(partitions === undefined ? {} : { partitions }) })
}

const topicNames = ({ topics }: Catalog): string[] => [...topics.values()].flatMap(({ kind, name }) => (kind === "topic" ? [name] : []))

const deadLetterNames = ({ jobs }: Catalog): string[] => jobs.map((job) => deadLetterTopicName(job.name))

const unknownTopic = ({ path, strays }: Catalog, name: string, known: readonly string[]): Error => {
  const hint = known.length === 0 ? (strays[0] ?? "Export it, or the job that uses it.") : didYouMean(name, known, "Its topics are")
  return misuse(`${path} has no topic ${JSON.stringify(name)}`, hint)
}

/** Why something that looks like keyfold's is not: a job without its end, or another copy of keyfold. */
const strayReason = (name: string, value: unknown): string | undefined => {
  if (typeof value !== "object" || value === null || planOf(value) !== undefined || definitionOf(value) !== undefined) return undefined
  const shape = value as Readonly<Record<string, unknown>>
  if (typeof shape["from"] === "function" && typeof shape["to"] === "function")
    return `The export ${name} is a job without its end: add .to(...).`
  const isJob = isPlan(shape["plan"])
  const isTopic = typeof shape["name"] === "string" && typeof shape["key"] === "function" && typeof shape["codec"] === "object"
  if (!isJob && !isTopic) return undefined
  return `The export ${name} was made by another copy of keyfold: run the command of the keyfold that the module imports (npx keyfold).`
}

const isPlan = (plan: unknown): boolean => Array.isArray((plan as { readonly stages?: unknown } | undefined)?.stages)

export const jobNames = (jobs: readonly NamedJob[]): string => listed(jobs.map((job) => job.name))
