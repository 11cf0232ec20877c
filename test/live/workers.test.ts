// Goal: `keyfold run --workers N` is N processes that end with their supervisor and not without it, however it ends.
// Method: the supervisor over real processes that run no job (test/fixtures/worker.ts). Waits are for what they print, or for their end.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, expect, test } from "vitest"

const supervisor = resolve(import.meta.dirname, "../fixtures/supervisor.ts")
const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

class Supervised {
  readonly folder = mkdtempSync(join(tmpdir(), "keyfold-workers-"))
  readonly process: ChildProcessWithoutNullStreams
  readonly ended: Promise<number | null>
  stdout = ""
  stderr = ""

  constructor(...words: string[]) {
    folders.push(this.folder)
    this.process = spawn(process.execPath, ["--conditions=keyfold-source", supervisor, ...words], { cwd: this.folder })
    this.process.stdout.on("data", (chunk) => (this.stdout += String(chunk)))
    this.process.stderr.on("data", (chunk) => (this.stderr += String(chunk)))
    this.ended = new Promise((done) => this.process.on("close", done))
  }

  async says(text: string): Promise<void> {
    await expect.poll(() => (this.process.exitCode === null ? this.stderr : `ended: ${this.stderr}`), { timeout: 90_000 }).toContain(text)
  }

  async runs(...numbers: number[]): Promise<void> {
    for (const number of numbers) await this.says(`[worker ${number}] runs as`)
  }

  /** As if somebody else had told it to: the supervisor knows nothing of it. */
  end(number: number): void {
    process.kill(Number(new RegExp(`\\[worker ${number}\\] runs as (\\d+)`).exec(this.stderr)?.[1]), "SIGTERM")
  }

  /** Of the workers that have said so. */
  get pids(): readonly number[] {
    return [...this.stderr.matchAll(/runs as (\d+)/g)].map((match) => Number(match[1]))
  }
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const allEnd = (pids: readonly number[]): Promise<void> =>
  expect.poll(() => pids.filter(isAlive), { timeout: 90_000 }).toEqual([]) as unknown as Promise<void>

/** Whose working directory it is. */
const processesIn = (folder: string): readonly string[] =>
  readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && readlinkSync(`/proc/${name}/cwd`) === folder
    } catch {
      return false // it has ended since, or is somebody else's
    }
  })

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`${signal} reaches every worker once; they drain, and the exit code is 0`, async () => {
    const run = new Supervised("3")
    await run.runs(1, 2, 3)
    expect(run.pids.filter(isAlive)).toHaveLength(3)
    run.process.kill(signal)
    expect(await run.ended).toBe(0)
    for (const number of [1, 2, 3]) expect(run.stderr.split(`[worker ${number}] drains: ${signal}`)).toHaveLength(2)
    expect(run.stdout).toBe("")
    await allEnd(run.pids)
  })
}

test("a second signal makes the workers leave at once", async () => {
  const run = new Supervised("2", "stuck")
  await run.runs(1, 2)
  run.process.kill("SIGTERM")
  await run.says("[worker 1] drains: SIGTERM")
  await run.says("[worker 2] drains: SIGTERM")
  run.process.kill("SIGINT")
  expect(await run.ended).toBe(130)
  await allEnd(run.pids)
})

test("when all have ended the command ends, with the worst of their exit codes", async () => {
  expect(await new Supervised("3", "exit=0").ended).toBe(0)
  const run = new Supervised("3", "2:refused", "3:fails")
  await run.runs(1, 2, 3)
  run.end(3)
  expect(await run.ended).toBe(2)
})

test("when one fails the others are drained, and it is not started again", async () => {
  const run = new Supervised("3", "2:exit=1")
  expect(await run.ended).toBe(1)
  expect(run.stderr).not.toContain("it starts again")
  await allEnd(run.pids)
})

test("when several fail one after the other, who drains is still given its time", async () => {
  const run = new Supervised("3", "1:fails", "2:fails", "3:patient")
  await run.runs(1, 2, 3)
  run.end(1)
  expect(await run.ended).toBe(1)
  expect(existsSync(join(run.folder, "patience"))).toBe(true)
})

test("one that dies by a signal is started again; the others go on", async () => {
  const run = new Supervised("3", "2:crash")
  await run.says("[worker 2] was ended by SIGKILL: it starts again in 0.5 s")
  await run.runs(1, 2, 3)
  expect(run.stderr.split("runs as")).toHaveLength(4)
  run.process.kill("SIGTERM")
  expect(await run.ended).toBe(0)
})

test("one that ends with a code of no meaning is started again, a little later each time", async () => {
  const run = new Supervised("1", "exit=7")
  await run.says("[worker 1] ended with 7: it starts again in 0.5 s")
  await run.says("[worker 1] ended with 7: it starts again in 1 s")
  run.process.kill("SIGTERM")
  expect(await run.ended).toBe(0)
})

test("when the supervisor is killed the workers drain by themselves", async () => {
  const run = new Supervised("3")
  await run.runs(1, 2, 3)
  run.process.kill("SIGKILL")
  await run.ended
  await allEnd(run.pids)
  for (const number of [1, 2, 3]) expect(existsSync(join(run.folder, `orphaned-${number}`))).toBe(true)
})

test("when the supervisor is killed before its workers have begun, they don't begin", async () => {
  for (let round = 0; round < 5; round++) {
    const run = new Supervised("3")
    await run.says("starting 3 workers")
    await expect.poll(() => processesIn(run.folder).length, { timeout: 90_000, interval: 1 }).toBeGreaterThan(1)
    run.process.kill("SIGKILL")
    await run.ended
    await expect.poll(() => processesIn(run.folder), { timeout: 90_000 }).toEqual([])
  }
})

test("lines on stderr say whose they are, whole; what a worker starts does not take itself for one", async () => {
  const run = new Supervised("2", "1:loud", "1:exit=0")
  await run.runs(2)
  await run.says("[worker 1] one line\n")
  await run.says("[worker 1] no end\n")
  expect(run.stderr).toMatch(/\[worker 2\] runs as \d+, unmarked\n/)
  run.process.kill("SIGTERM")
  expect(await run.ended).toBe(0)
})
