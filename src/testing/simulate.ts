/**
 * A job under everything that can go wrong: the clustered runtime's own code on simulated servers, network and clocks, by seed. What comes
 * out with faults must be what comes out without.
 */
import { KeyfoldError } from "../errors.ts"
import type { Job } from "../job.ts"
import type { Plan } from "../plan.ts"
import { Dice } from "../simulation/dice.ts"
import { type Fault, type FaultKind, faultsOf, faultText } from "../simulation/faults.ts"
import { replaceGlobals } from "../simulation/globals.ts"
import { fewestFaults } from "../simulation/shrink.ts"
import { runTrial, type Trial } from "../simulation/trial.ts"
import {
  eventMsEvery,
  partitionsDefault,
  type SimulateOptions,
  type SimulateSettings,
  settingsOf,
  timedStages
} from "./simulate-options.ts"
import { differenceOf, lettersCounted, type Outputs, outputsOf } from "./simulate-outputs.ts"

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
 * Resolves with what was tried. Rejects with `function-failed` when the job fails by itself, or when the results differ, naming the seed, the
 * results and the fewest faults that it takes; with `illegal-argument`, `option-invalid` or `unsupported-operation` for what cannot be
 * simulated; with `encode-failed` or `key-invalid`, as a publisher does, for what cannot be an event of its topic.
 */
export function simulate<In, Out, K, S>(job: Job<In, Out, K, S>, options: SimulateOptions<In>): Promise<SimulateReport> {
  const simulated = turn.then(() => simulateAll(job as Job, settingsOf(job, options)))
  turn = simulated.catch(() => undefined)
  return simulated
}

/** `Date` belongs to the process: one simulation waits for the other. */
let turn: Promise<unknown> = Promise.resolve()

const simulateAll = async (job: Job, settings: SimulateSettings): Promise<SimulateReport> => {
  const { seed: first, seeds, kinds } = settings
  const bench = benchOf(job, settings)
  const calm = await calmOutputs(bench, settings)
  const counts: Partial<Record<FaultKind, number>> = {}
  let steps = 0
  for (let seed = first; seed < first + seeds; seed++) {
    const faults = faultsOf(seed, { untilMs: bench.untilMs, leaseMs, kinds })
    const ran = await bench.run(seed, faults)
    steps += ran.trial.cluster.world.steps
    for (const [kind, count] of Object.entries(ran.trial.met)) counts[kind as FaultKind] = (counts[kind as FaultKind] ?? 0) + count
    const wrong = wrongOf(ran, calm)
    if (wrong === undefined) continue
    if (isOurs(ran.trial)) throw ours(seed, wrong)
    throw failed(seed, wrong, await faultsItTakes(faults, async (some) => wrongOf(await bench.run(seed, some), calm) !== undefined))
  }
  return { seeds, steps, faults: counts }
}

const leaseMs = 2_000
const workersMax = 3

interface Ran {
  readonly trial: Trial
  readonly outputs: Outputs
}

interface Bench {
  /** Until when faults begin. */
  readonly untilMs: number
  readonly run: (seed: number, faults: readonly Fault[]) => Promise<Ran>
}

const benchOf = (job: Job, { plan, events, compare, restMs }: SimulateSettings): Bench => {
  const rest = restMs === undefined ? { ringingStages: timedStages(plan) } : { restMs }
  const untilMs = events.length * eventMsEvery + 2_000
  const run: Bench["run"] = async (seed, faults) => {
    const dice = new Dice(seed, 5_000_011)
    let nowMs = (): number => 0
    const restore = replaceGlobals(() => nowMs(), dice)
    try {
      const trial = await runTrial({
        ...{ seed, job, events, faults, leaseMs, isLasting: true, partitionsDefault, ...rest },
        workers: dice.whole(1, workersMax),
        limits: { turnEventsMax: dice.pick([1, 7, 4_096]), residentKeysMax: dice.pick([1, 100_000]), checkpointEveryMs: 500 },
        begun: (world) => {
          nowMs = () => world.nowMs
        }
      })
      return { trial, outputs: outputsOf(plan, trial, compare) }
    } finally {
      restore()
    }
  }
  return { untilMs, run }
}

/** What comes out when nothing goes wrong, however events are cut into turns, and at whatever time. */
const calmOutputs = async ({ run }: Bench, { plan, seed, deadLetters }: SimulateSettings): Promise<Outputs> => {
  const runs = [await run(seed, []), await run(seed + 1, [])] as const
  runs.forEach(({ trial, outputs }, index) => {
    const wrong = failureOf(trial)
    if (wrong !== undefined) throw brokenJob(seed + index, wrong)
    if (deadLetters === "none" && outputs.deadLetters.length > 0) throw failingJob(seed + index, outputs.deadLetters)
  })
  const [one, other] = runs
  const wrong = differenceOf(other.outputs, one.outputs)
  if (wrong !== undefined) throw undecided(seed, wrong)
  if ([...one.outputs.results.values()].every((lines) => lines.length === 0)) throw silentJob(plan)
  return one.outputs
}

const wrongOf = ({ trial, outputs }: Ran, calm: Outputs): string | undefined => failureOf(trial) ?? differenceOf(outputs, calm)

/** What a query stopped with says more than what was waited for meanwhile. */
const failureOf = ({ foul, failure, refusal }: Trial): string | undefined =>
  foul === undefined && failure !== undefined && refusal !== undefined ? `the job stops with ${refusal.code}: ${refusal.message}` : failure

/** A hang, or what must never be whatever the job does. */
const isOurs = ({ foul, failure, refusal }: Trial): boolean =>
  foul !== undefined || (failure !== undefined && refusal?.code !== "function-failed")

interface FaultsTaken {
  readonly faults: readonly Fault[]
  /** Whether it fails with these faults whenever it is tried. */
  readonly isSure: boolean
}

/** The fewest; or all of them, when something in the job outlives a run, so that trying it again says nothing. */
const faultsItTakes = async (faults: readonly Fault[], fails: (some: readonly Fault[]) => Promise<boolean>): Promise<FaultsTaken> => {
  const fewest = await fewestFaults(faults, fails)
  const isSure = await fails(fewest)
  return { faults: isSure ? fewest : faults, isSure }
}

// ---- what is wrong

const undecided = (seed: number, wrong: string): KeyfoldError =>
  new KeyfoldError(
    "function-failed",
    `the job's results differ between two runs in which nothing goes wrong (seeds ${seed} and ${seed + 1}): ${wrong}. A function of it depends ` +
      'on the clock, on chance, on variables outside its state, or on how events are cut into turns (compare: "last" allows for that; ' +
      "a state function that throws takes all rows of its key in that turn with it)"
  )

const brokenJob = (seed: number, wrong: string): KeyfoldError =>
  new KeyfoldError("function-failed", `the job fails though nothing goes wrong (seed ${seed}): ${wrong}`)

const failingJob = (seed: number, letters: readonly string[]): KeyfoldError =>
  brokenJob(seed, `${lettersCounted(letters)}, the first: ${letters[0]}. If they are as they should be, say deadLetters: "expected"`)

const silentJob = (plan: Plan): KeyfoldError => {
  const cures = ["give it more of them"]
  if (timedStages(plan).length > 0) cures.push("a longer `rest`")
  if (plan.onError === "drop") cures.push('see whether it drops them all (onError: "drop")')
  const wrong = "the job puts out nothing for these events, so there is nothing to compare"
  return new KeyfoldError("option-invalid", `${wrong}: ${cures.join(", or ")}`)
}

const ours = (seed: number, wrong: string): KeyfoldError =>
  new KeyfoldError(
    "function-failed",
    `seed ${seed}: ${wrong}. That is a fault of keyfold's, not of the job's: please report it with the seed and the job`
  )

const failed = (seed: number, wrong: string, { faults, isSure }: FaultsTaken): KeyfoldError => {
  const lines = faults.map((fault) => `  ${faultText(fault)}`).join("\n") || "  no fault, only another order of things"
  const unsure =
    "These are all faults of the seed: with the fewest that had sufficed it did not fail when they were tried once more. Something in the job " +
    "outlives a run, such as a variable of its module, so the seed alone may not show this again.\n"
  return new KeyfoldError(
    "function-failed",
    `seed ${seed}: the job's results are not those of a run in which nothing goes wrong: ${wrong}. It takes\n${lines}\n${isSure ? "" : unsure}` +
      "A function that remembers something outside its state, that depends on the clock or on chance, or whose state its codec does not give " +
      "back as it was, gives another result when it is called again"
  )
}
