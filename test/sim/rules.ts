/**
 * `npm run sim:rules [-- --seeds MAX] [--only RULE] [--write]`: takes one safety rule after the other out of a copy of the code, and has the
 * simulator look for it, from seed 1 on. Fails when one is not found within MAX seeds (default 5,000), or when docs/simulation.md names other
 * seeds; with --write the page is brought up to date.
 */
import { execFile } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { type Mutation, mutations } from "./mutations.ts"
import { foundIn, pagePath, type RuleFound, withTables } from "./rules-page.ts"

const { values } = parseArgs({
  options: { seeds: { type: "string", default: "5000" }, only: { type: "string" }, write: { type: "boolean", default: false } }
})

const root = resolve(import.meta.dirname, "../..")
const copied = ["src", "actors", "codecs", "test/sim", "test/reference", "package.json"]
const atOnce = 2
const runMsMax = 1_800_000

/** A copy of the code without one rule. */
const copyWithout = ({ file, find, replace }: Mutation): string => {
  const place = mkdtempSync(join(tmpdir(), "keyfold-rule-"))
  for (const path of copied) cpSync(join(root, path), join(place, path), { recursive: true })
  symlinkSync(join(root, "node_modules"), join(place, "node_modules"))
  const text = readFileSync(join(place, file), "utf8")
  if (text.split(find).length !== 2) throw new Error(`${file} has ${text.split(find).length - 1} times: ${find}`)
  writeFileSync(
    join(place, file),
    text.replace(find, () => replace)
  )
  return place
}

const lookFor = (mutation: Mutation): Promise<RuleFound> => {
  const place = copyWithout(mutation)
  const args = ["--conditions=keyfold-source", "test/sim/run.ts", "--seeds", values.seeds, "--first-failure"]
  return new Promise((done) => {
    execFile(process.execPath, args, { cwd: place, timeout: runMsMax, maxBuffer: 2 ** 28 }, (failed, stdout, stderr) => {
      rmSync(place, { recursive: true, force: true })
      const [, seed, says] = /^seed (\d+) fails: (.*)$/m.exec(stdout) ?? []
      const why = failed?.killed === true ? `not within ${runMsMax / 60_000} minutes` : stderr.trim().slice(-200)
      done({ mutation, seed: seed === undefined ? undefined : Number(seed), says: says ?? why })
    })
  })
}

const wanted = mutations.filter(({ rule }) => values.only === undefined || rule.startsWith(values.only))
if (wanted.length === 0)
  throw new Error(`--only: no rule begins with ${values.only}; there are ${mutations.map(({ rule }) => rule).join(", ")}`)
const found: RuleFound[] = []
const queue = wanted.values()
const work = async (): Promise<void> => {
  for (const mutation of queue) {
    const result = await lookFor(mutation)
    found.push(result)
    console.log(`${mutation.rule}: ${result.seed === undefined ? "NOT FOUND" : `seed ${result.seed}`} ${result.says.slice(0, 160)}`)
  }
}
await Promise.all(Array.from({ length: atOnce }, work))
const inOrder = wanted.map((mutation) => found.find((result) => result.mutation === mutation) as RuleFound)
const missing = inOrder.filter(({ seed }) => seed === undefined)
for (const { mutation } of missing) console.log(`not found within ${values.seeds} seeds: ${mutation.rule}, ${mutation.what}`)

const page = readFileSync(join(root, pagePath), "utf8")
if (values.write && values.only === undefined) writeFileSync(join(root, pagePath), withTables(page, inOrder))
const listed = foundIn(page)
const others = values.write ? [] : inOrder.filter(({ mutation, seed }) => listed.get(mutation.rule) !== seed)
for (const { mutation, seed } of others) {
  console.log(`${pagePath} says that seed ${listed.get(mutation.rule)} finds ${mutation.rule}, but it is ${seed}: run with --write`)
}
console.log(missing.length + others.length === 0 ? `all ${wanted.length} rules and defects are found` : "FAILED")
process.exitCode = missing.length + others.length === 0 ? 0 : 1
