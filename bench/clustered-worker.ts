/** A process that works on the running counts: `clustered-worker.ts <servers as JSON> <name>`. Ends in order when told `stop`. */
import { start } from "keyfold"
import { type ClusteredOptions, clustered } from "keyfold/clustered"
import { countsJob } from "./clustered-counts.ts"

const [servers = "{}", name = ""] = process.argv.slice(2)
process.on("disconnect", () => process.exit(1))
try {
  const query = await start(countsJob(name), { runtime: clustered(JSON.parse(servers) as ClusteredOptions) })
  process.send?.("ready")
  process.on("message", (word) => {
    if (word === "stop") void query.stop()
  })
  await query.awaitTermination()
  process.exit(0)
} catch (thrown) {
  process.stderr.write(`a worker failed: ${String(thrown)}\n`)
  process.exit(1)
}
