// Goal: the command finds the jobs and topics of a module, and says what to do when something that is asked for is not there.
// Method: exports as plain objects; what Node throws while it loads a module, as rows and as real files; errors with their lines and codes.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { foreachTurn, type Job, job, stream, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { afterAll, describe, expect, test } from "vitest"
import { catalogOf, chosenJobs, topicToPublish, topicToRead } from "../../src/cli/catalog.ts"
import { failureReport } from "../../src/cli/failure.ts"
import { wavesOf } from "../../src/cli/job-order.ts"
import { loadFailure } from "../../src/cli/load-failure.ts"
import { isNodeTooOld } from "../../src/cli/node-version.ts"
import { Refusal } from "../../src/cli/refusal.ts"
import { InvariantError, KeyfoldError } from "../../src/errors.ts"

interface Row {
  readonly id: string
}
const table = (name: string) => topic(name, { codec: json<Row>(), key: (row) => row.id })
const [clicks, sessions, alerts, late] = [table("clicks"), table("sessions"), table("alerts"), table("late")]

const jobOf = (name: string, from = clicks, to = sessions): Job<Row, Row, string, number> =>
  job(name)
    .from(from)
    .withWatermark(() => 0, "1 second", { late })
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>(), emits: [alerts] }, function* (id) {
      yield { id }
    })
    .to(to)

const refusalOf = (run: () => unknown): Refusal => {
  try {
    run()
  } catch (thrown) {
    if (thrown instanceof Refusal) return thrown
    throw thrown
  }
  throw new Error("nothing was refused")
}

describe("jobs of a module", () => {
  const [one, two] = [jobOf("one"), jobOf("two")]

  test("the default export comes first, a job exported twice counts once", () => {
    const catalog = catalogOf("m.ts", { one, two, alias: one, default: two, other: 1 })
    expect(chosenJobs(catalog, []).map(({ name }) => name)).toEqual(["two", "one"])
    expect(chosenJobs(catalog, ["one"]).map(({ name }) => name)).toEqual(["one"])
  })

  const refused: readonly (readonly [what: string, exports: object, names: readonly string[], message: string, hint: string])[] = [
    ["no job", {}, [], "m.ts exports no job", "Export one: export default job(...).from(...) ... .to(...)"],
    [
      "a job without its end",
      { default: job("x").from(clicks) },
      [],
      "m.ts exports no job",
      "The export default is a job without its end: add .to(...)."
    ],
    [
      "another copy",
      { fraud: { name: "x", plan: { stages: [] } } },
      [],
      "m.ts exports no job",
      "The export fraud was made by another copy of keyfold"
    ],
    ["two of a name", { a: jobOf("one"), b: one }, [], "m.ts exports two jobs called one", "Rename one of them."],
    ["a wrong name", { one, two }, ["oen"], 'm.ts has no job "oen"', "Did you mean one?"]
  ]
  for (const [what, exports, names, message, hint] of refused) {
    test(what, () => {
      const refusal = refusalOf(() => chosenJobs(catalogOf("m.ts", { ...exports }), names))
      expect(refusal.message).toContain(message)
      expect(refusal.hint).toContain(hint)
      expect(refusal.exitCode).toBe(2)
    })
  }

  test("jobs that run to an end run after those that feed them", () => {
    const names = (jobs: readonly { readonly name: string; readonly job: Job }[]): string[][] =>
      wavesOf(chosenJobs(catalogOf("m.ts", Object.fromEntries(jobs.map(({ name, job }) => [name, job]))), [])).map((wave) =>
        wave.map(({ name }) => name)
      )
    const chain = [jobOf("c", alerts, late), jobOf("b", sessions, table("rest")), jobOf("a", clicks, sessions)]
    expect(names(chain.map((job) => ({ name: job.name, job })))).toEqual([["a"], ["b"], ["c"]])
    const apart = [jobOf("b", table("other"), table("rest")), jobOf("a", clicks, sessions)]
    expect(names(apart.map((job) => ({ name: job.name, job })))).toEqual([["b", "a"]])
    const circle = [jobOf("a", clicks, sessions), jobOf("b", sessions, clicks)]
    expect(names(circle.map((job) => ({ name: job.name, job })))).toEqual([["a", "b"]])
  })
})

describe("topics of a module", () => {
  const custom = foreachTurn<Row>("custom", async () => undefined)
  const catalog = catalogOf("m.ts", {
    extra: table("extra"),
    logins: stream({ stream: "LOGINS", codec: json<Row>() }),
    custom,
    default: jobOf("one")
  })

  for (const name of ["clicks", "sessions", "alerts", "late", "extra"]) {
    test(`${name}: exported, or mentioned by a job`, () => {
      expect(topicToPublish(catalog, name).name).toBe(name)
      expect(topicToRead(catalog, name)).toMatchObject({ kind: "topic", name })
    })
  }

  test("dead letters can be read, not published", () => {
    expect(topicToRead(catalog, "one-dead")).toBe("dead-letters")
    expect(refusalOf(() => topicToPublish(catalog, "one-dead")).message).toBe("one-dead holds dead letters: keyfold alone writes them")
  })

  const refused: readonly (readonly [name: string, message: string, hint: string | undefined])[] = [
    ["clcks", 'm.ts has no topic "clcks"', "Did you mean clicks?"],
    ["nowhere", 'm.ts has no topic "nowhere"', "Its topics are: extra, clicks, sessions, alerts, late, one-dead."],
    ["LOGINS", "LOGINS is a foreign NATS stream, which needs the clustered runtime", undefined],
    ["custom", "custom is a sink of your own, which keyfold cannot read", undefined]
  ]
  for (const [name, message, hint] of refused) {
    test(name, () => {
      const refusal = refusalOf(() => topicToRead(catalog, name))
      expect(refusal.message).toBe(message)
      expect(refusal.hint).toBe(hint)
    })
  }

  test("a topic of another copy of keyfold is named as such", () => {
    const foreign = { clicks: { name: "clicks", key: () => "", codec: {}, partitions: 1 } }
    expect(refusalOf(() => topicToRead(catalogOf("m.ts", foreign), "clicks")).hint).toContain("another copy of keyfold")
  })
})

describe("a module that cannot be loaded", () => {
  const folder = mkdtempSync(join(tmpdir(), "keyfold cli "))
  afterAll(() => rmSync(folder, { recursive: true }))

  const coded = (code: string, message: string): Error =>
    Object.assign(new Error(message), { code, stack: `file://${folder.replaceAll(" ", "%20")}/job.ts:3\nsource\n^^\n\n${message}` })
  const place = `${folder}/job.ts:3`
  const syntax = (message: string): Error =>
    Object.assign(new SyntaxError(message), { stack: `file:///a/job.ts:3\nx\n^\nSyntaxError: ${message}` })
  const rows: readonly (readonly [what: string, thrown: unknown, exitCode: 1 | 2, message: string, hint: string | undefined])[] = [
    [
      "a package",
      coded("ERR_MODULE_NOT_FOUND", "Cannot find package 'left-pad' imported from /a/b.ts"),
      2,
      "Cannot find package 'left-pad'",
      "Install it: npm install left-pad"
    ],
    [
      "an import without its ending",
      coded("ERR_MODULE_NOT_FOUND", "Cannot find module '/a/topics' imported from /a/b.ts"),
      2,
      "Cannot find module",
      "the imports of /a/b.ts"
    ],
    [
      "an enum",
      coded("ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX", "TypeScript enum is not supported in strip-only mode"),
      2,
      `${place}: TypeScript enum is not`,
      "constants for enums"
    ],
    ["a typing slip", syntax("Unexpected token '}'"), 2, "/a/job.ts:3: a syntax error: Unexpected token '}'", undefined],
    [
      "a type imported as a value",
      syntax("The requested module './t.ts' does not provide an export named 'Click'"),
      2,
      "/a/job.ts:3: The requested",
      "import { type Click }"
    ],
    ["a throw", new Error("no database\nmore"), 1, "m.ts threw while it was loaded: no database", undefined],
    ["a throw of something else", "text", 1, "m.ts threw while it was loaded: text", undefined]
  ]
  for (const [what, thrown, exitCode, message, hint] of rows) {
    test(what, () => {
      const refusal = loadFailure(thrown, "m.ts") as Refusal
      expect(refusal.message).toContain(message)
      if (hint === undefined) expect(refusal.hint).toBeUndefined()
      else expect(refusal.hint).toContain(hint)
      expect(refusal.exitCode).toBe(exitCode)
    })
  }

  test("a throw names its line in the user's file", async () => {
    const file = join(folder, "throws.mjs")
    writeFileSync(file, "const connect = () => {\n  throw new TypeError('no database')\n}\nconnect()\n")
    const stack = `TypeError: no database\n    at connect (file://${file.replaceAll(" ", "%20")}:2:9)\n    at file:///x.js:4:1`
    const refusal = loadFailure(Object.assign(new TypeError("no database"), { stack }), "throws.mjs") as Refusal
    expect(refusal.message).toBe(`throws.mjs threw while it was loaded: no database (${file}:2)`)
  })

  test("a refused job and a bug of keyfold's own stay what they are", () => {
    for (const error of [new KeyfoldError("job-invalid", "x"), new InvariantError("A1")]) expect(loadFailure(error, "m.ts")).toBe(error)
  })
})

describe("what is printed of a failure", () => {
  const bug = new InvariantError("J1: x")
  const faults = [
    { code: "job-invalid", message: "one" },
    { code: "job-invalid", message: "two" }
  ]
  const rows: readonly (readonly [what: string, thrown: unknown, lines: readonly string[], exitCode: number])[] = [
    ["a refusal", new Refusal(2, "no", "Do."), ["keyfold: no", "Do."], 2],
    ["a refusal without a hint", new Refusal(1, "no"), ["keyfold: no"], 1],
    [
      "a refused job",
      new KeyfoldError("job-invalid", 'the job "x" cannot work: one; two', { faults }),
      ['keyfold: the job "x" cannot work:', "  - one", "  - two"],
      2
    ],
    ["a refused option", new KeyfoldError("option-invalid", "no"), ["keyfold: no"], 2],
    [
      "an error with a cure",
      new KeyfoldError("storage-full", "full"),
      ["keyfold: full (storage-full)", "Make room on the disk and run again: nothing is lost."],
      1
    ],
    ["an error that says it all", new KeyfoldError("durability-refused", "no"), ["keyfold: no (durability-refused)"], 1],
    [
      "the operating system",
      Object.assign(new Error("EACCES: permission denied, open 'x'"), { syscall: "open" }),
      ["keyfold: EACCES: permission denied, open 'x'"],
      1
    ]
  ]
  for (const [what, thrown, lines, exitCode] of rows) test(what, () => expect(failureReport(thrown)).toEqual({ lines, exitCode }))

  const bugs: readonly (readonly [what: string, thrown: unknown])[] = [
    ["a law of ours", bug],
    ["a law of ours, inside a query", new KeyfoldError("function-failed", "x", { cause: bug })],
    [
      "a defect of ours, inside a query",
      new KeyfoldError("function-failed", "a fault of keyfold itself stopped the query: x", { cause: bug })
    ],
    ["anything unforeseen", bug]
  ]
  for (const [what, thrown] of bugs) {
    test(`${what} prints its stack`, () => {
      const { lines, exitCode } = failureReport(thrown)
      expect(lines[0]).toContain("a bug in keyfold")
      expect(lines[1]).toBe(bug.stack)
      expect(exitCode).toBe(1)
    })
  }

  test("a function that threw is named with its line", () => {
    const cause = Object.assign(new Error("x"), { stack: "Error: x\n    at run (file:///a/fraud.ts:12:7)" })
    const { lines } = failureReport(new KeyfoldError("function-failed", "the function threw: x", { cause }))
    expect(lines[0]).toBe("keyfold: the function threw: x (function-failed at /a/fraud.ts:12)")
  })

  test("an error of another copy of keyfold is told by its tag", () => {
    const foreign = Object.assign(new Error("no"), {
      _tag: "KeyfoldError",
      code: "job-invalid",
      faults: [{ code: "job-invalid", message: "no" }]
    })
    expect(failureReport(foreign)).toEqual({ lines: ["keyfold: no"], exitCode: 2 })
  })
})

describe("the version of Node", () => {
  const rows: readonly (readonly [version: string, tooOld: boolean])[] = [
    ["20.20.2", true],
    ["22.18.0", true],
    ["22.19.0", false],
    ["24.0.0", false],
    ["26.1.0-nightly", false]
  ]
  for (const [version, tooOld] of rows) test(version, () => expect(isNodeTooOld(version)).toBe(tooOld))
})
