/** `npm run chaos -- --minutes N [--seed S] [--workers W] [--report FILE]`: exits with 1 when something did not hold. */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { lineOf, provision } from "../servers/provision.ts"
import { canStart } from "../servers/versions.ts"
import { type ChaosOptions, runChaos } from "./chaos.ts"

const usage = "npm run chaos -- --minutes N [--seed S] [--workers W] [--report FILE]"

const refuse = (why: string): never => {
  process.stderr.write(`${why}\nusage: ${usage}\n`)
  process.exit(2)
}

const requestOf = (args: readonly string[]): Omit<ChaosOptions, "say"> & { readonly report: string | undefined } => {
  const texts = { minutes: { type: "string" }, seed: { type: "string" }, workers: { type: "string" }, report: { type: "string" } } as const
  const { values } = parseArgs({ args: [...args], options: texts })
  const minutes = Number(values.minutes)
  if (!(minutes > 0 && minutes <= 10_000)) throw new Error("--minutes must be a number above 0")
  const seed = Number(values.seed ?? Date.now() % 1_000_000)
  if (!(Number.isSafeInteger(seed) && seed >= 0)) throw new Error("--seed must be a whole number from 0 on")
  const workers = Number(values.workers ?? 3)
  if (!(Number.isInteger(workers) && workers >= 1 && workers <= 12)) throw new Error("--workers must be a whole number from 1 to 12")
  return { minutes, seed, workers, report: values.report }
}

const request = (() => {
  try {
    return requestOf(process.argv.slice(2))
  } catch (thrown) {
    return refuse((thrown as Error).message)
  }
})()
const say = (line: string): void => void process.stdout.write(`${line}\n`)

say(lineOf(await provision()))
if (!canStart("nats") || !canStart("redis")) refuse("a chaos run kills its servers, so it needs ones that it can start")
const { holds, report } = await runChaos({ ...request, say })
say(`\n${report}`)
if (request.report !== undefined) writeFileSync(request.report, `${report}\n`)
process.exit(holds ? 0 : 1)
