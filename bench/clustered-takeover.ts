/**
 * How long partitions stand still, under load: when the process that owns them is killed, and when they are handed over in order. Seen from
 * outside: each result says which process made it.
 */
import { countPartitions, machineUs } from "./clustered-counts.ts"
import { openTopics } from "./clustered-latency.ts"
import { Load, startWorker, type Worker } from "./clustered-processes.ts"
import type { BenchServers } from "./clustered-servers.ts"
import { quantile, type Sighting, sleep, Watch } from "./clustered-watch.ts"
import { fixed, row } from "./measure.ts"

const leaseMs = 4_000
const ratePerSecond = 2_000
const killKeys = [10_000, 1_000_000]
const widths = [20, 12, 14, 14, 14, 16, 16]

export const takeOverBench = async (servers: BenchServers): Promise<void> => {
  process.stdout.write(
    `\nA worker of two is killed (SIGKILL) at ${ratePerSecond.toLocaleString("en")} events/s: seconds from the kill to the first result of ` +
      `each partition by the other one; the lease is ${leaseMs / 1_000} s\n`
  )
  process.stdout.write(`${row(["keys", "partitions", "first", "median", "last", "last - lease", "results behind"], widths)}\n`)
  for (const keys of killKeys) await killOne(servers, keys)
}

const killOne = async (servers: BenchServers, keys: number): Promise<void> => {
  const name = `kill-${keys}`
  await openTopics(servers, name)
  const load = await Load.start(servers.nats.url, name)
  const workers: Worker[] = []
  try {
    for (let index = 0; index < 2; index++) workers.push(await startWorker(servers.options, name))
    const watch = await Watch.start(servers.natsClient, name)
    await load.fill(keys)
    await watch.until("every key has a state", (sightings) => new Set(sightings.map(({ partition }) => partition)).size === countPartitions)
    load.begin(keys, ratePerSecond)
    await sleep(1.5 * checkpointMs)
    const [victim, heir] = workers as [Worker, Worker]
    const before = ownersOf(watch.sightings)
    watch.forget()
    const killedUs = machineUs()
    await victim.kill()
    const moved = [...before].filter(([, by]) => by === victim.pid).map(([partition]) => partition)
    const firsts = () => firstsBy(watch.sightings, heir.pid)
    await watch.until("the other one has all partitions", () => firsts().size === countPartitions)
    const after = moved.map((partition) => ((firsts().get(partition) as number) - killedUs) / 1_000_000).toSorted((a, b) => a - b)
    await load.end()
    await watch.close()
    const last = after.at(-1) as number
    const behind = Math.round(((last * ratePerSecond) / countPartitions) * moved.length)
    const cells = [moved.length, ...[after[0] as number, quantile(after, 0.5), last, last - leaseMs / 1_000].map((value) => fixed(value))]
    process.stdout.write(`${row([keys.toLocaleString("en"), ...cells, behind.toLocaleString("en")], widths)}\n`)
  } finally {
    await load.kill()
    for (const worker of workers) await worker.kill()
  }
}

const checkpointMs = 5_000

/** By partition, who made its last result. */
const ownersOf = (sightings: readonly Sighting[]): Map<number, number> => new Map(sightings.map(({ partition, by }) => [partition, by]))

/** By partition, when a process' first result was seen. */
const firstsBy = (sightings: readonly Sighting[], pid: number): Map<number, number> => {
  const firsts = new Map<number, number>()
  for (const { partition, by, seenUs } of sightings) if (by === pid && !firsts.has(partition)) firsts.set(partition, seenUs)
  return firsts
}

// ---- hand-over

export const rescaleBench = async (servers: BenchServers): Promise<void> => {
  const name = "rescale"
  await openTopics(servers, name)
  const load = await Load.start(servers.nats.url, name)
  const workers: Worker[] = [await startWorker(servers.options, name)]
  try {
    const watch = await Watch.start(servers.natsClient, name)
    process.stdout.write(
      `\nWorkers come and go at ${ratePerSecond.toLocaleString("en")} events/s: milliseconds between the last result of a partition by one ` +
        `worker and the first by the next; beside it the longest time without a result of a partition that stayed\n`
    )
    process.stdout.write(`${row(["workers", "moved", "least", "median", "most", "stayed", "longest there"], widths)}\n`)
    load.begin(100_000, ratePerSecond)
    await watch.until("all partitions put something out", (sightings) => ownersOf(sightings).size === countPartitions)
    await sleep(2_000)
    await watchMoves(watch, "1 -> 3", 3, async () => {
      workers.push(...(await Promise.all([startWorker(servers.options, name), startWorker(servers.options, name)])))
    })
    await watchMoves(watch, "3 -> 2", 2, async () => {
      await workers.pop()?.stopped()
    })
    await load.end()
    await watch.close()
  } finally {
    await load.kill()
    for (const worker of workers) await worker.kill()
  }
}

const settledMs = 3_000

/** Until the partitions have been with so many owners, evenly, for a while. */
const watchMoves = async (watch: Watch, what: string, workers: number, move: () => Promise<void>): Promise<void> => {
  watch.forget()
  await sleep(500)
  await move()
  const isEven = (sightings: readonly Sighting[]): boolean => {
    const recent = sightings.filter(({ seenUs }) => seenUs > machineUs() - 1_000_000)
    const counts = [...Map.groupBy(ownersOf(recent), ([, owner]) => owner).values()].map(({ length }) => length)
    return counts.length === workers && Math.max(...counts) - Math.min(...counts) <= 1 && ownersOf(recent).size === countPartitions
  }
  await watch.until(`${workers} workers share the partitions`, isEven)
  await sleep(settledMs)
  const pauses: number[] = []
  let longestStaying = 0
  const ofPartition = Map.groupBy(watch.sightings, ({ partition }) => partition)
  let stayed = 0
  for (const sightings of ofPartition.values()) {
    let moves = 0
    let longest = 0
    for (const [index, { by, seenUs }] of sightings.entries()) {
      const before = sightings[index - 1]
      if (before === undefined) continue
      const pause = (seenUs - before.seenUs) / 1_000
      longest = Math.max(longest, pause)
      if (before.by === by) continue
      moves += 1
      pauses.push(pause)
    }
    if (moves > 0) continue
    stayed += 1
    longestStaying = Math.max(longestStaying, longest)
  }
  const sorted = pauses.toSorted((a, b) => a - b)
  const cells = [sorted[0] ?? Number.NaN, quantile(sorted, 0.5), sorted.at(-1) ?? Number.NaN].map((value) => fixed(value, 0))
  process.stdout.write(`${row([what, pauses.length, ...cells, stayed, fixed(longestStaying, 0)], widths)}\n`)
}
