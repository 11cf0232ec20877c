// Goal: whatever goes wrong, every event is in every state and every result exactly once, in order per key; timeouts fire once and not early;
// and when the faults are over, everything drains. The same seed is the same history.
// Method: the simulator (src/simulation), which keeps the laws of the real adapters (test/law). SEED=<n> begins with another seed;
// `npm run sim -- --seed <n>` shows one. What it has once found is put back by `npm run sim:rules`, and must be found again.
import { readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { describe, expect, test } from "vitest"
import { faultKinds } from "../../src/simulation/faults.ts"
import { mutations } from "./mutations.ts"
import { foundIn, pagePath } from "./rules-page.ts"
import { runSeed } from "./seeds.ts"

const isFull = process.env["KEYFOLD_TEST"] === "full"
const first = Number(process.env["SEED"] ?? 1)
const seeds = isFull ? 2_000 : 200
const seedsPerTest = 50

describe("simulated", () => {
  for (let from = first; from < first + seeds; from += seedsPerTest) {
    test(`seeds ${from} to ${from + seedsPerTest - 1} hold`, async () => {
      for (let seed = from; seed < from + seedsPerTest; seed++) {
        const { failure } = await runSeed({ seed })
        expect(failure, `seed ${seed}: npm run sim -- --seed ${seed}`).toBe(undefined)
      }
    })
  }

  test("the same seed is the same history, and another one is another", async () => {
    const digests = await Promise.all([7, 7, 8].map(async (seed) => (await runSeed({ seed })).trial.cluster.world.history.digest))
    expect(digests[0]).toBe(digests[1])
    expect(digests[2]).not.toBe(digests[0])
  })
})

test("every rule that is taken out is in the code once, and docs/simulation.md names a seed that finds it", () => {
  const root = resolve(import.meta.dirname, "../..")
  const found = foundIn(readFileSync(join(root, pagePath), "utf8"))
  expect([...found.keys()]).toEqual(mutations.map(({ rule }) => rule))
  for (const { rule, file, find } of mutations) {
    expect(readFileSync(join(root, file), "utf8").split(find).length - 1, `${rule}: ${find}`).toBe(1)
    expect(found.get(rule), rule).toBeGreaterThan(0)
  }
})

test("docs/simulation.md has every fault", () => {
  const page = readFileSync(resolve(import.meta.dirname, "../..", pagePath), "utf8")
  for (const kind of faultKinds) expect(page).toContain(`\`${kind}\``)
})
