/** One seed of the simulator: which job, which events, which faults, and what came of it. */
import { Dice } from "../../src/simulation/dice.ts"
import { type Fault, type FaultKind, faultKinds, faultsOf, lossyKinds } from "../../src/simulation/faults.ts"
import { fewestFaults } from "../../src/simulation/shrink.ts"
import { runTrial, type Trial, type TrialOptions } from "../../src/simulation/trial.ts"
import type { Work } from "./work.ts"
import { workloads } from "./workloads.ts"

export interface SeedOptions {
  readonly seed: number
  /** Only these kinds of faults. */
  readonly kinds?: readonly FaultKind[] | undefined
  /** In the place of those that the seed has. */
  readonly faults?: readonly Fault[] | undefined
  readonly workload?: string | undefined
  readonly listener?: ((line: string) => void) | undefined
}

export interface SeedResult {
  readonly seed: number
  readonly workload: string
  readonly faults: readonly Fault[]
  readonly trial: Trial
  readonly failure: string | undefined
}

const names = Object.keys(workloads)

export const runSeed = async (options: SeedOptions): Promise<SeedResult> => {
  const { seed, kinds = faultKinds, listener } = options
  const dice = new Dice(seed, 2_000_003)
  const picked = dice.pick(names)
  const workload = options.workload ?? picked
  const work = (workloads[workload] as (typeof workloads)[string])(new Dice(seed, 3_000_017))
  const isLasting = dice.chance(0.5)
  const leaseMs = dice.pick([1_000, 2_000])
  const untilMs = (work.events.at(-1)?.atMs ?? 0) + 1_000
  // What Redis had not synced to disk is lost for good without durability `machine`: there P4 stops the query loudly.
  const survived = kinds.filter((kind) => kind !== "power-loss" || isLasting)
  // Few seeds lose events: what they show otherwise is cut short by the refusal.
  const harms = isLasting ? lossyKinds : [...lossyKinds, "power-loss" as const, "power-loss" as const]
  // Drawn in any case: with fewer kinds of faults a seed is the same otherwise.
  const drawn = dice.chance(0.15) ? [dice.pick(harms)] : []
  const harm = options.kinds === undefined ? drawn : []
  const faults = options.faults ?? faultsOf(seed, { untilMs, leaseMs, kinds: [...survived, ...harm] })
  const trialOptions: TrialOptions = {
    ...{ seed, job: work.job, events: work.events, restMs: work.restMs, faults, leaseMs, isLasting },
    workers: dice.whole(1, 3),
    limits: {
      checkpointEveryMs: dice.pick([200, 1_000]),
      // Longer than any outage here, as P26 wants it.
      historyKeptMs: dice.pick([20_000, 300_000]),
      turnEventsMax: dice.pick([2, 16, 4_096]),
      residentKeysMax: dice.pick([3, 100_000])
    },
    ...(work.judgeOpen !== undefined && { beforeClose: work.judgeOpen }),
    ...(listener !== undefined && { listener })
  }
  const trial = await runTrial(trialOptions)
  return { seed, workload, faults, trial, failure: verdict(trial, work, isLasting) }
}

/** With which errors a query may stop when something was lost for good; one that goes on has to be right all the same. */
const loudly: Readonly<Partial<Record<FaultKind, readonly string[]>>> = {
  purge: ["source-gap"],
  delete: ["source-gap"],
  recreate: ["source-gap"],
  "lost-tail": ["source-gap", "output-fate-unknown"],
  // P4: the journal has lost turns whose outputs are out, or, asked in between, outputs that it knows of are gone.
  "power-loss": ["journal-behind-outputs"]
}

const verdict = ({ failure, foul, refusal, lost, cluster }: Trial, work: Work, isLasting: boolean): string | undefined => {
  if (foul !== undefined) return foul
  const allowed = [...lost].flatMap((kind) => (kind === "power-loss" && isLasting ? [] : (loudly[kind] ?? [])))
  if (refusal !== undefined && allowed.includes(refusal.code)) return work.judge(cluster, true)
  if (failure !== undefined) return failure
  return lost.has("recreate") || lost.has("delete")
    ? "an input was deleted, and perhaps created again, and nobody has said so (P3)"
    : work.judge(cluster, false)
}

/** The same seed with the fewest of its faults with which it still fails. */
export const shrink = async (result: SeedResult, options: SeedOptions): Promise<SeedResult> => {
  const again = (faults: readonly Fault[]): Promise<SeedResult> => runSeed({ ...options, seed: result.seed, faults, listener: undefined })
  const fewest = await fewestFaults(result.faults, async (some) => (await again(some)).failure !== undefined)
  return fewest === result.faults ? result : again(fewest)
}
