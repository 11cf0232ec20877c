/**
 * From the moment when an event is published to the moment when its result is seen, at a part of the most that one worker was just seen to
 * do: a running count, one result per event. Publisher, worker and reader are processes of their own on the machine that the servers run on.
 */
import { publisher, read } from "keyfold"
import { countsTopic, hitsTopic, machineUs } from "./clustered-counts.ts"
import { Load, startWorker } from "./clustered-processes.ts"
import type { BenchServers } from "./clustered-servers.ts"
import { quantile, sleep, Watch } from "./clustered-watch.ts"
import { fixed, row } from "./measure.ts"

const users = 10_000
const backlog = 200_000
const secondsEach = 6
const secondsWarm = 2
const loadParts = [0.02, 0.1, 0.25, 0.5]

export const latencyBench = async (servers: BenchServers): Promise<void> => {
  const name = "latency"
  await openTopics(servers, name)
  const load = await Load.start(servers.nats.url, name)
  const worker = await startWorker(servers.options, name)
  const watch = await Watch.start(servers.natsClient, name)
  try {
    const most = await mostResults(load, watch)
    process.stdout.write(
      `\nFrom an event published to its result seen: running count of ${users.toLocaleString("en")} users, one result per event, 1 worker, ` +
        `which does ${Math.round(most).toLocaleString("en")} a second at most (milliseconds)\n`
    )
    process.stdout.write(`${row(["load", "seen by", "p50", "p90", "p99", "p99.9", "most", "publisher's pause"], widths)}\n`)
    for (const part of loadParts) {
      const rate = Math.round(most * part)
      load.begin(users, rate)
      await sleep(secondsWarm * 1_000)
      watch.forget()
      await sleep(secondsEach * 1_000)
      const latencies = watch.sightings.map(({ sentUs, seenUs }) => seenUs - sentUs)
      const { pauseMsMax } = await load.end()
      report(part, rate, "a JetStream consumer", latencies, pauseMsMax)
      await sleep(500)
    }
    await watch.close()
    const rate = Math.round(most / 2)
    load.begin(users, rate)
    const latencies = await readLatencies(servers, name)
    report(0.5, rate, "read(follow)", latencies, (await load.end()).pauseMsMax)
  } finally {
    await load.kill()
    await worker.kill()
  }
}

const widths = [22, 21, 8, 8, 8, 8, 8, 18]

export const openTopics = async ({ runtime }: BenchServers, name: string): Promise<void> => {
  for (const topic of [hitsTopic(name), countsTopic(name)]) await (await publisher<never>(runtime, topic as never))[Symbol.asyncDispose]()
}

/** A backlog, worked off: counted from when a fifth of it is done, so that the worker is warm and all of it is published. */
const mostResults = async (load: Load, watch: Watch): Promise<number> => {
  await load.burst(users, backlog)
  await watch.until("the worker has worked off the backlog", (sightings) => sightings.length >= backlog)
  const from = backlog / 5
  const [first, last] = [from, backlog - 1].map((index) => watch.sightings[index]?.seenUs ?? 0) as [number, number]
  return ((backlog - 1 - from) / (last - first)) * 1_000_000
}

const readLatencies = async ({ runtime }: BenchServers, name: string): Promise<number[]> => {
  const latencies: number[] = []
  const warmUs = machineUs() + secondsWarm * 1_000_000
  for await (const { value } of read(runtime, countsTopic(name), { follow: true, startAt: "latest" })) {
    const nowUs = machineUs()
    if (nowUs > warmUs) latencies.push(nowUs - value.sentUs)
    if (nowUs > warmUs + secondsEach * 1_000_000) break
  }
  return latencies
}

const report = (part: number, rate: number, by: string, latencies: number[], pauseMsMax: number): void => {
  const sorted = latencies.toSorted((left, right) => left - right)
  const cells = [0.5, 0.9, 0.99, 0.999, 1].map((quantileOf) => fixed(quantile(sorted, quantileOf) / 1_000, 1))
  const load = `${part * 100} %: ${rate.toLocaleString("en")}/s`
  process.stdout.write(`${row([load, by, ...cells, fixed(pauseMsMax, 1)], widths)}\n`)
}
