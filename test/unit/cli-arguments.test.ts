// Goal: a command line means one thing, and a wrong one is refused with words that lead to the right one.
// Method: rows of command lines with the request or the refusal that they come to.
import { describe, expect, test } from "vitest"
import { parseCommandLine } from "../../src/cli/arguments.ts"
import { commandNames, commandRules, optionRules } from "../../src/cli/command-line.ts"
import { helpOf } from "../../src/cli/help.ts"
import { Refusal } from "../../src/cli/refusal.ts"
import { type Request, requestOf } from "../../src/cli/request.ts"
import { type Environment, type Place, shownPlace } from "../../src/cli/request-place.ts"
import { shownUrl } from "../../src/cli/shown-url.ts"
import { didYouMean, editDistance, nearest } from "../../src/cli/suggestion.ts"

const asked = (words: string, environment: Environment = {}): Request => {
  const parsed = parseCommandLine(words === "" ? [] : words.split(" "))
  if (parsed.kind !== "command") throw new Error(`not a command but ${parsed.kind}`)
  return requestOf(parsed, environment)
}

const refusalOf = (run: () => unknown): Refusal => {
  try {
    run()
  } catch (thrown) {
    if (thrown instanceof Refusal) return thrown
    throw thrown
  }
  throw new Error("nothing was refused")
}

const here: Place = { kind: "embedded", data: "./.keyfold" }
const there: Place = { kind: "clustered", nats: "nats://n", redis: "redis://r" }
const cluster = "--nats nats://n --redis redis://r"

const runDefaults = {
  kind: "run",
  module: "job.ts",
  place: here,
  jobs: [],
  untilCaughtUp: false,
  close: false,
  acceptLoss: false,
  workers: 1
}

describe("what is asked for", () => {
  const rows: readonly (readonly [words: string, request: object])[] = [
    ["run job.ts", runDefaults],
    ["run job.ts --until-caught-up --close", { ...runDefaults, untilCaughtUp: true, close: true }],
    ["--until-caught-up run job.ts", { ...runDefaults, untilCaughtUp: true }],
    ["run --job a job.ts --job=b", { ...runDefaults, jobs: ["a", "b"] }],
    ["run job.ts --workers 1", runDefaults],
    ["run job.ts --accept-loss", { ...runDefaults, acceptLoss: true }],
    [`run job.ts --accept-loss ${cluster}`, { ...runDefaults, place: there, acceptLoss: true }],
    [`run job.ts --workers 4 ${cluster}`, { ...runDefaults, place: there, workers: 4 }],
    ["run job.ts --data /d", { ...runDefaults, place: { kind: "embedded", data: "/d" } }],
    ["run --data=--odd job.ts", { ...runDefaults, place: { kind: "embedded", data: "--odd" } }],
    ["run -- --job.ts", { ...runDefaults, module: "--job.ts" }],
    ["publish job.ts clicks", { kind: "publish", module: "job.ts", place: here, topic: "clicks", file: undefined }],
    ["publish job.ts clicks -", { kind: "publish", module: "job.ts", place: here, topic: "clicks", file: undefined }],
    ["publish job.ts clicks in.jsonl", { kind: "publish", module: "job.ts", place: here, topic: "clicks", file: "in.jsonl" }],
    ["tail job.ts clicks", { kind: "tail", module: "job.ts", place: here, topic: "clicks", follow: false, meta: false }],
    ["tail job.ts --meta clicks --follow", { kind: "tail", module: "job.ts", place: here, topic: "clicks", follow: true, meta: true }],
    ["explain job.ts", { kind: "explain", module: "job.ts" }]
  ]
  for (const [words, request] of rows) test(words, () => expect(asked(words)).toEqual(request))

  describe("where it is", () => {
    const data = (dir: string): Place => ({ kind: "embedded", data: dir })
    const servers = { KEYFOLD_NATS: "nats://e", KEYFOLD_REDIS: "redis://e" }
    const places: readonly (readonly [words: string, environment: Environment, place: Place])[] = [
      ["", {}, here],
      ["", { KEYFOLD_DATA: "/e" }, data("/e")],
      ["", { KEYFOLD_DATA: "", KEYFOLD_NATS: "", KEYFOLD_REDIS: "" }, here],
      ["", servers, { kind: "clustered", nats: "nats://e", redis: "redis://e" }],
      ["", { ...servers, KEYFOLD_DATA: "" }, { kind: "clustered", nats: "nats://e", redis: "redis://e" }],
      ["--data /d", { KEYFOLD_DATA: "/e" }, data("/d")],
      ["--data /d", servers, data("/d")],
      ["--data /d", { KEYFOLD_NATS: "nats://e" }, data("/d")],
      [cluster, {}, there],
      [cluster, { ...servers, KEYFOLD_DATA: "/e" }, there],
      ["--nats nats://n", servers, { kind: "clustered", nats: "nats://n", redis: "redis://e" }],
      ["--redis redis://r", { KEYFOLD_NATS: "nats://e" }, { kind: "clustered", nats: "nats://e", redis: "redis://r" }]
    ]
    for (const [words, environment, place] of places) {
      test(`${words === "" ? "no option" : words}, ${JSON.stringify(environment)}`, () => {
        for (const command of ["run job.ts", "publish job.ts clicks", "tail job.ts clicks"]) {
          expect(asked(`${command} ${words}`.trim(), environment)).toMatchObject({ place })
        }
      })
    }

    test("explain has no place, whatever the environment says", () => {
      expect(asked("explain job.ts", { KEYFOLD_NATS: "nats://n" })).toEqual({ kind: "explain", module: "job.ts" })
    })
  })
})

describe("an address without its secrets", () => {
  const rows: readonly (readonly [url: string, shown: string])[] = [
    ["nats://localhost:4222", "nats://localhost:4222"],
    ["nats://user:password@localhost:4222", "nats://localhost:4222"],
    ["redis://:password@localhost:6379/2", "redis://localhost:6379/2"],
    ["rediss://user:p%40ss@redis.example:6380", "rediss://redis.example:6380"],
    ["redis://user:p@ss/w?or#d,x@localhost", "redis://localhost"],
    ["user:password@localhost:4222", "localhost:4222"],
    ["nats://token@a:4222,nats://token@b:4222", "nats://a:4222,nats://b:4222"],
    ["nats://user:password@a:4222,b:4222", "nats://a:4222,b:4222"],
    ["nats://a:4222,user:password@b:4222", "nats://b:4222"],
    ["redis://localhost?password=secret", "redis://localhost"],
    ["localhost", "localhost"],
    ["", ""]
  ]
  for (const [url, shown] of rows) test(`${url} is shown as ${shown}`, () => expect(shownUrl(url)).toBe(shown))

  test("of a place", () => {
    expect(shownPlace({ kind: "clustered", nats: "nats://u:p@n:4222", redis: "redis://u:p@r:6379" })).toBe(
      "nats://n:4222 and redis://r:6379"
    )
    expect(shownPlace({ kind: "embedded", data: "/d@e?f" })).toBe("/d@e?f")
  })
})

describe("help and version", () => {
  const rows: readonly (readonly [words: string, parsed: object])[] = [
    ["", { kind: "nothing" }],
    ["--help", { kind: "help", command: undefined }],
    ["-h", { kind: "help", command: undefined }],
    ["help", { kind: "help", command: undefined }],
    ["help help", { kind: "help", command: undefined }],
    ["help run", { kind: "help", command: "run" }],
    ["run --help", { kind: "help", command: "run" }],
    ["--help tail", { kind: "help", command: "tail" }],
    ["publish job.ts --no-such-option -h", { kind: "help", command: "publish" }],
    ["--version", { kind: "version" }],
    ["-v", { kind: "version" }]
  ]
  for (const [words, parsed] of rows) {
    test(words === "" ? "no words at all" : words, () => expect(parseCommandLine(words === "" ? [] : words.split(" "))).toEqual(parsed))
  }

  test("after -- nothing is an option", () => {
    expect(parseCommandLine(["explain", "--", "--help"])).toMatchObject({ kind: "command", words: ["--help"] })
  })

  for (const name of commandNames) {
    test(`the help of ${name} has an example, every option with its meaning, and the exit codes`, () => {
      const help = helpOf(name)
      expect(help).toContain(`keyfold ${name}`)
      for (const option of commandRules[name].options) {
        expect(help).toMatch(new RegExp(`--${option} `))
        expect(help).toContain(optionRules[option].meaning)
      }
      expect(help).toContain("Exit codes:")
      expect(help).toContain("Examples:")
    })
  }

  test("no line of help is wider than 160 columns, and the overview fits 100", () => {
    for (const name of commandNames) for (const line of helpOf(name).split("\n")) expect(line.length).toBeLessThanOrEqual(160)
    for (const line of helpOf(undefined).split("\n")) expect(line.length).toBeLessThanOrEqual(100)
  })
})

describe("what is refused", () => {
  const rows: readonly (readonly [words: string, message: string, hint?: string])[] = [
    ["rnu job.ts", 'there is no command "rnu"', "Did you mean run?"],
    ["tial", 'there is no command "tial"', "Did you mean tail?"],
    ["frobnicate", 'there is no command "frobnicate"', "The commands are: run, publish, tail, explain, help."],
    ["help pubish", 'there is no command "pubish"', "Did you mean publish?"],
    ["--follow", "--follow needs a command before or after it"],
    ["run", "keyfold run needs <module>", "Usage: keyfold run <module> [options]"],
    ["publish job.ts", "keyfold publish needs <topic>", "Usage: keyfold publish <module> <topic> [file] [options]"],
    ["tail job.ts a b", 'keyfold tail does not know what to do with "b"'],
    ["run job.ts --util-caught-up", "keyfold run has no option --util-caught-up", "Did you mean --until-caught-up?"],
    ["run job.ts -x", "keyfold run has no option -x", "See keyfold help run."],
    ["explain job.ts --data d", "--data is an option of keyfold run and publish and tail, not of explain"],
    ["run job.ts --follow", "--follow is an option of keyfold tail, not of run"],
    ["run job.ts --data", "--data needs a value: --data DIR"],
    ["run job.ts --data --close", "--data needs a value: --data DIR"],
    ["run job.ts --data=", "--data needs a value: --data DIR"],
    ["run job.ts --data a --data b", "--data is given twice"],
    ["tail job.ts clicks --follow=yes", '--follow takes no value, got "yes"'],
    ["run job.ts --close", "--close needs --until-caught-up"],
    ["run job.ts --workers 4", "--workers 4 needs the clustered runtime", "Add --nats URL --redis URL, or leave --workers out."],
    ["run job.ts --workers 4 --data d", "--workers 4 needs the clustered runtime"],
    ["run job.ts --workers 0", '--workers must be a whole number from 1 to 1024, got "0"'],
    ["run job.ts --workers 1025", '--workers must be a whole number from 1 to 1024, got "1025"'],
    ["run job.ts --workers two", '--workers must be a whole number from 1 to 1024, got "two"'],
    ["run job.ts --workers 1e2", '--workers must be a whole number from 1 to 1024, got "1e2"'],
    [
      "run job.ts --nats nats://n",
      "--nats asks for the clustered runtime, which needs Redis too",
      "Add --redis URL, or set KEYFOLD_REDIS."
    ],
    [
      "tail job.ts clicks --redis r",
      "--redis asks for the clustered runtime, which needs NATS too",
      "Add --nats URL, or set KEYFOLD_NATS."
    ],
    ["tail job.ts clicks --redis r --data d", "--data and --redis name two places: a directory, and servers"],
    [`publish job.ts clicks ${cluster} --data d`, "--data and --nats name two places"],
    ["publish job.ts clicks --accept-loss", "--accept-loss is an option of keyfold run, not of publish"]
  ]
  for (const [words, message, hint] of rows) {
    test(words, () => {
      const refusal = refusalOf(() => asked(words))
      expect(refusal.message).toContain(message)
      if (hint !== undefined) expect(refusal.hint).toBe(hint)
      expect(refusal.exitCode).toBe(2)
    })
  }

  const ofEnvironment: readonly (readonly [environment: Environment, message: string])[] = [
    [{ KEYFOLD_REDIS: "redis://r" }, "KEYFOLD_REDIS asks for the clustered runtime, which needs NATS too"],
    [{ KEYFOLD_NATS: "nats://n" }, "KEYFOLD_NATS asks for the clustered runtime, which needs Redis too"],
    [{ KEYFOLD_DATA: "/d", KEYFOLD_NATS: "nats://n", KEYFOLD_REDIS: "redis://r" }, "KEYFOLD_DATA and KEYFOLD_NATS name two places"]
  ]
  for (const [environment, message] of ofEnvironment) {
    test(JSON.stringify(environment), () => expect(refusalOf(() => asked("run job.ts", environment)).message).toContain(message))
  }

  test("no refusal has an address in it", () => {
    const secret = "nats://user:secret@n"
    for (const words of [
      `run job.ts --nats ${secret}`,
      `run job.ts --data d --nats ${secret}`,
      `run job.ts ${secret}`,
      `run job.ts --close=${secret}`
    ]) {
      const { message, hint } = refusalOf(() => asked(words))
      expect(`${message} ${hint}`).not.toContain("secret")
    }
  })
})

describe("did you mean", () => {
  const rows: readonly (readonly [left: string, right: string, distance: number])[] = [
    ["", "", 0],
    ["run", "run", 0],
    ["rn", "run", 1],
    ["rnu", "run", 1],
    ["kitten", "sitting", 3],
    ["", "abc", 3]
  ]
  for (const [left, right, distance] of rows)
    test(`${left} and ${right} differ by ${distance}`, () => expect(editDistance(left, right)).toBe(distance))

  test("the nearest wins, far ones are not proposed, case does not count", () => {
    expect(nearest("clicsk", ["clock", "clicks"])).toBe("clicks")
    expect(nearest("CLICKS", ["clicks"])).toBe("clicks")
    expect(nearest("zebra", ["clicks"])).toBeUndefined()
    expect(didYouMean("zebra", [], "Its topics are")).toBeUndefined()
    expect(
      didYouMean(
        "zebra",
        Array.from({ length: 14 }, (_, index) => `t${index}`),
        "Its topics are"
      )
    ).toMatch(/t11 and 2 more\.$/)
  })
})
