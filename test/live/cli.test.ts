// Goal: the command does what its help says, as a user meets it: real processes, a real directory, exit codes, stdout and stderr apart.
// Method: `src/cli/main.ts` over a small job module in a directory of its own, where "keyfold" is a link to this repository. Waits are
// for what a process prints, never for a time.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, describe, expect, test } from "vitest"

const repository = resolve(import.meta.dirname, "../..")
const folder = mkdtempSync(join(tmpdir(), "keyfold-cli-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
mkdirSync(join(folder, "node_modules"))
symlinkSync(repository, join(folder, "node_modules/keyfold"))
const file = (name: string, text: string | Uint8Array): string => {
  writeFileSync(join(folder, name), text)
  return name
}
file("package.json", '{ "type": "module" }')

const jobModule = file(
  "job.ts",
  `import { job, topic } from "keyfold"
import { bytes } from "keyfold/codecs/bytes"
import { json } from "keyfold/codecs/json"

interface Click { readonly user: string; readonly at: number }
interface Total { readonly user: string; readonly total: number }

export const clicks = topic("clicks", { codec: json<Click>(), key: (click) => click.user.toLowerCase(), partitions: 4 })
export const totals = topic("totals", { codec: json<Total>(), key: (total) => total.user, partitions: 2 })
export const raw = topic("raw", { codec: bytes(), key: () => "all", partitions: 1 })
export const never = topic("never", { codec: json<Total>(), key: (total) => total.user })

export default job("counter")
  .from(clicks)
  .withWatermark((click) => click.at, "0 seconds")
  .groupByKey()
  .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (user, events, state) {
    if (state.hasTimedOut) {
      yield { user, total: state.get() }
      state.remove()
      return
    }
    state.update((state.getOption() ?? 0) + events.length)
    state.setTimeoutTimestamp(Math.max(...events.map((click) => click.at)), "1 hour")
  })
  .to(totals)
`
)

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

class Running {
  readonly process: ChildProcessWithoutNullStreams
  readonly ended: Promise<Ended>
  stdout = ""
  stderr = ""

  constructor(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    const words = ["--conditions=keyfold-source", join(repository, "src/cli/main.ts"), ...args]
    const { KEYFOLD_DATA: _data, KEYFOLD_NATS: _nats, KEYFOLD_REDIS: _redis, NODE_OPTIONS: _options, ...inherited } = process.env
    this.process = spawn(process.execPath, words, { cwd: folder, env: { ...inherited, ...environment } })
    this.process.stdout.on("data", (chunk) => (this.stdout += String(chunk)))
    this.process.stderr.on("data", (chunk) => (this.stderr += String(chunk)))
    this.process.stdin.on("error", () => undefined) // it may leave before it has read everything
    this.ended = new Promise((resolve) => {
      this.process.on("close", (code) => resolve({ code, stdout: this.stdout, stderr: this.stderr }))
    })
  }

  /** Waits until it has printed something; fails when it ends without. */
  async says(text: string, where: "stdout" | "stderr" = "stderr"): Promise<void> {
    await expect
      .poll(() => (this.process.exitCode === null || this[where].includes(text) ? this[where] : `ended: ${this.stderr}`), {
        timeout: 90_000
      })
      .toContain(text)
  }
}

const keyfold = (...args: string[]): Promise<Ended> => new Running(args).ended

const fed = (input: string | Uint8Array, ...args: string[]): Promise<Ended> => {
  const running = new Running(args)
  running.process.stdin.end(input)
  return running.ended
}

const linesOf = (text: string): string[] => text.split("\n").filter((line) => line !== "")
const valuesOf = (text: string): unknown[] => linesOf(text).map((line) => JSON.parse(line) as unknown)

/** A data directory of the test's own. */
const data = (test: string): readonly [string, string] => ["--data", `data-${createHash("sha1").update(test).digest("hex").slice(0, 8)}`]

const click = (user: string, at: number): string => JSON.stringify({ user, at })

describe("events in, results out", () => {
  const dir = data("round trip")
  const total = (user: string, count: number): object => ({ user, total: count })

  test("publish, run, tail: a file, to the end, every timeout fired", async () => {
    const input = file("in.jsonl", `${Array.from({ length: 500 }, (_, index) => click(`u${index % 5}`, 1_000 + index)).join("\n")}\n`)
    const published = await keyfold("publish", jobModule, "clicks", input, ...dir)
    expect(published).toMatchObject({ code: 0, stdout: "" })
    expect(published.stderr).toContain("published 500 lines to clicks")

    const ran = await keyfold("run", jobModule, "--until-caught-up", "--close", ...dir)
    expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: "" })
    expect(ran.stderr).toMatch(/counter caught up after .*: 500 events .* 0 late, 0 dead\n$/)

    const tailed = await keyfold("tail", jobModule, "totals", ...dir)
    expect(tailed).toMatchObject({ code: 0, stderr: "" })
    const wanted = ["u0", "u1", "u2", "u3", "u4"].map((user) => total(user, 100))
    expect(valuesOf(tailed.stdout).toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))).toEqual(wanted)
  })

  test("a second run finds nothing to do, and nothing comes twice", async () => {
    const ran = await keyfold("run", jobModule, "--until-caught-up", "--close", ...dir)
    expect(ran, ran.stderr).toMatchObject({ code: 0 })
    expect(ran.stderr).toContain("0 events")
    expect(linesOf((await keyfold("tail", jobModule, "totals", ...dir)).stdout)).toHaveLength(5)
  })

  test("tail --meta says where each value lies, partition by partition", async () => {
    const { stdout } = await keyfold("tail", "--meta", jobModule, "clicks", ...dir)
    const rows = valuesOf(stdout) as {
      key: string
      partition: number
      position: number
      publishedAt: number
      headers: object
      value: { user: string }
    }[]
    expect(rows).toHaveLength(500)
    for (const row of rows) expect(row).toMatchObject({ key: row.value.user, headers: {}, publishedAt: expect.any(Number) })
    expect(rows.map(({ partition }) => partition)).toEqual(rows.map(({ partition }) => partition).toSorted((a, b) => a - b))
    const last = new Map<number, number>()
    for (const { partition, position } of rows) {
      expect(position).toBe((last.get(partition) ?? 0) + 1)
      last.set(partition, position)
    }
  })

  test("KEYFOLD_DATA names the directory", async () => {
    const { stdout } = await new Running(["tail", jobModule, "totals"], { KEYFOLD_DATA: dir[1] }).ended
    expect(linesOf(stdout)).toHaveLength(5)
  })

  test("explain prints the plan", async () => {
    const { code, stdout } = await keyfold("explain", jobModule)
    expect(code).toBe(0)
    expect(stdout).toContain("counter")
    expect(stdout).toContain("clicks")
    expect(stdout).toContain("totals")
  })
})

describe("lines that are no values", () => {
  const dir = data("bad lines")
  const lines = [`\ufeff${click("ann", 1)}`, "", "not json", '{"at":5}', `${click("bob", 2)}\r`, click("Zoë", 3)]

  test("go byte for byte to partition 0, are counted, and end among the dead letters", async () => {
    const input = Buffer.concat([Buffer.from(`${lines.join("\n")}\n`), Uint8Array.of(0x22, 0xff, 0x22)])
    const published = await fed(input, "publish", jobModule, "clicks", ...dir)
    expect(published, published.stderr).toMatchObject({ code: 0, stdout: "" })
    expect(published.stderr).toContain("published 6 lines to clicks")
    expect(published.stderr).toContain("3 of them went to partition 0 byte for byte")

    const ran = await keyfold("run", jobModule, "--until-caught-up", "--close", ...dir)
    expect(ran, ran.stderr).toMatchObject({ code: 0 })
    expect(ran.stderr).toContain("3 dead")
    const letters = valuesOf((await keyfold("tail", jobModule, "counter-dead", ...dir)).stdout) as { code: string; bytes: string }[]
    expect(letters.map(({ bytes }) => Buffer.from(bytes, "base64").toString("latin1"))).toEqual(["not json", '{"at":5}', '"ÿ"'])
    expect(letters.map(({ code }) => code)).toEqual(["decode-failed", "key-invalid", "decode-failed"])
    const users = (valuesOf((await keyfold("tail", jobModule, "totals", ...dir)).stdout) as { user: string }[]).map(({ user }) => user)
    expect(users.toSorted()).toEqual(["ann", "bob", "zoë"])
  })

  test("are named by tail, which goes on and exits with 1", async () => {
    const tailed = await keyfold("tail", jobModule, "clicks", ...dir)
    expect(tailed.code).toBe(1)
    expect(linesOf(tailed.stdout)).toHaveLength(3)
    expect(linesOf(tailed.stderr)).toHaveLength(3)
    expect(tailed.stderr).toContain("partition 0")
  })

  test("a topic of bytes takes any line, and tail prints base64", async () => {
    expect((await fed("hello\n", "publish", jobModule, "raw", "-", ...dir)).stderr).toContain("published 1 line to raw")
    expect(valuesOf((await keyfold("tail", jobModule, "raw", ...dir)).stdout)).toEqual([Buffer.from("hello").toString("base64")])
  })

  test("a line that no record can hold is left out, said, and the exit code is 1", async () => {
    const published = await fed(`"${"x".repeat(9_000_000)}"\n${click("ann", 9)}\n`, "publish", jobModule, "clicks", ...dir)
    expect(published.code).toBe(1)
    expect(published.stderr).toContain("line 1 is left out: a record cannot hold its 9,000,002 bytes")
    expect(published.stderr).toContain("published 1 line to clicks")
  })

  test("a compressed file is refused whole", async () => {
    const input = file("in.jsonl.gz", Uint8Array.of(0x1f, 0x8b, 0x08, 0x00, 0x00))
    const published = await keyfold("publish", jobModule, "clicks", input, ...dir)
    expect(published).toMatchObject({ code: 2 })
    expect(published.stderr).toContain("zcat FILE | keyfold publish")
  })
})

describe("signals", () => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`${signal} drains a running job: exit 0, and the next run goes on from there`, async () => {
      const dir = data(`drain ${signal}`)
      await fed(`${click("ann", 1)}\n`, "publish", jobModule, "clicks", ...dir)
      const running = new Running(["run", jobModule, ...dir])
      await running.says("running counter")
      running.process.kill(signal)
      const ended = await running.ended
      expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: "" })
      expect(ended.stderr).toContain(`${signal}: draining`)
      expect(ended.stderr).toMatch(/counter drained after .*\n$/)
      const again = await keyfold("run", jobModule, "--until-caught-up", "--close", ...dir)
      expect(again, again.stderr).toMatchObject({ code: 0 })
      expect(valuesOf((await keyfold("tail", jobModule, "totals", ...dir)).stdout)).toEqual([{ user: "ann", total: 1 }])
    })
  }

  // A signal was lost that came while the module was being loaded: between two listeners Node forgot what waited for its turn.
  test("a signal that comes while a module works is not forgotten", async () => {
    const slow = file("slow.ts", `console.error("loading")\nconst endMs = performance.now() + 300\n${busyJob}`)
    const running = new Running(["run", slow, ...data("slow")])
    await running.says("loading")
    running.process.kill("SIGTERM")
    expect(await running.ended).toMatchObject({ code: 0, stdout: "" })
  })

  test("tail --follow prints what arrives, until SIGINT: exit 0", async () => {
    const dir = data("follow")
    await fed(`${click("ann", 1)}\n`, "publish", jobModule, "clicks", ...dir)
    const tail = new Running(["tail", jobModule, "clicks", "--follow", ...dir])
    await tail.says("ann", "stdout")
    await fed(`${click("bob", 2)}\n`, "publish", jobModule, "clicks", ...dir)
    await tail.says("bob", "stdout")
    tail.process.kill("SIGINT")
    expect(await tail.ended).toMatchObject({ code: 0, stderr: "" })
  })

  test("an interrupted publish stores whole lines, says how many, and exits with 130", async () => {
    const dir = data("interrupted")
    const publishing = new Running(["publish", jobModule, "clicks", ...dir])
    const tail = (): Promise<Ended> => keyfold("tail", jobModule, "clicks", ...dir)
    publishing.process.stdin.write(`${click("ann", 1)}\n${click("bob", 2)}\n{"user":"cut`)
    await expect.poll(async () => linesOf((await tail()).stdout).length, { timeout: 90_000 }).toBe(2)
    publishing.process.kill("SIGINT")
    const ended = await publishing.ended
    expect(ended).toMatchObject({ code: 130, stdout: "" })
    expect(ended.stderr).toContain("interrupted: published 2 lines to clicks")
    expect(linesOf((await tail()).stdout)).toHaveLength(2)
  })

  test("a second signal leaves at once, and loses nothing", async () => {
    const dir = data("second signal")
    const held = file("held.ts", heldJob)
    await fed(`${click("ann", 1)}\n`, "publish", held, "clicks", ...dir)
    const running = new Running(["run", held, ...dir])
    await running.says("working")
    running.process.kill("SIGINT")
    running.process.kill("SIGTERM") // another signal, as two of a kind may become one on their way
    file("go", "")
    const ended = await running.ended
    expect([130, 143]).toContain(ended.code)
    expect(ended.stderr).not.toContain("drained")
    const again = await keyfold("run", held, "--until-caught-up", ...dir)
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(valuesOf((await keyfold("tail", held, "totals", ...dir)).stdout)).toEqual([{ user: "ann", total: 1 }])
  })
})

const busyJob = `while (performance.now() < endMs) {
  // Nothing else runs meanwhile.
}
export { default } from "./job.ts"
`

/** Its turn does not end before there is a file "go". */
const heldJob = `import { existsSync } from "node:fs"
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"

export const clicks = topic("clicks", { codec: json<{ user: string }>(), key: (click) => click.user, partitions: 1 })
export const totals = topic("totals", { codec: json<{ user: string; total: number }>(), key: (total) => total.user, partitions: 1 })

export default job("held")
  .from(clicks)
  .groupByKey()
  .flatMapGroupsWithState({ state: json<number>() }, function* (user, events, state) {
    console.error("working")
    while (!existsSync("go")) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    state.update((state.getOption() ?? 0) + events.length)
    yield { user, total: state.get() }
  })
  .to(totals)
`

describe("several jobs", () => {
  const dir = data("several jobs")
  const module = file(
    "several.ts",
    `import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { clicks } from "./job.ts"

const named = <T extends { user: string }>(name: string) => topic(name, { codec: json<T>(), key: (row) => row.user, partitions: 1 })
const [seen, twice, broken] = [named<{ user: string }>("seen"), named<{ user: string }>("twice"), named<{ user: string }>("broken")]

export const second = job("second").from(seen).flatMap((row) => [row, row]).to(twice)
export const first = job("first").from(clicks).map(({ user }) => ({ user })).to(seen)
export const failing = job("failing", { onError: "stop" }).from(broken).filter(() => { throw new Error("broken") }).to()

setInterval(() => undefined, 1_000) // what a module has open does not keep the command alive
`
  )

  test("that feed each other run one after the other when they run to an end; --job chooses", async () => {
    await fed(`${click("ann", 1)}\n`, "publish", module, "clicks", ...dir)
    const ran = await keyfold("run", module, "--until-caught-up", "--job", "second", "--job=first", ...dir)
    expect(ran, ran.stderr).toMatchObject({ code: 0 })
    expect(ran.stderr).toMatch(/first caught up.*\n.*\n.*second caught up/)
    expect(valuesOf((await keyfold("tail", module, "twice", ...dir)).stdout)).toEqual([{ user: "ann" }, { user: "ann" }])
  })

  test("are drained when one of them fails, and the exit code is 1", async () => {
    const running = new Running(["run", module, ...dir])
    await running.says("running failing, first, second")
    await fed('{"user":"ann"}\n', "publish", module, "broken", ...dir)
    const ended = await running.ended
    expect(ended, ended.stderr).toMatchObject({ code: 1 })
    expect(ended.stderr).toContain("failing failed after")
    for (const name of ["first", "second"]) expect(ended.stderr).toContain(`${name} drained after`)
  })
})

describe("a reader that leaves", () => {
  test("closing stdout ends tail quietly with 0", async () => {
    const dir = data("closed stdout")
    await fed(
      Array.from({ length: 20_000 }, (_, index) => `${click(`user-${index}`, index)}\n`).join(""),
      "publish",
      jobModule,
      "clicks",
      ...dir
    )
    const tail = new Running(["tail", jobModule, "clicks", ...dir])
    tail.process.stdout.once("data", () => tail.process.stdout.destroy())
    expect(await tail.ended).toMatchObject({ code: 0, stderr: "" })
  })
})

describe("failures", () => {
  test("a failed query: what, where and the cure, exit 1, no stack trace", async () => {
    const dir = data("failed")
    const module = file(
      "stops.ts",
      `import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
export const clicks = topic("clicks", { codec: json<{ user: string }>(), key: (click) => click.user, partitions: 1 })
export default job("stops", { onError: "stop" }).from(clicks).map((click): string => { throw new Error("no " + click.user) }).to()
`
    )
    await fed(`${click("ann", 1)}\n`, "publish", module, "clicks", ...dir)
    const ran = await keyfold("run", module, ...dir)
    expect(ran, ran.stderr).toMatchObject({ code: 1, stdout: "" })
    expect(ran.stderr).toContain("function-failed")
    expect(ran.stderr).toContain("no ann")
    expect(ran.stderr).not.toMatch(/^ +at /m)
  })

  test("a directory that another run holds: exit 1, with the cure", async () => {
    const dir = data("in use")
    const first = new Running(["run", jobModule, ...dir])
    await first.says("running counter")
    const second = await keyfold("run", jobModule, ...dir)
    expect(second, second.stderr).toMatchObject({ code: 1 })
    expect(second.stderr).toContain("directory-in-use")
    expect(second.stderr).toContain("Stop the other keyfold run")
    first.process.kill("SIGTERM")
    expect(await first.ended).toMatchObject({ code: 0 })
  })

  test("a topic that nobody has created, with --follow too", async () => {
    for (const more of [[], ["--follow"]]) {
      const tailed = await keyfold("tail", jobModule, "never", ...more, ...data("never"))
      expect(tailed).toMatchObject({ code: 1, stdout: "" })
      expect(tailed.stderr).toContain("the topic never does not exist here yet")
      expect(linesOf(tailed.stderr)).toHaveLength(2)
    }
  })
})

describe("wrong usage, exit 2", () => {
  file("empty.ts", "export const nothing = 1\n")
  file("unfinished.ts", 'import { job } from "keyfold"\nimport { clicks } from "./job.ts"\nexport default job("x").from(clicks)\n')
  file(
    "faulty.ts",
    'import { job } from "keyfold"\nimport { clicks } from "./job.ts"\nexport default job("a b", { retries: -1 }).from(clicks).to()\n'
  )
  file("enum.ts", "enum Color { Red }\nexport default Color\n")
  file("syntax.ts", "export const a = {\n  b: ]\n}\n")
  file("import.ts", 'import "./job"\n')
  file("type.ts", 'import { Topic } from "keyfold"\nexport const topics: Topic<string>[] = []\n')
  file("package.ts", 'import "no-such-package"\n')

  const rows: readonly (readonly [args: string, ...says: string[]])[] = [
    ["", "Usage: keyfold <command>"],
    ["rnu job.ts", "Did you mean run?"],
    ["run", "needs <module>"],
    ["run job.ts --util-caught-up", "Did you mean --until-caught-up?"],
    ["run job.ts --close", "--close needs --until-caught-up"],
    ["run job.ts --workers 2", "--workers 2 needs the clustered runtime", "--nats URL --redis URL"],
    ["run job.ts --nats nats://localhost", "--nats asks for the clustered runtime, which needs Redis too", "Add --redis URL"],
    ["run job.ts --data d --nats nats://localhost --redis redis://localhost", "--data and --nats name two places"],
    ["run job.ts --job contuer", 'job.ts has no job "contuer"', "Did you mean counter?"],
    ["run job", "there is no file job", "Did you mean job.ts?"],
    ["run empty.ts", "empty.ts exports no job", "export default job"],
    ["run unfinished.ts", "The export default is a job without its end"],
    ["run faulty.ts", "cannot work:", "  - the job's name must be", "  - retries must be"],
    ["run enum.ts", "enum.ts:1", "enum is not supported", "constants for enums"],
    ["run syntax.ts", "syntax.ts:2", "syntax error"],
    ["run import.ts", "Cannot find module", '"./topics.ts"'],
    ["run type.ts", "import { type Topic }"],
    ["run package.ts", "npm install no-such-package"],
    ["publish job.ts clikcs", 'job.ts has no topic "clikcs"', "Did you mean clicks?"],
    ["publish job.ts counter-dead", "keyfold alone writes them"],
    ["publish job.ts clicks no-such-file", "there is no file no-such-file"],
    ["publish job.ts clicks node_modules", "node_modules is a directory"],
    ["tail job.ts nothing-like-it", "Its topics are: clicks"],
    ["help nothing", "The commands are: run, publish"]
  ]
  for (const [args, ...says] of rows) {
    test(args === "" ? "no words at all" : args, async () => {
      const { code, stdout, stderr } = await keyfold(...args.split(" ").filter((word) => word !== ""))
      for (const text of says) expect(stderr).toContain(text)
      expect(stderr).not.toMatch(/^ +at /m)
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
    })
  }

  test("a cluster in the environment", async () => {
    const { code, stderr } = await new Running(["run", jobModule], { KEYFOLD_NATS: "nats://localhost" }).ended
    expect(code).toBe(2)
    expect(stderr).toContain("KEYFOLD_NATS asks for the clustered runtime")
  })

  test("a module that throws failed, with its line: exit 1", async () => {
    const { code, stderr } = await keyfold("run", file("throws.ts", '\nthrow new Error("no database")\n'))
    expect(code).toBe(1)
    expect(stderr).toMatch(/^keyfold: throws\.ts threw while it was loaded: no database \(.*throws\.ts:2\)\n$/)
  })
})

describe("help", () => {
  for (const args of [
    ["--help"],
    ["help"],
    ["help", "run"],
    ["run", "--help"],
    ["publish", "-h"],
    ["help", "tail"],
    ["explain", "--help"]
  ]) {
    test(args.join(" "), async () => {
      const { code, stdout, stderr } = await keyfold(...args)
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
      expect(stdout).toContain("Usage: keyfold")
    })
  }

  test("--version prints the version of the package", async () => {
    const { default: meta } = (await import("../../package.json", { with: { type: "json" } })) as { default: { version: string } }
    expect(await keyfold("--version")).toEqual({ code: 0, stdout: `${meta.version}\n`, stderr: "" })
  })
})
