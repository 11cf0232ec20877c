/** `keyfold explain`: what the jobs of a module do. Runs nothing. */
import { explain } from "../index.ts"
import { chosenJobs } from "./catalog.ts"
import { loadCatalog } from "./module.ts"
import type { ExitCode } from "./refusal.ts"
import type { ExplainRequest } from "./request.ts"
import { print } from "./terminal.ts"

export const explainJobs = async (request: ExplainRequest): Promise<ExitCode> => {
  const jobs = chosenJobs(await loadCatalog(request.module), [])
  await print(`${jobs.map(({ job }) => explain(job).trimEnd()).join("\n\n")}\n`)
  return 0
}
