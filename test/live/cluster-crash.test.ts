// Goal: however workers die, stall or come late, each request counts once, each session comes out once, and a worker that has lost a
// partition does no harm.
// Method: workers are processes over real servers; a feeder publishes the log at a pace while they are killed with SIGKILL or stopped with
// SIGSTOP for longer than their lease. In the end the sessions must be those that sorting the log finds, and the streams themselves must
// hold no copy that a foreign reader would see. Rerun one case with SEED=<n>; KEYFOLD_TEST=full kills 100 times.
import { jetstreamManager } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import { publisher, type Runtime, read, type Topic } from "keyfold"
import { describe, expect } from "vitest"
import { duplicateWindowMs } from "../../src/model/jetstream-names.ts"
import { type Cluster, deadOf, finish, startCluster, testOnOwnServers as test } from "../fixtures/cluster.ts"
import { chained, direct, sessions } from "../fixtures/jobs.ts"
import { expectNumbered } from "../fixtures/numbered.ts"
import { bytewise, requestLog, sessionLine } from "../fixtures/requests.ts"
import { Feeder, rowsOf, untilAllWork, untilWorks, Workers } from "../fixtures/siege.ts"
import { type Child, randomFrom, seedOr, sleep, until } from "../fixtures/world.ts"
import { pauseProcess } from "../servers/pause.ts"
import { natsVersionsForLong } from "../servers/versions.ts"

const isFull = process.env["KEYFOLD_TEST"] === "full"
const seed = seedOr(20_140_109)
const log = requestLog(seed)
const minutes = isFull ? 12 : 3

/** Values in order, and how many records there are in all: without copies both counts are the same. */
const recordsOf = async <T>(runtime: Runtime, of: Topic<T>): Promise<{ readonly values: T[]; readonly stored: number }> => {
  const values: T[] = []
  const lastPositions = new Map<number, number>()
  for await (const { value, info } of read(runtime, of)) {
    values.push(value)
    lastPositions.set(info.partition, info.position)
  }
  return { values, stored: [...lastPositions.values()].reduce((sum, position) => sum + position, 0) }
}

const expectExact = async (cluster: Cluster): Promise<void> => {
  expect(await finish(cluster.runtime, direct), "late rows").toBe(0)
  const { values, stored } = await recordsOf(cluster.runtime, sessions)
  expect(bytewise(values.map(sessionLine))).toEqual(log.sessions)
  for (const [key, ofKey] of Map.groupBy(values, (session) => session.key)) {
    const starts = ofKey.map((session) => session.start)
    expect(starts, key).toEqual(starts.toSorted((a, b) => a - b))
  }
  expect(stored, "records in the streams, copies included").toBe(values.length)
  expect(await deadOf(cluster.runtime, "direct")).toEqual([])
}

const expectAllNumbered = async (cluster: Cluster): Promise<void> => {
  expect(await finish(cluster.runtime, chained), "late rows").toBe(0)
  await expectNumbered(cluster.runtime, log)
}

describe(`three workers over ${log.name} (SEED=${seed})`, () => {
  const kills = isFull ? 100 : 6
  const killMsEvery = isFull ? 1_000 : 700

  test.each([
    ["direct", expectExact],
    ["chained", expectAllNumbered]
  ] as const)(
    `a worker is killed every second or so, ${kills} times, and replaced: %s`,
    { timeout: minutes * 60_000 },
    async (name, expectAll) => {
      const random = randomFrom(seed)
      await using cluster = await startCluster({ lease: "2 seconds" })
      const feeder = new Feeder(cluster.place, log)
      await feeder.ready()
      const workers = new Workers(cluster.place, name)
      // The rest is for the drops while a victim is waited for.
      const portion = Math.ceil(log.lines.length / 2 / kills)
      for (let worker = 0; worker < 3; worker++) workers.add()
      await Promise.all(workers.running.map((worker) => worker.says("started", 60_000)))
      let busyKills = 0
      for (let kill = 1; kill <= kills; kill++) {
        const index = Math.floor(random() * 3)
        // Some die before they have begun.
        if (random() < 0.7) await untilWorks(workers.running[index] as Child, feeder)
        await feeder.fed()
        // A portion takes longer than the time between two kills.
        feeder.feed(portion, Math.ceil((killMsEvery * 20 * 1.5) / portion))
        await sleep(killMsEvery * (0.5 + random()))
        expect(workers.faults).toEqual([])
        const victim = await workers.replace(index)
        if (feeder.isFeeding && rowsOf(victim) > 0) busyKills += 1
      }
      await feeder.rest()
      expect(workers.faults).toEqual([])
      await workers.killAll()
      console.log(`SEED=${seed}: ${kills} kills, ${busyKills} of them of a worker that had rows, while more came`)
      expect(busyKills).toBeGreaterThan(kills / 4)
      await expectAll(cluster)
    }
  )
})

/** Creates the results' topic, and sets for how long its streams know a message id. */
const keepIdsFor = async (cluster: Cluster, windowMs: number): Promise<void> => {
  await (await publisher(cluster.runtime, sessions))[Symbol.asyncDispose]()
  const connection = await connect({ servers: cluster.nats.url })
  const { streams } = await jetstreamManager(connection)
  let updated = 0
  for await (const { config } of streams.list("sessions.>")) {
    const { config: after } = await streams.update(config.name, { ...config, duplicate_window: windowMs * 1_000_000 })
    expect(after.duplicate_window).toBe(windowMs * 1_000_000)
    updated += 1
  }
  expect(updated).toBeGreaterThan(0)
  await connection.close()
}

describe.each(natsVersionsForLong())(`nats-server %s: a worker that is stopped for longer than its lease (SEED=${seed})`, (natsVersion) => {
  const pauses = isFull ? 15 : 3
  const pauseMs = 1_500
  /** What is asked of the server is harder when it has forgotten the message ids from before the pause. */
  const windows = isFull ? [duplicateWindowMs, pauseMs / 3] : [pauseMs / 3]
  const name = `P11, P17, P21: ${pauses} times; its late writes are refused, and it works again; message ids are kept for %i ms`

  test.for(windows)(name, { timeout: minutes * 60_000 }, async (windowMs) => {
    const random = randomFrom(seed + 1)
    await using cluster = await startCluster({ natsVersion, lease: "1 second" })
    await keepIdsFor(cluster, windowMs)
    const feeder = new Feeder(cluster.place, log)
    await feeder.ready()
    const workers = new Workers(cluster.place, "direct")
    for (let worker = 0; worker < 2; worker++) workers.add()
    const portion = Math.ceil(log.lines.length / (pauses + 2))
    for (let pause = 0; pause < pauses; pause++) {
      await feeder.fed()
      feeder.feed(portion, Math.ceil(100_000 / portion))
      const zombie = workers.running[pause % 2] as (typeof workers.running)[number]
      const other = workers.running[(pause + 1) % 2] as (typeof workers.running)[number]
      const before = rowsOf(zombie)
      await until("the one that will be stopped works", () => rowsOf(zombie) > before)
      await sleep(random() * 500)
      pauseProcess(zombie.pid)
      await sleep(pauseMs) // longer than the lease: the other one may take everything now
      const taken = rowsOf(other)
      await until("the other one works on", () => rowsOf(other) > taken || !feeder.isFeeding)
      process.kill(zombie.pid, "SIGCONT")
      expect(workers.faults).toEqual([])
    }
    await untilAllWork(workers, feeder)
    await feeder.rest()
    expect(workers.faults).toEqual([])
    await workers.killAll()
    await expectExact(cluster)
  })
})
