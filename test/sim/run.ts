/**
 * `npm run sim -- [--seed N] [--seeds COUNT] [--steps M] [--workload NAME] [--faults kind,kind] [--trace] [--first-failure]`: runs seeds one after the other, from
 * N on (default 1, one seed), or as many as it takes for M steps. A seed that fails is run again with fewer and fewer faults, and then
 * printed: what it needs to fail, and what happened last; or at once with --first-failure, which then is the end. The same seed is the same
 * history, bit by bit.
 */
import { parseArgs } from "node:util"
import { reasonOf } from "../../src/errors.ts"
import { type FaultKind, faultKinds, faultText, lossyKinds } from "../../src/simulation/faults.ts"
import { runSeed, type SeedOptions, type SeedResult, shrink } from "./seeds.ts"
import { workloads } from "./workloads.ts"

const refuse = (message: string): never => {
  console.error(message)
  process.exit(2)
}

const options = {
  seed: { type: "string", default: "1" },
  seeds: { type: "string" },
  steps: { type: "string" },
  workload: { type: "string" },
  faults: { type: "string" },
  trace: { type: "boolean", default: false },
  "first-failure": { type: "boolean", default: false }
} as const

const parsed = () => {
  try {
    return parseArgs({ options }).values
  } catch (thrown) {
    return refuse(
      `${(thrown as Error).message}. The options are ${Object.keys(options)
        .map((name) => `--${name}`)
        .join(", ")}`
    )
  }
}
const values = parsed()

const whole = (name: string, text: string): number => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) refuse(`--${name} must be a whole number, got ${text}`)
  return value
}

const first = whole("seed", values.seed)
const stepsMin = values.steps === undefined ? 0 : whole("steps", values.steps)
const seedsMax = values.seeds === undefined ? (stepsMin > 0 ? Number.POSITIVE_INFINITY : 1) : whole("seeds", values.seeds)
if (seedsMax < 1) refuse("--seeds must be at least 1")
const kinds = values.faults?.split(",") as readonly FaultKind[] | undefined
const allKinds: readonly FaultKind[] = [...faultKinds, ...lossyKinds]
for (const kind of kinds ?? []) if (!allKinds.includes(kind)) refuse(`--faults: there is no ${kind}; there are ${allKinds.join(", ")}`)
if (values.workload !== undefined && !(values.workload in workloads)) {
  refuse(`--workload: there is no ${values.workload}; there are ${Object.keys(workloads).join(", ")}`)
}

const linesShown = 60

const tell = async (result: SeedResult, options: SeedOptions): Promise<void> => {
  console.log(`\nseed ${result.seed} (${result.workload}) FAILS: ${result.failure}`)
  const least = await shrink(result, options)
  console.log(`with these of its ${result.faults.length} faults, it says: ${least.failure}`)
  for (const fault of least.faults) console.log(`  ${faultText(fault)}`)
  console.log(`what happened last (digest ${least.trial.cluster.world.history.digest}):`)
  for (const line of least.trial.cluster.world.history.last(linesShown)) console.log(`  ${line}`)
}

const begin = performance.now()
const met = new Map<string, number>()
let steps = 0
let seeds = 0
const failed: number[] = []
let underWay = first
// A defect of the code, outside of what a query catches.
process.on("uncaughtException", (thrown) => {
  console.log(`seed ${underWay} fails: it throws ${reasonOf(thrown)}`)
  console.error(thrown)
  process.exit(1)
})
for (let seed = first; seeds < seedsMax && (stepsMin === 0 || steps < stepsMin); seed++) {
  underWay = seed
  const chosen: SeedOptions = { seed, kinds, workload: values.workload, ...(values.trace && { listener: (line) => console.log(line) }) }
  const result = await runSeed(chosen)
  const { world } = result.trial.cluster
  seeds += 1
  steps += world.steps
  for (const [kind, count] of Object.entries(result.trial.met)) met.set(kind, (met.get(kind) ?? 0) + count)
  if (result.failure !== undefined) {
    failed.push(seed)
    if (values["first-failure"]) {
      console.log(`seed ${seed} fails: ${result.failure}`)
      break
    }
    await tell(result, chosen)
  } else if (seedsMax === 1)
    console.log(`seed ${seed} (${result.workload}): all is well; ${result.faults.length} faults, digest ${world.history.digest}`)
}
const seconds = (performance.now() - begin) / 1_000
const faults = [...met].map(([kind, count]) => `${kind} ${count}`).join(", ")
console.log(
  `${seeds} seeds from ${first} on, ${steps} steps in ${seconds.toFixed(1)} s: ${(seeds / seconds).toFixed(1)} seeds/s, ${Math.round(steps / seconds)} steps/s`
)
console.log(`faults: ${faults || "none"}`)
console.log(failed.length === 0 ? "all seeds hold" : `FAILED: seeds ${failed.join(", ")}`)
process.exitCode = failed.length === 0 ? 0 : 1
