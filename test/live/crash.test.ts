// Goal: however often processes die, each request counts once and each session comes out once.
// Method: a feeder process publishes the real log (KEYFOLD_TEST_DATA, else a seeded look-alike) bit by bit, while a process that runs the
// job is killed with SIGKILL at random moments and started again. At the end the sessions must be, byte for byte, those that sorting the
// log finds. Rerun one case with SEED=<n>; KEYFOLD_TEST=full kills 100 times.
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { type Job, publisher, type Query, read, start, type Topic, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { describe, expect, test } from "vitest"
import { chained, delivered, deliveriesIn, direct, numbered, type Request, requests, sessions } from "../fixtures/jobs.ts"
import { bytewise, requestLog, sessionLine } from "../fixtures/requests.ts"
import { Child, freshDirectory, randomFrom, repository, seedOr, sleep, until } from "../fixtures/world.ts"

const isFull = process.env["KEYFOLD_TEST"] === "full"
const seed = seedOr(20_140_107)
const log = requestLog(seed)
const minutes = isFull ? 10 : 3

const valuesOf = async <T>(directory: string, of: Topic<T>): Promise<T[]> => {
  const values: T[] = []
  for await (const { value } of read(embedded(directory), of)) values.push(value)
  return values
}

const deadOf = (directory: string, job: string): Promise<unknown[]> =>
  valuesOf(directory, topic(`${job}-dead`, { codec: json<{ readonly code: string }>(), key: () => "", partitions: 1 }))

/** The rest of the log, every session closed. Answers how many rows were late. */
const finish = async (directory: string, job: Job): Promise<number> => {
  const query = await start(job, { runtime: embedded(directory), trigger: "available-now", atEnd: "close" })
  await query.awaitTermination()
  return lateOf(query)
}

const lateOf = (query: Query): number => (query as unknown as { totals: { late: number } }).totals.late

interface Siege {
  /** How a life of the victim begins. */
  readonly words: readonly string[]
  /** A line that it says when it has made progress. */
  readonly progress: string
  readonly kills: number
  readonly random: () => number
}

const script = (name: string): string => join(repository, "test/fixtures", name)

/** Feeds the log while the victim is killed and restarted. Answers how many kills came while there was work on the way. */
const besiege = async (directory: string, siege: Siege): Promise<{ readonly busyKills: number; readonly rows: number }> => {
  const { random, kills } = siege
  const file = freshDirectory()
  writeFileSync(file, log.lines.join("\n"))
  const feeder = new Child([script("feed.ts"), directory, file])
  await feeder.says("ready")
  const portion = Math.ceil(log.lines.length / (kills + 1))
  let busyKills = 0
  let rows = 0
  for (let life = 1; life <= kills; life++) {
    const fed = Math.min(log.lines.length, life * portion)
    const victim = new Child(siege.words)
    // Every sixth life ends as it begins: while files are opened and journals recovered.
    if (life % 6 === 0) {
      feeder.tell(`${portion} 1`)
      await sleep(100 + random() * 400)
    } else {
      await victim.says("started")
      feeder.tell(`${portion} 5`)
      await victim.says(siege.progress)
      // A life's portion takes the feeder the less time the more lives there are.
      await sleep((random() * 3_600) / kills)
    }
    const isFeeding = !feeder.lines.includes(`fed ${fed}`)
    expect(victim.hasEnded, `it ended by itself: ${victim.lines.at(-1)} ${victim.stderr}`).toBe(false)
    victim.kill()
    await victim.ended
    if (isFeeding && victim.lines.some((line) => line.startsWith(siege.progress))) busyKills += 1
    rows += Number(victim.lines.findLast((line) => line.startsWith("rows "))?.split(" ")[1] ?? 0)
    await feeder.says(`fed ${fed}`)
  }
  feeder.tell(`${log.lines.length} 0`)
  await feeder.says(`fed ${log.lines.length}`)
  feeder.kill()
  return { busyKills, rows }
}

describe(`a process that is killed again and again, over ${log.name} (SEED=${seed})`, () => {
  const kills = isFull ? 100 : 16
  /** How many must land in the middle of work for the test to mean anything; how many do depends on the machine's pace. */
  const busyKillsLeast = Math.floor(kills / 3)

  test(`sessions are exact after ${kills} kills`, { timeout: minutes * 60_000 }, async () => {
    const directory = freshDirectory()
    const words = [script("run-queries.ts"), directory, "direct"]
    const { busyKills, rows } = await besiege(directory, { words, progress: "rows ", kills, random: randomFrom(seed) })
    console.log(`SEED=${seed}: ${kills} kills, ${busyKills} of them in the middle of work, after ${rows} rows read in all lives`)
    expect(busyKills).toBeGreaterThanOrEqual(busyKillsLeast)

    expect(await finish(directory, direct), "late rows").toBe(0)
    const lines = (await valuesOf(directory, sessions)).map(sessionLine)
    expect(bytewise(lines)).toEqual(log.sessions)
    expect(await deadOf(directory, "direct")).toEqual([])
  })

  const chainKills = isFull ? 100 : 10

  test(`two hops and a sink of the user's own, in one process, after ${chainKills} kills`, { timeout: minutes * 60_000 }, async () => {
    const directory = freshDirectory()
    const file = freshDirectory()
    const words = [script("run-queries.ts"), directory, "chained,delivered", file]
    const { busyKills } = await besiege(directory, { words, progress: "rows ", kills: chainKills, random: randomFrom(seed + 1) })
    console.log(`SEED=${seed}: ${chainKills} kills, ${busyKills} of them in the middle of work`)
    expect(busyKills).toBeGreaterThan(chainKills / 3)

    expect(await finish(directory, chained), "late rows").toBe(0)
    const found = await valuesOf(directory, numbered)
    expect(bytewise(found.map(sessionLine))).toEqual(log.sessions)
    for (const [group, ofGroup] of Map.groupBy(found, (session) => session.group)) {
      expect(
        ofGroup.map(({ number }) => number),
        `the state of ${group}`
      ).toEqual(ofGroup.map((_, index) => index + 1))
    }
    expect(await deadOf(directory, "chained")).toEqual([])

    expect(await finish(directory, delivered(file)), "late rows").toBe(0)
    const calls = deliveriesIn(file)
    const byTurn = Map.groupBy(calls, (call) => call.id)
    for (const [id, repeated] of byTurn) for (const call of repeated) expect(call, id).toEqual(repeated[0])
    const remembered = [...byTurn.values()].flatMap((repeated) => repeated[0]?.values ?? [])
    expect(bytewise(remembered.map(sessionLine))).toEqual(log.sessions)
    console.log(`the sink was called ${calls.length} times for ${byTurn.size} turns`)
    expect(calls.length, "no turn was ever repeated: this proves nothing").toBeGreaterThan(byTurn.size)
  })

  const commandKills = isFull ? 20 : 3

  test(`keyfold run, after ${commandKills} kills`, { timeout: minutes * 60_000 }, async () => {
    const directory = freshDirectory()
    const random = randomFrom(seed + 2)
    const out = await publisher(embedded(directory), requests)
    const portion = Math.ceil(log.requests.length / commandKills)
    for (let life = 0; life < commandKills; life++) {
      const victim = new Child([join(repository, "src/cli/main.ts"), "run", script("jobs.ts"), "--job", "direct", "--data", directory])
      await until(`keyfold run begins: ${victim.stderr}`, () => victim.stderr.includes("running direct"))
      const before = (await valuesOf(directory, sessions)).length
      const part = log.requests.slice(life * portion, (life + 1) * portion)
      let killed = false
      const feeding = feed(out, part, () => killed)
      if (life > 0) await until("it has put sessions out", async () => (await valuesOf(directory, sessions)).length > before)
      await sleep(random() * 200)
      expect(victim.hasEnded, victim.stderr).toBe(false)
      victim.kill()
      await victim.ended
      killed = true
      await feeding
    }
    await out[Symbol.asyncDispose]()
    const last = new Child([
      ...[
        join(repository, "src/cli/main.ts"),
        "run",
        script("jobs.ts"),
        "--job",
        "direct",
        "--until-caught-up",
        "--close",
        "--data",
        directory
      ]
    ])
    expect(await last.ended, last.stderr).toBe(0)
    expect(last.stderr).toMatch(/ 0 late, 0 dead/)
    expect(bytewise((await valuesOf(directory, sessions)).map(sessionLine))).toEqual(log.sessions)
  })
})

/** Slowly at first, and the rest at once when nobody reads any more. */
const feed = async (
  out: { send(request: Request): Promise<void>; flush(): Promise<void> },
  part: readonly Request[],
  hurry: () => boolean
): Promise<void> => {
  for (let index = 0; index < part.length; index++) {
    void out.send(part[index] as Request)
    if (index % 50 === 49) {
      await out.flush()
      if (!hurry()) await sleep(3)
    }
  }
  await out.flush()
}

describe(`the log shuffled, no row 30 s or more behind the newest one before it (SEED=${seed})`, () => {
  const random = randomFrom(seed + 3)
  // A row goes before another only if its time and delay are together not larger, so none is 30 s behind.
  const shuffled = log.requests
    .map((request) => ({ request, at: request.at + Math.floor(random() * 30_000) }))
    .sort((a, b) => a.at - b.at)
    .map(({ request }) => request)

  test("is as disordered as it may be", () => {
    let newest = 0
    let worst = 0
    for (const { at } of shuffled) {
      newest = Math.max(newest, at)
      worst = Math.max(worst, newest - at)
    }
    expect(worst).toBeLessThan(30_000)
    expect(worst).toBeGreaterThan(20_000)
  })

  test("one bounded run over 16 partitions is exact", async () => {
    const directory = freshDirectory()
    await using out = await publisher(embedded(directory), requests)
    await feed(out, shuffled, () => true)
    expect(await finish(directory, direct), "late rows").toBe(0)
    expect(bytewise((await valuesOf(directory, sessions)).map(sessionLine))).toEqual(log.sessions)
    expect(await deadOf(directory, "direct")).toEqual([])
  })

  test.each([
    ["direct", direct],
    ["chained", chained]
  ] as const)("several bounded runs, each over what has come meanwhile, are exact: %s", async (name, job) => {
    const directory = freshDirectory()
    const cutting = randomFrom(seed + 4)
    await using out = await publisher(embedded(directory), requests)
    const cuts = Array.from({ length: 5 }, () => Math.floor(cutting() * shuffled.length)).sort((a, b) => a - b)
    let late = 0
    for (const [index, cut] of cuts.entries()) {
      await feed(out, shuffled.slice(cuts[index - 1] ?? 0, cut), () => true)
      const query = await start(job, { runtime: embedded(directory), trigger: "available-now" })
      await query.awaitTermination()
      late += lateOf(query)
    }
    await feed(out, shuffled.slice(cuts.at(-1)), () => true)
    expect((await finish(directory, job)) + late, "late rows").toBe(0)
    const lines = name === "direct" ? await valuesOf(directory, sessions) : await valuesOf(directory, numbered)
    expect(bytewise(lines.map(sessionLine))).toEqual(log.sessions)
    expect(await deadOf(directory, name)).toEqual([])
  })
})
