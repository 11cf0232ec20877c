/** The benches of the clustered runtime, one after the other on the same pair of servers, which each starts anew. */
import { latencyBench } from "./clustered-latency.ts"
import { type BenchServers, startBenchServers } from "./clustered-servers.ts"
import { rescaleBench, takeOverBench } from "./clustered-takeover.ts"
import { throughputBench } from "./clustered-throughput.ts"

const parts: Readonly<Record<string, (servers: BenchServers) => Promise<void>>> = {
  throughput: throughputBench,
  latency: latencyBench,
  "take-over": takeOverBench,
  rescale: rescaleBench
}

/** The parts that BENCH_PARTS names, separated by commas; all of them by default. */
export const clusteredBench = async (): Promise<void> => {
  const wanted = process.env["BENCH_PARTS"]?.split(",") ?? Object.keys(parts)
  for (const [name, part] of Object.entries(parts)) {
    if (!wanted.includes(name)) continue
    await using servers = await startBenchServers()
    if (name === wanted[0]) process.stdout.write(`${servers.versions}\n`)
    await part(servers)
  }
}
