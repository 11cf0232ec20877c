/**
 * A job under everything that can go wrong: the clustered runtime's own code on simulated servers, network and clocks, by seed. What comes
 * out with faults must be what comes out without.
 */
import { KeyfoldError, shown } from "../errors.ts"
import { type Job, planOf } from "../job.ts"
import { keyText } from "../model/key.ts"
import { definitionOf, type Source, type StreamDefinition, type TopicDefinition } from "../model/topic.ts"
import { deadLetterTopicName, type Plan } from "../plan.ts"
import { Dice } from "../simulation/dice.ts"
import { type Fault, type FaultKind, faultKinds, faultsOf, faultText, type LossyKind } from "../simulation/faults.ts"
import { replaceGlobals } from "../simulation/globals.ts"
import { eventOf, valuesIn } from "../simulation/outputs.ts"
import { fewestFaults } from "../simulation/shrink.ts"
import { runTrial, type Trial, type TrialEvent } from "../simulation/trial.ts"

/** What the runtime promises to survive. docs/simulation.md explains each. */
export type SimulatedFault = Exclude<FaultKind, LossyKind>

export interface SimulateOptions<In> {
  /** What the job reads, in the order in which it was published. */
  readonly events: Iterable<In>
  /** Which source an event comes from; default: the job's first. */
  readonly from?: (event: In) => Source<In, unknown>
  /** The first seed, a whole number; default 1. A failure names the seed that shows it. */
  readonly seed?: number
  /** How many seeds, each a history of its own; default 20. */
  readonly seeds?: number
  /** What may go wrong; default: everything that the runtime promises to survive. */
  readonly faults?: readonly SimulatedFault[]
  /**
   * What must be the same: `all` results (default), or of each key of an output topic the `last`, for jobs that put out a result per call
   * (`outputMode: "update"`), whose number depends on how events are cut into turns.
   */
  readonly compare?: "all" | "last"
}

export interface SimulateReport {
  readonly seeds: number
  /** Things that happened in the simulation: messages, timers, tasks. */
  readonly steps: number
  /** How often something of each kind went wrong. */
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>
}

/**
 * Runs a job on simulated workers and servers, once per seed, with workers that die, stand still, join and leave, connections that are cut
 * or go deaf, servers that restart, and clocks that are wrong; and compares what it puts out with a run in which nothing goes wrong. While
 * it runs, `Date` and `Math.random` are the simulation's.
 *
 * Resolves with what was tried. Rejects with `function-failed` when the results differ, naming the seed, the results and the fewest faults
 * that it takes; with `illegal-argument` or `option-invalid` for what cannot be simulated.
 */
export function simulate<In, Out, K, S>(job: Job<In, Out, K, S>, options: SimulateOptions<In>): Promise<SimulateReport> {
  const simulated = turn.then(() => simulateAll(job as Job, options as SimulateOptions<unknown>))
  turn = simulated.catch(() => undefined)
  return simulated
}

/** `Date` belongs to the process: one simulation waits for the other. */
let turn: Promise<unknown> = Promise.resolve()

const simulateAll = async (job: Job, options: SimulateOptions<unknown>): Promise<SimulateReport> => {
  const bench = benchOf(job, options)
  const { seed: first = 1, seeds = 20 } = options
  const calm = await bench.calm(first)
  const counts: Partial<Record<FaultKind, number>> = {}
  let steps = 0
  for (let seed = first; seed < first + seeds; seed++) {
    const faults = faultsOf(seed, { untilMs: bench.untilMs, leaseMs, kinds: options.faults ?? faultKinds })
    const { trial, outputs } = await bench.run(seed, faults)
    steps += trial.cluster.world.steps
    for (const [kind, count] of Object.entries(trial.met)) counts[kind as FaultKind] = (counts[kind as FaultKind] ?? 0) + count
    const wrong = trial.failure ?? differenceOf(outputs, calm)
    if (wrong === undefined) continue
    const fewest = await fewestFaults(faults, async (some) => {
      const again = await bench.run(seed, some)
      return (again.trial.failure ?? differenceOf(again.outputs, calm)) !== undefined
    })
    throw isOurs(trial) ? ours(seed, wrong) : failed(seed, wrong, fewest)
  }
  return { seeds, steps, faults: counts }
}

const leaseMs = 2_000
const partitionsDefault = 4
const eventMsEvery = 20
const workersMax = 3

/** Bytes as texts of one character each, by topic, sorted. */
type Outputs = ReadonlyMap<string, readonly string[]>

interface Bench {
  /** Until when faults begin. */
  readonly untilMs: number
  /** What comes out when nothing goes wrong, however events are cut into turns, and at whatever time. */
  readonly calm: (seed: number) => Promise<Outputs>
  readonly run: (seed: number, faults: readonly Fault[]) => Promise<{ readonly trial: Trial; readonly outputs: Outputs }>
}

const benchOf = (job: Job, options: SimulateOptions<unknown>): Bench => {
  const plan = planOf(job)
  if (plan === undefined) throw new KeyfoldError("illegal-argument", "simulate takes a job that .to() has ended")
  checkOptions(plan, options)
  const events = eventsOf(plan, options)
  const untilMs = events.length * eventMsEvery + 2_000
  const run: Bench["run"] = async (seed, faults) => {
    const dice = new Dice(seed, 5_000_011)
    let nowMs = (): number => 0
    const restore = replaceGlobals(() => nowMs(), dice)
    try {
      const trial = await runTrial({
        ...{ seed, job, events, faults, leaseMs, isLasting: true, partitionsDefault },
        workers: dice.whole(1, workersMax),
        limits: { turnEventsMax: dice.pick([1, 7, 4_096]), residentKeysMax: dice.pick([1, 100_000]), checkpointEveryMs: 500 },
        begun: (world) => {
          nowMs = () => world.nowMs
        }
      })
      return { trial, outputs: outputsOf(plan, trial, options.compare ?? "all") }
    } finally {
      restore()
    }
  }
  const calm: Bench["calm"] = async (seed) => {
    const [one, other] = [await run(seed, []), await run(seed + 1, [])]
    const broken = one.trial.failure ?? other.trial.failure
    if (broken !== undefined) throw brokenJob(seed, broken)
    const wrong = differenceOf(other.outputs, one.outputs)
    if (wrong !== undefined) throw undecided(seed, wrong)
    if ([...one.outputs.values()].every((lines) => lines.length === 0)) throw silentJob()
    return one.outputs
  }
  return { untilMs, calm, run }
}

const checkOptions = (plan: Plan, { seed = 1, seeds = 20, faults = [], compare = "all" }: SimulateOptions<unknown>): void => {
  const invalid = (message: string): never => {
    throw new KeyfoldError("option-invalid", message)
  }
  if (!Number.isSafeInteger(seed) || !Number.isSafeInteger(seed + seeds)) invalid(`seed must be a whole number, got ${shown(seed)}`)
  if (!(Number.isSafeInteger(seeds) && seeds > 0)) invalid(`seeds must be a whole number from 1 on, got ${shown(seeds)}`)
  if (compare !== "all" && compare !== "last") invalid(`compare must be "all" or "last", got ${shown(compare)}`)
  for (const kind of faults) {
    if (!faultKinds.includes(kind)) invalid(`there is no fault called ${shown(kind)}: the faults are ${faultKinds.join(", ")}`)
  }
  const own = plan.outputs.find(({ kind }) => kind === "foreach")
  if (own !== undefined) {
    throw new KeyfoldError(
      "unsupported-operation",
      `the sink ${own.name} is a function of yours, whose calls cannot be compared: simulate the job with a topic in its place`
    )
  }
}

const eventsOf = (plan: Plan, { events, from }: SimulateOptions<unknown>): readonly TrialEvent[] => {
  const sources = plan.stages.flatMap(({ inputs }) => inputs.flatMap((input) => (input.kind === "source" ? [input.source] : [])))
  const all = [...events]
  if (all.length === 0) throw new KeyfoldError("option-invalid", "events has nothing in it: give the job something to read")
  return all.map((value, index) => {
    const named = from?.(value)
    const source = from === undefined ? sources[0] : sources.find((candidate) => candidate === definitionOf(named))
    if (source === undefined) throw new KeyfoldError("illegal-argument", `the job does not read ${named?.name ?? "anything"}`)
    return { atMs: index * eventMsEvery, ...recordOf(source, value) }
  })
}

const recordOf = (source: TopicDefinition | StreamDefinition, value: unknown): Omit<TrialEvent, "atMs"> => {
  if (source.kind === "topic") return eventOf(source, source.partitions ?? partitionsDefault, value)
  throw new KeyfoldError("unsupported-operation", `${source.name} is a stream of somebody else: simulate the job with a topic in its place`)
}

/** Dead letters say when and where, so only how many there are is compared. */
const outputsOf = (plan: Plan, { cluster }: Trial, compare: "all" | "last"): Outputs => {
  const topics = plan.outputs.filter((sink): sink is TopicDefinition => sink.kind === "topic")
  const outputs = topics.map((topic) => {
    const values = valuesIn(cluster, topic)
    const compared = compare === "all" ? values : [...new Map(values.map((value) => [keyText(topic.key(value)), value])).values()]
    return [topic.name, compared.map((value) => Buffer.from(topic.codec.encode(value)).toString("latin1")).toSorted()] as const
  })
  const dead = deadLetterTopicName(plan.name)
  const letters = valuesIn(cluster, { name: dead, codec: { decode: () => "a dead letter" } })
  return new Map([...outputs, [dead, letters.map(String)]])
}

const shownMax = 3

/** What is missing and what is too much, topic by topic; undefined when nothing is. */
const differenceOf = (found: Outputs, expected: Outputs): string | undefined => {
  for (const [topic, lines] of expected) {
    const left = new Map<string, number>()
    for (const line of found.get(topic) ?? []) left.set(line, (left.get(line) ?? 0) + 1)
    const missing = lines.filter((line) => {
      const count = left.get(line) ?? 0
      left.set(line, count - 1)
      return count <= 0
    })
    const surplus = [...left].flatMap(([line, count]) => (count > 0 ? [line] : []))
    if (missing.length === 0 && surplus.length === 0) continue
    return `${topic} lacks ${some(missing)}, and has ${some(surplus)} in their place`
  }
  return undefined
}

/** A hang, or what must never be whatever the job does. */
const isOurs = ({ foul, failure, refusal }: Trial): boolean =>
  foul !== undefined || (failure !== undefined && refusal?.code !== "function-failed")

const some = (latin: readonly string[]): string => {
  const lines = latin.map((line) => Buffer.from(line, "latin1").toString())
  if (lines.length === 0) return "nothing"
  const more = lines.length > shownMax ? ` and ${lines.length - shownMax} more` : ""
  return lines.slice(0, shownMax).join(", ") + more
}

const undecided = (seed: number, wrong: string): KeyfoldError =>
  new KeyfoldError(
    "function-failed",
    `the job's results differ between two runs in which nothing goes wrong (seeds ${seed} and ${seed + 1}): ${wrong}. A function of it depends ` +
      'on the clock, on chance, on variables outside its state, or on how events are cut into turns (compare: "last" allows for that)'
  )

const brokenJob = (seed: number, wrong: string): KeyfoldError =>
  new KeyfoldError("function-failed", `the job fails though nothing goes wrong (seed ${seed}): ${wrong}`)

const silentJob = (): KeyfoldError =>
  new KeyfoldError("option-invalid", "the job puts out nothing for these events, so there is nothing to compare: give it more of them")

const ours = (seed: number, wrong: string): KeyfoldError =>
  new KeyfoldError(
    "function-failed",
    `seed ${seed}: ${wrong}. That is a fault of keyfold's, not of the job's: please report it with the seed and the job`
  )

const failed = (seed: number, wrong: string, faults: readonly Fault[]): KeyfoldError =>
  new KeyfoldError(
    "function-failed",
    `seed ${seed}: the job's results are not those of a run in which nothing goes wrong: ${wrong}. It takes\n` +
      `${faults.map((fault) => `  ${faultText(fault)}`).join("\n") || "  no fault, only another order of things"}\n` +
      "A function that remembers something outside its state, or depends on the clock or on chance, gives another result when it is called again"
  )
