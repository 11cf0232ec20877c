/** How fast the simulator is: seeds and steps a second, one after the other in one process. */
import { runSeed } from "../test/sim/seeds.ts"
import { workloads } from "../test/sim/workloads.ts"

const seedsEach = 100

export const simulationBench = async (): Promise<void> => {
  process.stdout.write(`\nsimulation: ${seedsEach} seeds each\n`)
  for (const workload of Object.keys(workloads)) {
    const begin = performance.now()
    let steps = 0
    for (let seed = 1; seed <= seedsEach; seed++) {
      const { trial, failure } = await runSeed({ seed, workload })
      if (failure !== undefined) throw new Error(`seed ${seed}: ${failure}`)
      steps += trial.cluster.world.steps
    }
    const seconds = (performance.now() - begin) / 1_000
    const rates = `${(seedsEach / seconds).toFixed(1)} seeds/s, ${Math.round(steps / seconds)} steps/s, ${Math.round(steps / seedsEach)} steps a seed`
    process.stdout.write(`  ${workload.padEnd(24)} ${rates}\n`)
  }
}
