// Goal: the fraud detection example does on servers what it does in one process.
// Method: its own cases (examples/02-fraud-detection/fraud-cases.ts), on real servers of each version; they share one store.
import { afterAll, beforeAll, describe, test } from "vitest"
import { fraudCases } from "../../examples/02-fraud-detection/fraud-cases.ts"
import { type Cluster, startCluster } from "../fixtures/cluster.ts"
import { natsVersions, redisVersions } from "../servers/versions.ts"

describe.each(natsVersions())("nats-server %s", (natsVersion) => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await startCluster({ natsVersion, redisVersion: redisVersions()[0] as string })
  })
  afterAll(() => cluster[Symbol.asyncDispose]())

  test.each(Object.entries(fraudCases))("%s", (_, holds) => holds(cluster.runtime), 120_000)
})
