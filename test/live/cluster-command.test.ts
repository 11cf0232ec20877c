// Goal: `keyfold run --workers 3` on servers is three workers that share a job, one of which may die; it drains at a signal.
// Method: the command itself, on real servers, over the log; the sessions must be exact.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { publisher } from "keyfold"
import { afterAll, beforeAll, expect } from "vitest"
import { type Cluster, startCluster, testOnOwnServers as test, valuesOf } from "../fixtures/cluster.ts"
import { type Request, requests, sessions } from "../fixtures/jobs.ts"
import { bytewise, requestLog, sessionLine } from "../fixtures/requests.ts"
import { Child, repository, seedOr, sleep, until } from "../fixtures/world.ts"

const seed = seedOr(20_140_112)
const log = requestLog(seed)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster()
})
afterAll(() => cluster[Symbol.asyncDispose]())

const keyfold = (...words: string[]): Child =>
  new Child([join(repository, "src/cli/main.ts"), ...words, "--nats", cluster.nats.url, "--redis", cluster.redis.url])

const jobs = join(repository, "test/fixtures/jobs.ts")

test(`three workers, one of them killed; SIGTERM drains them all; --until-caught-up and tail see the rest (SEED=${seed})`, {
  timeout: 120_000
}, async () => {
  const run = keyfold("run", jobs, "--job", "direct", "--workers", "3")
  await until("three workers run", () => [1, 2, 3].every((number) => run.stderr.includes(`[worker ${number}] running direct on`)))
  await using out = await publisher(cluster.runtime, requests)
  const half = Math.floor(log.requests.length / 2)
  const send = async (part: readonly Request[]): Promise<void> => {
    for (let index = 0; index < part.length; index++) {
      void out.send(part[index] as Request)
      if (index % 100 === 99) {
        await out.flush()
        await sleep(5)
      }
    }
    await out.flush()
  }
  await send(log.requests.slice(0, half))
  await until("sessions come out", async () => (await valuesOf(cluster.runtime, sessions).catch(() => [])).length > 0)
  process.kill(childrenOf(run.pid)[1] as number, "SIGKILL")
  await until("it is started again", () => /was ended by SIGKILL: it starts again/.test(run.stderr))
  await send(log.requests.slice(half))
  run.process.kill("SIGTERM")
  expect(await run.ended, run.stderr).toBe(0)

  const rest = keyfold("run", jobs, "--job", "direct", "--until-caught-up", "--close")
  expect(await rest.ended, rest.stderr).toBe(0)
  expect(rest.stderr).toMatch(/direct caught up after .* 0 late, 0 dead/)
  const tail = keyfold("tail", jobs, "sessions")
  expect(await tail.ended, tail.stderr).toBe(0)
  const found = tail.lines.map((line) => sessionLine(JSON.parse(line)))
  expect(bytewise(found)).toEqual(log.sessions)
})

test("a server that is not there is one line and exit code 1, without the password", async () => {
  const run = new Child([
    ...[join(repository, "src/cli/main.ts"), "run", jobs, "--job", "direct"],
    ...["--nats", "nats://me:hidden@127.0.0.1:1", "--redis", cluster.redis.url]
  ])
  expect(await run.ended).toBe(1)
  expect(run.stderr).toMatch(/127\.0\.0\.1:1/)
  expect(run.stderr).not.toContain("hidden")
  expect(run.stderr.trim().split("\n").length).toBeLessThan(4)
})

/** The workers of a supervisor, oldest first. */
const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number)
