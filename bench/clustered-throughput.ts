/**
 * How fast one worker folds a log that is already there, beside a loop by hand over the same streams, with the same clients, in the same
 * process and in turn with it; what it asks of the servers for that, and where its own time goes.
 */
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream"
import { type HandOptions, runByHand } from "./clustered-by-hand.ts"
import { type BenchServers, type Traffic, trafficBetween } from "./clustered-servers.ts"
import { fill, inputName, outputName, outputPartitions, runByKeyfold, type SessionsPlace } from "./clustered-sessions.ts"
import { fixed, row } from "./measure.ts"
import { type Profile, profiled } from "./profile.ts"
import { Stopwatch, type Timed } from "./stopwatch.ts"

const clicks = 200_000
const rounds = 3
const cases = [
  { users: 100, partitions: 16 },
  { users: 10_000, partitions: 16 },
  { users: 100_000, partitions: 16 },
  { users: 10_000, partitions: 1 }
]
const byHand: Readonly<Record<"bare" | "fenced" | "ordered", HandOptions>> = {
  bare: { fenced: false, ordered: false },
  fenced: { fenced: true, ordered: false },
  ordered: { fenced: false, ordered: true }
}
type Contestant = keyof typeof byHand | "keyfold"
const contestants: readonly Contestant[] = ["bare", "fenced", "ordered", "keyfold"]

interface Run extends Timed {
  readonly outputs: number
  readonly traffic: Traffic
}

interface Case {
  readonly place: SessionsPlace
  readonly runs: Readonly<Record<Contestant, readonly Run[]>>
  readonly profile: Profile
}

export const throughputBench = async (servers: BenchServers): Promise<void> => {
  const bench = new ThroughputBench(servers, await jetstreamManager(servers.natsClient))
  const found: Case[] = []
  for (const { users, partitions } of cases) found.push(await bench.measure({ runtime: servers.runtime, users, partitions }))
  printSpeed(found)
  printTraffic(found)
  printProfile(found)
}

class ThroughputBench {
  readonly #servers: BenchServers
  readonly #jsm: JetStreamManager
  #names = 0

  constructor(servers: BenchServers, jsm: JetStreamManager) {
    this.#servers = servers
    this.#jsm = jsm
  }

  async measure(place: SessionsPlace): Promise<Case> {
    await fill(place, clicks)
    const runs: Record<Contestant, Run[]> = { bare: [], fenced: [], ordered: [], keyfold: [] }
    for (const contestant of ["bare", "keyfold"] as const) await this.#run(place, contestant)
    for (let round = 0; round < rounds; round++) {
      for (const contestant of contestants) runs[contestant].push(await this.#run(place, contestant))
    }
    const outputs = new Set(Object.values(runs).flatMap((each) => each.map((run) => run.outputs)))
    if (outputs.size !== 1) throw new Error(`the runs put out different numbers of sessions: ${[...outputs].join(", ")}`)
    const { profile } = await profiled(() => this.#run(place, "keyfold"))
    for (let partition = 0; partition < place.partitions; partition++) await this.#jsm.streams.delete(`${inputName(place)}-${partition}`)
    return { place, runs, profile }
  }

  async #run(place: SessionsPlace, contestant: Contestant): Promise<Run> {
    const name = `${contestant}-${++this.#names}`
    const before = await this.#servers.traffic()
    const run = contestant === "keyfold" ? await runByKeyfold(place, name) : await this.#runByHand(place, name, byHand[contestant])
    const traffic = trafficBetween(before, await this.#servers.traffic())
    await this.#clean()
    return { ...run, traffic }
  }

  async #runByHand(place: SessionsPlace, name: string, options: HandOptions): Promise<Timed & { readonly outputs: number }> {
    const counts: number[] = []
    for (let partition = 0; partition < place.partitions; partition++) {
      counts.push((await this.#jsm.streams.info(`${inputName(place)}-${partition}`)).state.messages)
    }
    const stopwatch = new Stopwatch()
    const outputs = await runByHand({
      ...options,
      nats: this.#servers.natsClient,
      redis: this.#servers.redisClient,
      input: inputName(place),
      output: outputName,
      outputPartitions,
      counts,
      name,
      began: stopwatch.begin
    })
    return { ...stopwatch.end(), outputs }
  }

  /** So that no run finds more on the servers than the one before it. */
  async #clean(): Promise<void> {
    await this.#servers.redisClient.flushall()
    for (let partition = 0; partition < outputPartitions; partition++) await this.#jsm.streams.purge(`${outputName}-${partition}`)
  }
}

// ---- what is printed

const median = (values: readonly number[]): number => values.toSorted((left, right) => left - right)[values.length >> 1] as number
const whole = (value: number): string => Math.round(value).toLocaleString("en")
const cpuUs = ({ cpuSeconds }: Timed): number => (cpuSeconds * 1_000_000) / clicks
const nameOf = ({ place: { users, partitions } }: Case): string => `${users.toLocaleString("en")} users, ${partitions}p`

const printSpeed = (found: readonly Case[]): void => {
  process.stdout.write(
    `\nOne worker over a log of ${clicks.toLocaleString("en")} clicks of about 100 bytes, sessionized (median of ${rounds} rounds). By hand: bare, ` +
      "with a fence, with results in order. Events a second; microseconds of client processor time per event; bare over keyfold in the same round\n"
  )
  const widths = [22, 12, 9, 9, 9, 9, 8, 8, 8, 8, 8, 8, 8]
  const speeds = contestants.map((contestant) => `${contestant}/s`)
  process.stdout.write(`${row(["", "results/1,000", ...speeds, "ratio", ...contestants.map((name) => `${name} us`), "ratio"], widths)}\n`)
  for (const each of found) {
    const { runs } = each
    const of = (contestant: Contestant, pick: (run: Run) => number): number => median(runs[contestant].map(pick))
    const ratio = (pick: (run: Run) => number): string =>
      `${fixed(median(runs.keyfold.map((run, round) => (pick(runs.bare[round] as Run) / pick(run)) * 100)), 0)} %`
    const speed = contestants.map((contestant) => whole(clicks / of(contestant, ({ seconds }) => seconds)))
    const cpu = contestants.map((contestant) => fixed(of(contestant, cpuUs), 1))
    const results = fixed(((runs.keyfold[0]?.outputs ?? 0) / clicks) * 1_000, 0)
    process.stdout.write(`${row([nameOf(each), results, ...speed, ratio(({ seconds }) => seconds), ...cpu, ratio(cpuUs)], widths)}\n`)
  }
}

const printTraffic = (found: readonly Case[]): void => {
  process.stdout.write("\nWhat 1,000 events ask of the servers, start and end of the run included: by hand (bare) / keyfold\n")
  const widths = [22, 16, 18, 18, 18, 18]
  const columns = ["Redis commands", "Redis KB in", "Redis script ms", "NATS messages in", "NATS messages out"]
  process.stdout.write(`${row(["", ...columns], widths)}\n`)
  for (const each of found) {
    const both = (pick: (traffic: Traffic) => number, digits: number): string =>
      (["bare", "keyfold"] as const)
        .map((contestant) => fixed((median(each.runs[contestant].map(({ traffic }) => pick(traffic))) / clicks) * 1_000, digits))
        .join(" / ")
    const cells = [
      both(({ redisCommands }) => redisCommands, 1),
      both(({ redisBytesIn }) => redisBytesIn / 1_000, 1),
      both(({ redisUs }) => redisUs / 1_000, 2),
      both(({ natsIn }) => natsIn, 0),
      both(({ natsOut }) => natsOut, 0)
    ]
    process.stdout.write(`${row([nameOf(each), ...cells], widths)}\n`)
  }
}

const printProfile = (found: readonly Case[]): void => {
  process.stdout.write("\nWhere keyfold's time goes: self time in a sampled run, microseconds per event\n")
  const widths = [34, ...found.map(() => 20)]
  process.stdout.write(`${row(["", ...found.map(nameOf)], widths)}\n`)
  const groups = [...new Set(found.flatMap(({ profile }) => profile.groups.map(({ name }) => name)))]
  const us = ({ profile }: Case, group: string): number => ((profile.groups.find(({ name }) => name === group)?.ms ?? 0) * 1_000) / clicks
  for (const group of groups) process.stdout.write(`${row([group, ...found.map((each) => fixed(us(each, group)))], widths)}\n`)
}
