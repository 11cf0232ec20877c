// Goal: records that are gone before they were read stop the query, or are counted when the job says so; never silence (P3, guarantee 4).
// Method: an embedded directory whose log is cut with SQLite's own means while nobody runs.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { type Job, job, publisher, type StartOptions, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { afterEach, beforeEach, describe, expect, test } from "vitest"

interface Event {
  readonly key: string
  readonly at: number
}

const events = topic("events", { codec: json<Event>(), key: (event) => event.key, partitions: 1 })
const counting: Job = job("counting")
  .from(events)
  .groupByKey()
  .mapGroupsWithState({ state: json<number>() }, (key, found, state) => {
    state.update((state.getOption() ?? 0) + found.length)
    return { key, count: state.get() }
  })
  .to()

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "keyfold-loss-"))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const send = async (count: number): Promise<void> => {
  const out = await publisher(embedded(directory), events)
  for (let index = 0; index < count; index++) void out.send({ key: "k", at: index })
  await out[Symbol.asyncDispose]()
}

const cut = (where: string): void => {
  const database = new DatabaseSync(join(directory, "keyfold.db"))
  const table = database.prepare("SELECT name FROM sqlite_master WHERE name LIKE 'records!_%' ESCAPE '!' ORDER BY name LIMIT 1").get() as {
    name: string
  }
  database.exec(`DELETE FROM ${table.name} WHERE ${where}`)
  database.close()
}

const run = async (options: Partial<StartOptions> = {}) => {
  const query = await start(counting, { runtime: embedded(directory), trigger: "available-now", ...options })
  await query.awaitTermination()
  return (query as unknown as { readonly totals: { readonly inputRows: number; readonly lost: number } }).totals
}

describe("a log that begins behind the position", () => {
  beforeEach(async () => {
    await send(10)
    await run()
    await send(10)
    cut("position <= 15")
  })

  test("stops the query with source-gap, which names the topic and the positions", async () => {
    await expect(run()).rejects.toMatchObject({ code: "source-gap", message: expect.stringMatching(/events\/0.*10.*16/) })
  })

  test("is skipped and counted with failOnDataLoss: false", async () => {
    expect(await run({ failOnDataLoss: false })).toMatchObject({ inputRows: 5, lost: 5 })
  })
})

describe("a log that ends before the position", () => {
  beforeEach(async () => {
    await send(10)
    await run()
    cut("position > 6")
  })

  test("refuses the start with source-gap, also of a bounded run", async () => {
    await expect(run()).rejects.toMatchObject({ code: "source-gap", message: expect.stringMatching(/events\/0 ends at position 6.*10/) })
  })

  test("goes on from its end with failOnDataLoss: false", async () => {
    await run({ failOnDataLoss: false })
    await send(3)
    expect(await run({ failOnDataLoss: false })).toMatchObject({ inputRows: 3 })
  })
})
