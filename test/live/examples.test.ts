// Goal: the examples do on servers what they do in one process, with one worker and with three.
// Method: the cases that come with the fraud example, and the job of the session example over the log whose true sessions are known
// (KEYFOLD_TEST_DATA, else a seeded look-alike); on real servers of each version, each run on a store of its own. Rerun with SEED=<n>.
import { publisher, start } from "keyfold"
import { describe, expect } from "vitest"
import sessionizeRequests, { requests, sessions } from "../../examples/01-sessionize/sessionize.ts"
import { fraudCases } from "../../examples/02-fraud-detection/fraud-cases.ts"
import { deadOf, startCluster, testOnOwnServers as test, valuesOf } from "../fixtures/cluster.ts"
import { bytewise, requestLog, sessionLine } from "../fixtures/requests.ts"
import { seedOr } from "../fixtures/world.ts"
import { natsVersionsForLong, redisVersions } from "../servers/versions.ts"

const seed = seedOr(20_140_113)
const log = requestLog(seed)
const redisVersion = redisVersions()[0] as string

describe.each(natsVersionsForLong())("nats-server %s", (natsVersion) => {
  test.each([1, 3])(`sessions of ${log.name}, %d at work (SEED=${seed})`, async (workers) => {
    await using cluster = await startCluster({ natsVersion, redisVersion })
    const { runtime } = cluster
    {
      await using out = await publisher(runtime, requests)
      for (const request of log.requests) void out.send(request)
      await out.flush()
    }
    const started = Array.from({ length: workers }, () => start(sessionizeRequests, { runtime, trigger: "available-now", atEnd: "close" }))
    for (const query of await Promise.all(started)) await query.awaitTermination()
    const found = await valuesOf(runtime, sessions)
    const lines = found.map(({ userId, requests: count, ...session }) => sessionLine({ key: userId, count, ...session }))
    expect(bytewise(lines)).toEqual(log.sessions)
    expect(await deadOf(runtime, "sessionize")).toEqual([])
  })

  for (const [name, holds] of Object.entries(fraudCases)) {
    test.each([1, 3])(`${name}; %d at work`, { timeout: 120_000 }, async (workers) => {
      await using cluster = await startCluster({ natsVersion, redisVersion })
      await holds(cluster.runtime, workers)
    })
  }
})
