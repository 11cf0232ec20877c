// Goal: `npm run demo` works as the README says, and what a user can get wrong is one line that says how to mend it.
// Method: the command itself, in a process of its own, on a small log.
import { execFile } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

let dir: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "keyfold-demo-test-"))
})

afterAll(() => rm(dir, { recursive: true, force: true }))

/** Its temporary files go into this test's directory. */
const demo = (...args: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const command = ["--conditions=keyfold-source", join(import.meta.dirname, "demo.ts"), ...args]
    execFile(process.execPath, command, { env: { ...process.env, TMPDIR: dir } }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    )
  })

const written = async (name: string, text: string): Promise<string> => {
  const file = join(dir, name)
  await writeFile(file, text)
  return file
}

describe("npm run demo", () => {
  test("makes a log, runs the job over it, and every line is accounted for", async () => {
    const { code, stdout, stderr } = await demo("--lines", "20000", "--seed", "5")
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toContain("with seed 5")
    expect(stdout).toMatch(/published +20,000 {2}= [\d,]+ in sessions \+ \d+ late \+ 20 bad: it adds up/)
    expect(stdout).toMatch(/decode-failed: /)
    expect(stdout).toMatch(/run [\d,]+ events\/s/)
  })

  test("takes a log of one's own, with userId or readerId", async () => {
    const lines = ['{"userId": "a", "at": 1389052815000}', "", '{"readerId": "b", "at": 1389052871000, "page": "/"}', "who?"]
    const { code, stdout } = await demo(await written("own.jsonl", lines.join("\r\n")))
    expect(stdout).toMatch(/sessions +2 {2}of 2 users/)
    expect(stdout).toContain("2 in sessions + 0 late + 1 bad: it adds up")
    expect(code).toBe(0)
  })

  test("refuses what it cannot read in one line", async () => {
    const empty = await written("empty.jsonl", "")
    const blank = await written("blank.jsonl", "\n \n")
    const refusals = await Promise.all([demo(join(dir, "missing.jsonl")), demo(dir), demo(empty), demo(blank)])
    expect(refusals).toEqual([
      { code: 1, stdout: "", stderr: `there is no file ${join(dir, "missing.jsonl")}\n` },
      { code: 1, stdout: "", stderr: `${dir} is a directory: give the log itself, npm run demo -- FILE.jsonl\n` },
      { code: 1, stdout: "", stderr: `${empty} is empty: expected one JSON object a line\n` },
      { code: 1, stdout: expect.any(String), stderr: `${blank} has only empty lines: expected one JSON object a line\n` }
    ])
  })

  test.each(["--seed x", "--lines 0", "--nonsense", "a.jsonl b.jsonl"])("refuses the command line %s", async (line) => {
    const { code, stdout, stderr } = await demo(...line.split(" "))
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
    expect(stderr).toMatch(/^.+\nusage: npm run demo.+\n$/)
  })
})
