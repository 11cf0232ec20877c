// Goal: the typical messages in docs/errors.md are what keyfold says today.
// Method: each error that a few lines can provoke is provoked, and its message is looked for in the section of its code.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { job, KeyfoldError, publisher, start, toDurationMs, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { groupState, harness, memory } from "keyfold/testing"
import { afterAll, expect, test } from "vitest"
import { pageAt } from "./pages.ts"

interface Click {
  readonly user: string
  readonly at: number
}

const directory = mkdtempSync(join(tmpdir(), "keyfold-doc-"))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const clicks = topic("clicks", { codec: json<Click>(), key: (click) => click.user, partitions: 4 })

const sums = (version: number) =>
  job("sums")
    .from(clicks)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>({ version }) }, (_user, events, state) => {
      state.update(events.length)
      return []
    })
    .to()

const publishTo = async (runtime: ReturnType<typeof memory>): Promise<void> => {
  const out = await publisher(runtime, clicks)
  await out.send({ user: "u", at: 1 })
  await out[Symbol.asyncDispose]()
}

const deadLetter = async (event: unknown, result: unknown): Promise<never> => {
  const bench = await harness(
    job("bad")
      .from(clicks)
      .withWatermark((click) => click.at, 0)
      .groupByKey()
      .mapGroupsWithState({ state: json<unknown>() }, (_user, _events, state) => {
        if (result instanceof Error) throw result
        state.update(result)
        return 1
      })
      .to()
  )
  const { dead } = await bench.turn([event as Click])
  throw new KeyfoldError(dead[0]?.code as "decode-failed", dead[0]?.message ?? "")
}

/** What of a message differs from place to place. */
const placeless = (text: string): string => text.replaceAll(directory, "/srv").replace(/(format) \d+,/, "$1 2,")

const provoked: Readonly<Record<string, () => unknown>> = {
  "illegal-argument": () => toDurationMs("10s", 1, "the gap"),
  "unsupported-operation": () => groupState().setTimeoutDuration("1 second"),
  "no-state": () => groupState().get(),
  "job-invalid": () =>
    job("late")
      .from(clicks)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time", late: "keep" }, () => [])
      .to(),
  "option-invalid": () => start(sums(1), { runtime: memory(), limits: { turnEventsMax: 0 } }),
  "topic-mismatch": async () => {
    const runtime = memory()
    await publishTo(runtime)
    await publisher(runtime, topic("clicks", { codec: json<Click>(), key: (click) => click.user, partitions: 8 }))
  },
  "schema-incompatible": async () => {
    const runtime = memory()
    await publishTo(runtime)
    await (await start(sums(1), { runtime, trigger: "available-now" })).awaitTermination()
    const partitions = [0, 1, 2, 3].map((partition) => `sums/stage-1/${partition}`)
    try {
      await start(sums(2), { runtime })
    } catch (thrown) {
      const { code, message } = thrown as KeyfoldError
      throw new KeyfoldError(
        code,
        partitions.reduce((text, name) => text.replace(name, "sums/stage-1/0"), message)
      )
    }
  },
  "key-invalid": () => deadLetter({ at: 1 }, 1),
  "event-time-invalid": () => deadLetter({ user: "u" }, 1),
  "encode-failed": () => deadLetter({ user: "u", at: 1 }, { a: Number.NaN }),
  "function-failed": () => deadLetter({ user: "u", at: 1 }, new Error("boom")),
  "directory-damaged": async () => {
    const damaged = join(directory, "data")
    await publishTo(embedded(damaged))
    writeFileSync(join(damaged, "keyfold.db"), "no database")
    await publishTo(embedded(damaged))
  },
  "format-newer": async () => {
    const newer = join(directory, "newer")
    await publishTo(embedded(newer))
    const database = new DatabaseSync(join(newer, "keyfold.db"))
    database.exec("PRAGMA user_version = 9")
    database.close()
    try {
      await publishTo(embedded(newer))
    } catch (thrown) {
      const { code, message } = thrown as KeyfoldError
      throw new KeyfoldError(code, message.replace("/newer/", "/data/"))
    }
  }
}

const sectionOf = (code: string): string =>
  pageAt("docs/errors.md")
    .text.split(/^### /m)
    .find((section) => section.startsWith(`${code}\n`)) ?? ""

test.each(Object.entries(provoked))("%s says what the page shows", async (code, provoke) => {
  const error = await Promise.resolve()
    .then(provoke)
    .then(
      () => undefined,
      (thrown: unknown) => thrown
    )
  expect(error).toBeInstanceOf(KeyfoldError)
  expect((error as KeyfoldError).code).toBe(code)
  const message = code === "job-invalid" ? (error as KeyfoldError).faults[0]?.message : (error as KeyfoldError).message
  expect(sectionOf(code)).toContain(placeless(message ?? ""))
})
