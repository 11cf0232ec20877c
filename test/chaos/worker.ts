/**
 * A worker of a chaos run: `worker.ts <place> <job>[,<job>]`. What it says goes into its log. SIGTERM ends it in order; a query that fails
 * ends it with 1.
 */
import { type Job, type KeyfoldError, type Query, start } from "keyfold"
import { chained, direct } from "../fixtures/jobs.ts"
import { runtimeAt } from "../fixtures/place.ts"
import { sleep } from "../fixtures/waiting.ts"

const [place = "", names = ""] = process.argv.slice(2)
const jobs: Readonly<Record<string, Job>> = { direct, chained }
const queries: Query[] = []
let isEnding = false

const say = (line: string): void => void process.stdout.write(`${new Date().toISOString()} ${line}\n`)

const fail = (name: string, { code, message, stack }: KeyfoldError): never => {
  say(`${name} failed: ${code} ${message}\n${stack}`)
  process.exit(1)
}

/** A worker that is started while a server is away is refused; whoever runs it in earnest starts it again, and so do we. */
const startAgain = async (job: Job, name: string): Promise<Query> => {
  for (;;) {
    try {
      return await start(job, { runtime: runtimeAt(place) })
    } catch (thrown) {
      if ((thrown as KeyfoldError).code !== "unreachable" || isEnding) throw thrown
      say(`${name} cannot start: ${(thrown as KeyfoldError).message}`)
      await sleep(200)
    }
  }
}

process.on("SIGTERM", () => {
  say("SIGTERM")
  isEnding = true
  void Promise.all(queries.map((query) => query.stop())).then(() => {
    say("ended")
    process.exit(0)
  })
})

const said = new Map<string, string>()
const look = (): void => {
  for (const query of queries) {
    const { totals, status } = query as unknown as { readonly totals: { readonly inputRows: number }; readonly status: Query["status"] }
    const line = `${query.name}: ${totals.inputRows} rows, ${status.message}`
    if (said.get(query.name) !== line) say(line)
    said.set(query.name, line)
  }
}

say(`process ${process.pid}`)
setInterval(look, 250)
for (const name of names.split(",")) {
  const query = await startAgain(jobs[name] as Job, name).catch((thrown) => (isEnding ? process.exit(0) : fail(name, thrown)))
  say(`${name} started`)
  queries.push(query)
  query.awaitTermination().catch((thrown) => fail(name, thrown))
  if (isEnding) void query.stop()
}
