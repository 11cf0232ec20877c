/** What a simulated job has put out, and how that differs from what it should have. */
import { keyText } from "../model/key.ts"
import type { TopicDefinition } from "../model/topic.ts"
import { deadLetterTopicName, type Plan } from "../plan.ts"
import { valuesIn } from "../simulation/outputs.ts"
import type { Trial } from "../simulation/trial.ts"

export interface Outputs {
  /** Bytes as texts of one character each, by topic, sorted. */
  readonly results: ReadonlyMap<string, readonly string[]>
  /** Code and message of each, in their order. They also say when and where, which differs. */
  readonly deadLetters: readonly string[]
}

export const outputsOf = (plan: Plan, { cluster }: Trial, compare: "all" | "last"): Outputs => {
  const topics = plan.outputs.filter((sink): sink is TopicDefinition => sink.kind === "topic")
  const results = topics.map((topic) => {
    const values = valuesIn(cluster, topic)
    const compared = compare === "all" ? values : [...new Map(values.map((value) => [keyText(topic.key(value)), value])).values()]
    return [topic.name, compared.map((value) => Buffer.from(topic.codec.encode(value)).toString("latin1")).toSorted()] as const
  })
  const letters = valuesIn(cluster, { name: deadLetterTopicName(plan.name), codec: { decode: letterText } })
  return { results: new Map(results), deadLetters: letters as readonly string[] }
}

const letterText = (bytes: Uint8Array): string => {
  const { code, message } = JSON.parse(Buffer.from(bytes).toString()) as { readonly code: string; readonly message: string }
  return `${code}: ${message}`
}

/** What is missing and what is too much; undefined when nothing is. Dead letters first: they say why results are missing. */
export const differenceOf = (found: Outputs, expected: Outputs): string | undefined => {
  const letters = letterDifferenceOf(found.deadLetters, expected.deadLetters)
  if (letters !== undefined) return letters
  for (const [topic, lines] of expected.results) {
    const others = found.results.get(topic) ?? []
    const [missing, surplus] = [without(lines, others), without(others, lines)]
    if (missing.length > 0 || surplus.length > 0) return `${topic} lacks ${some(missing)}, and has ${some(surplus)} in their place`
  }
  return undefined
}

/** Only how many there are is compared: a message may name what differs by nature. */
const letterDifferenceOf = (found: readonly string[], expected: readonly string[]): string | undefined => {
  if (found.length === expected.length) return undefined
  const isMore = found.length > expected.length
  const odd = [...new Set(isMore ? without(found, expected) : without(expected, found))]
  const shown = odd.slice(0, shownMax).join("; ") + more(odd)
  return `${lettersCounted(found)} instead of ${expected.length}, ${isMore ? "too much" : "missing"}: ${shown}`
}

export const lettersCounted = ({ length }: readonly string[]): string => `${length} dead ${length === 1 ? "letter" : "letters"}`

/** Those of some lines that have no equal among the others, each of which is the equal of one. */
const without = (lines: readonly string[], others: readonly string[]): readonly string[] => {
  const left = new Map<string, number>()
  for (const line of others) left.set(line, (left.get(line) ?? 0) + 1)
  return lines.filter((line) => {
    const count = left.get(line) ?? 0
    left.set(line, count - 1)
    return count <= 0
  })
}

const shownMax = 3

const more = ({ length }: readonly string[]): string => (length > shownMax ? ` and ${length - shownMax} more` : "")

const some = (latin: readonly string[]): string => {
  if (latin.length === 0) return "nothing"
  const lines = latin.slice(0, shownMax).map((line) => Buffer.from(line, "latin1").toString())
  return lines.join(", ") + more(latin)
}
