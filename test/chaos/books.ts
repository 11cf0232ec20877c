/** The end of a chaos run: every session is closed, and everything that lies anywhere is compared. */
import { type Job, type Query, read, start, type Topic } from "keyfold"
import { chained, direct, numbered, requests, sessions } from "../fixtures/jobs.ts"
import { until } from "../fixtures/waiting.ts"
import type { Checker } from "./checker.ts"
import type { Load } from "./load.ts"
import type { Violated } from "./verdict.ts"
import type { Watch } from "./watch.ts"
import { streamInfo, type World } from "./world.ts"

export interface Books {
  readonly world: World
  readonly load: Load
  readonly watch: Watch
  readonly checkers: { readonly direct: Checker; readonly chained: Checker }
  readonly violated: Violated
}

const closeMsMax = 120_000

/** No worker runs any more. */
export const closeBooks = async ({ world, load, watch, checkers, violated }: Books): Promise<void> => {
  for (const job of [direct, chained]) await close(world, job, violated)
  load.close()
  await until("everything that is stored is seen", () => watch.isThrough(), closeMsMax)
  for (const checker of Object.values(checkers)) checker.end()
  await checkInput(world, load, violated)
  await checkReader(world, sessions, checkers.direct, violated)
  await checkReader(world, numbered, checkers.chained, violated)
  for (const { name } of [direct, chained]) await checkDead(world, `${name}-dead-0`, violated)
}

const close = async ({ runtime }: World, job: Job, violated: Violated): Promise<void> => {
  try {
    const query = await start(job, { runtime, trigger: "available-now", atEnd: "close" })
    if (!(await query.awaitTermination(closeMsMax))) violated("drained", `${job.name} does not close its sessions: ${query.status.message}`)
    const { late } = (query as Query & { readonly totals: { readonly late: number } }).totals
    if (late > 0) violated("dead", `${late} rows of ${job.name} were late`)
  } catch (thrown) {
    violated("drained", `${job.name} cannot close its sessions: ${String(thrown)}`)
  }
}

const checkInput = async (world: World, load: Load, violated: Violated): Promise<void> => {
  const infos = await Promise.all(
    Array.from({ length: requests.partitions ?? 0 }, (_, partition) => streamInfo(world, `requests-${partition}`))
  )
  const stored = infos.reduce((sum, info) => sum + (info?.messages ?? 0), 0)
  if (stored !== load.count) violated("input", `${load.count} requests were acknowledged, ${stored} are stored`)
}

const checkReader = async <T>({ runtime }: World, of: Topic<T>, checker: Checker, violated: Violated): Promise<void> => {
  let count = 0
  for await (const _ of read(runtime, of)) count += 1
  if (count !== checker.found) violated("read", `a reader of ${of.name} gets ${count} results, ${checker.found} are stored`)
}

const checkDead = async (world: World, stream: string, violated: Violated): Promise<void> => {
  const info = await streamInfo(world, stream)
  if (info === undefined || info.messages === 0) return
  const answer = await world.client.request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify({ seq: 1 }))
  const { message } = answer.json<{ readonly message?: { readonly data: string } }>()
  violated("dead", `${stream} holds ${info.messages}, the first is ${Buffer.from(message?.data ?? "", "base64")}`)
}
