/**
 * Runs the example from end to end on this machine, without a server: makes a web log (or takes yours), publishes it, runs the job until
 * all sessions are closed, and shows what came out. Exits 1 when the numbers don't add up or the log cannot be read, 2 on a wrong command
 * line.
 *
 *   npm run demo                        300,000 lines from a seed
 *   npm run demo -- --seed 7 --lines 50000
 *   npm run demo -- FILE.jsonl          your own: one JSON object a line with userId (or readerId) and at (ms)
 */
import { mkdtemp, open, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { publisher, type Runtime, start, topic } from "keyfold"
import { text } from "keyfold/codecs/text"
import { embedded } from "keyfold/embedded"
import { addsUp, collect, describeOutcome } from "./outcome.ts"
import { progress } from "./progress.ts"
import { checkRequest, userOf } from "./request.ts"
import sessionize, { requests } from "./sessionize.ts"
import { weblog } from "./weblog.ts"

const usage = "usage: npm run demo -- [FILE.jsonl | --seed NUMBER --lines NUMBER]"
const rerun = "npm run demo -- FILE.jsonl"

/** Something that the user can mend; shown as one line. */
class Refusal extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode: number) {
    super(message)
    this.exitCode = exitCode
  }
}

/** The topic `requests`, written line by line as the log has them, rubbish included. */
const requestLines = topic(requests.name, { codec: text(), key: (line) => keyOfLine(line), partitions: requests.partitions })

/** A line must lie in its user's partition, like every other request; where rubbish lies does not matter. */
const keyOfLine = (line: string): string | null => {
  try {
    return userOf(checkRequest(JSON.parse(line)))
  } catch {
    return null // the job will say what is wrong with it
  }
}

const main = async (): Promise<number> => {
  const options = optionsOf(process.argv.slice(2))
  if (options.file !== undefined) await checkFile(options.file)
  const dir = await mkdtemp(join(tmpdir(), "keyfold-demo-"))
  const file = options.file ?? (await writeWeblog(dir, options))
  const data = join(dir, "data")
  const runtime = embedded(data)

  const published = await timed(() => publish(runtime, file))
  if (published.result === 0) throw new Refusal(`${file} has only empty lines: expected one JSON object a line`, 1)
  const run = await timed(() => runJob(runtime, published.result))
  const outcome = await collect(runtime)

  const perSecond = (seconds: number): string => `${Math.round(published.result / seconds).toLocaleString("en")} events/s`
  console.log(`\n${describeOutcome(outcome, published.result)}`)
  console.log(`\n  publish ${perSecond(published.seconds)}   run ${perSecond(run.seconds)}, turn by turn on disk`)
  console.log(`\n${whatNext(data)}`)
  return addsUp(outcome, published.result) ? 0 : 1
}

interface DemoOptions {
  readonly file: string | undefined
  readonly seed: number
  readonly lines: number
}

const optionsOf = (args: string[]): DemoOptions => {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { seed: { type: "string" }, lines: { type: "string" } }
    })
    const [file, ...more] = positionals
    if (more.length > 0) throw new TypeError(`one file at a time, got ${positionals.length}`)
    return { file, seed: wholeNumber("--seed", values.seed ?? "1", 0), lines: wholeNumber("--lines", values.lines ?? "300000", 1) }
  } catch (thrown) {
    throw new Refusal(`${(thrown as Error).message.split("\n", 1)[0]}\n${usage}`, 2)
  }
}

const wholeNumber = (name: string, text: string, least: number): number => {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && number <= 5_000_000) return number
  throw new TypeError(`${name} must be a whole number from ${least} to 5000000, got ${text}`)
}

const checkFile = async (file: string): Promise<void> => {
  try {
    const found = await stat(file)
    if (found.isDirectory()) throw new Refusal(`${file} is a directory: give the log itself, ${rerun}`, 1)
    if (found.size === 0) throw new Refusal(`${file} is empty: expected one JSON object a line`, 1)
  } catch (thrown) {
    if (thrown instanceof Refusal) throw thrown
    const missing = (thrown as NodeJS.ErrnoException).code === "ENOENT"
    throw new Refusal(missing ? `there is no file ${file}` : `${file} cannot be read: ${(thrown as Error).message}`, 1)
  }
}

const writeWeblog = async (dir: string, { seed, lines }: DemoOptions): Promise<string> => {
  const file = join(dir, "requests.jsonl")
  const log = weblog({ seed, lines })
  await writeFile(file, log.lines.map((line) => `${line}\n`).join(""))
  const count = (number: number): string => number.toLocaleString("en")
  console.log(`made ${file} with seed ${seed} (--seed NUMBER for another): ${count(log.lines.length)} lines, of which`)
  console.log(`  ${count(log.duplicates)} are there twice, ${count(log.rubbish)} are rubbish, ${count(log.tooLate)} far too late`)
  return file
}

/** How many lines travel at once: awaiting each alone would be slow, all of them would fill the memory. */
const sentTogether = 1_000

/** Publishes the lines of the log in their order and answers how many; empty lines are passed over. */
const publish = async (runtime: Runtime, file: string): Promise<number> => {
  using shown = progress("publishing")
  await using out = await publisher(runtime, requestLines)
  await using input = await open(file)
  let count = 0
  for await (const line of input.readLines()) {
    if (line.trim() === "") continue
    void out.send(line) // what fails is raised by flush()
    if (++count % sentTogether > 0) continue
    await out.flush()
    shown.at(`${count.toLocaleString("en")} lines`)
  }
  await out.flush()
  shown.done(`published ${count.toLocaleString("en")} lines to the topic ${requests.name}, ${requests.partitions} partitions`)
  return count
}

/** Runs the job over all that was published, closes every session that is open at the end of the log, and stops. */
const runJob = async (runtime: Runtime, count: number): Promise<void> => {
  using shown = progress("running")
  await using query = await start(sessionize, { runtime, trigger: "available-now", atEnd: "close" })
  while (!(await query.awaitTermination(200))) {
    const done = query.recentProgress.reduce((sum, { numInputRows }) => sum + numInputRows, 0)
    shown.at(`${done.toLocaleString("en")} of ${count.toLocaleString("en")} lines`)
  }
  shown.done(`ran the job ${query.name} over ${count.toLocaleString("en")} lines`)
}

const timed = async <T>(run: () => Promise<T>): Promise<{ readonly result: T; readonly seconds: number }> => {
  const startedAt = performance.now()
  const result = await run()
  return { result, seconds: (performance.now() - startedAt) / 1_000 }
}

const whatNext = (data: string): string => `Next:
  - change the gap or the result in examples/01-sessionize/sessionize.ts, and run this again
  - your own log: ${rerun}  (userId or readerId, and at in milliseconds)
  - the same by the command line, over the data of this run (remove it when you are done):
      npm run keyfold -- tail examples/01-sessionize/sessionize.ts sessions --data ${data}
      npm run keyfold -- publish examples/01-sessionize/sessionize.ts requests FILE.jsonl --data ${data}
      npm run keyfold -- run examples/01-sessionize/sessionize.ts --until-caught-up --close --data ${data}`

try {
  process.exitCode = await main()
} catch (thrown) {
  if (!(thrown instanceof Refusal)) throw thrown
  console.error(thrown.message)
  process.exitCode = thrown.exitCode
}
