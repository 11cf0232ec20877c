/** A process that runs the job of the fixtures until it is killed: `run-stays.ts <place>`. Its sink never answers, so nothing is confirmed. */
import { start } from "keyfold"
import { runtimeAt } from "../fixtures/place.ts"
import { staysJob } from "./stays-job.ts"

const silent = staysJob(() => new Promise(() => undefined))
const query = await start(silent, { runtime: runtimeAt(process.argv[2] ?? ""), limits: { checkpointEveryMs: 1_500 } })
process.stdout.write("started\n")
await query.awaitTermination()
