// Goal: what STYLE.md and DESIGN.md section 4 say about the shape of the code stays true.
// Method: the sources are read as text and held against tables; the checker is first tried on lines that are wrong.
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join, posix, relative, resolve } from "node:path"
import { describe, expect, test } from "vitest"

const root = resolve(import.meta.dirname, "..")

interface SourceFile {
  readonly path: string
  readonly text: string
}

const filesBelow = (folder: string): SourceFile[] =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name.endsWith(".ts") && !entry.parentPath.includes("node_modules"))
        .map((entry) => {
          const path = relative(root, join(entry.parentPath, entry.name))
          return { path, text: readFileSync(join(root, path), "utf8") }
        })
    : []

const sources = filesBelow("src")
const shelves = ["actors", "codecs", "examples"].flatMap(filesBelow)

// ---- who may import whom

/** The room that a file of src/ belongs to: its folder, or its own name at the top level. */
const roomOf = (path: string): string => {
  const [, folder, ...rest] = path.split("/")
  return rest.length === 0 ? (folder as string).replace(/\.ts$/, "") : (folder as string)
}

const ground = ["errors", "options", "model"]
const stageGround = [...ground, "telemetry", "storage"]
const planning = ["plan", "plan-names", "plan-parts", "planner", "job"]

/** Downhill only: each room, and the rooms it may import besides itself. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  model: ["errors"],
  options: ["errors"],
  storage: ground,
  telemetry: ground,
  source: stageGround,
  partition: stageGround,
  activation: stageGround,
  journal: stageGround,
  sink: stageGround,
  plan: ground,
  "plan-parts": [...ground, "plan"],
  "plan-names": [...ground, "plan", "plan-parts"],
  planner: [...ground, "plan", "plan-names", "plan-parts"],
  job: [...ground, "plan", "planner"],
  explain: [...ground, ...planning],
  ports: [...ground, "source", "partition", "journal", "sink"],
  topics: [...ground, ...planning, "ports", "source"],
  assembly: [...ground, ...planning, "ports", "topics", "source", "partition", "activation", "journal", "sink", "telemetry"],
  query: [...ground, "telemetry"],
  start: [...ground, ...planning, "ports", "assembly", "query", "telemetry", "partition"],
  publisher: [...ground, ...planning, "ports", "source", "sink", "telemetry"],
  read: [...ground, ...planning, "ports", "source"],
  runtime: [
    ...stageGround,
    "storage",
    ...planning,
    "ports",
    "start",
    "query",
    "source",
    "partition",
    "journal",
    "sink",
    "publisher",
    "read"
  ],
  index: [...ground, ...planning, "explain", "ports", "publisher", "query", "read", "start", "telemetry"],
  simulation: [...stageGround, ...planning, "ports", "start", "query", "source", "sink", "journal", "partition", "runtime"],
  testing: [...ground, ...planning, "ports", "topics", "assembly", "activation", "partition", "runtime", "simulation", "index"],
  cli: [...ground, ...planning, "ports", "query", "publisher", "read", "runtime", "index"]
}

const importsOf = (text: string): string[] =>
  [...text.matchAll(/(?:^|\n)(?:import|export)[^"';]*?from "([^"]+)"/g)].map((match) => match[1] as string)

const importFaults = (file: SourceFile): string[] => {
  const room = roomOf(file.path)
  const allowed = mayImport[room]
  if (allowed === undefined) return [`${file.path}: the room ${room} is not in the table of test/tidy.test.ts`]
  return importsOf(file.text)
    .filter((target) => target.startsWith("."))
    .map((target) => roomOf(posix.normalize(posix.join(posix.dirname(file.path), target))))
    .filter((target) => target !== room && !allowed.includes(target))
    .map((target) => `${file.path}: ${room} may not import ${target}`)
}

// ---- third parties

const thirdParties: readonly { readonly name: RegExp; readonly where: RegExp }[] = [
  { name: /^@nats-io\//, where: /^src\/(source|sink)\/jetstream(-[a-z]+)*\.ts$|^src\/(runtime|simulation)\// },
  { name: /^ioredis/, where: /redis\.ts$|^src\/runtime\// },
  { name: /^avsc/, where: /^codecs\/avro(\.ts$|\/)|^src\/journal\/entry\.ts$/ },
  { name: /^@opentelemetry\//, where: /^src\/telemetry\// },
  { name: /^node:sqlite/, where: /^src\/(storage|source|sink|journal|partition)\// }
]

const thirdPartyFaults = (file: SourceFile): string[] =>
  importsOf(file.text).flatMap((target) =>
    thirdParties
      .filter(({ name, where }) => name.test(target) && !where.test(file.path))
      .map(() => `${file.path}: ${target} does not belong here`)
  )

// ---- time, randomness, ids (R10)

const banned: readonly { readonly call: RegExp; readonly instead: string }[] = [
  { call: /\bDate\.now\(/, instead: "Clock.currentTimeMillis" },
  { call: /\bMath\.random\(/, instead: "effect/Random" },
  { call: /\bset(Timeout|Interval)\(/, instead: "Effect.sleep" },
  { call: /\brandomUUID\(/, instead: "effect/Random" },
  { call: /from "effect"/, instead: "a sub-path such as effect/Effect (the barrel costs 200 ms to load)" }
]

/** The adapters to the outside world, each with its reason. */
const exempt: readonly RegExp[] = [
  /^src\/storage\//, // polls SQLite for changes of other processes, and flushes groups of commits
  /^src\/cli\/terminal\.ts$/ // redraws a status line
]

const bannedFaults = (file: SourceFile): string[] =>
  exempt.some((path) => path.test(file.path))
    ? []
    : banned.filter(({ call }) => call.test(file.text)).map(({ call, instead }) => `${file.path}: ${call.source} is banned, use ${instead}`)

const shelfFaults = (file: SourceFile): string[] =>
  importsOf(file.text)
    .filter((target) => /(^|\/)src\//.test(target))
    .map((target) => `${file.path}: imports ${target}; shelves use the package by name (R14)`)

const drawer = /^(util|utils|helper|helpers|common|misc|types|constants)\.ts$/

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  readonly exports: Readonly<Record<string, string | { readonly "keyfold-source": string; readonly default: string }>>
}

const exportFaults = (): string[] => {
  const entries = Object.values(manifest.exports).filter((entry) => typeof entry !== "string")
  const missing = entries
    .filter((entry) => !existsSync(join(root, entry["keyfold-source"])))
    .map((entry) => `${entry["keyfold-source"]} is exported but missing`)
  const exported = new Set(entries.map((entry) => entry["keyfold-source"]))
  // A part of a shelf file lies in a folder of its name and is nobody else's.
  const hidden = [...filesBelow("actors"), ...filesBelow("codecs")]
    .filter(({ path }) => path.split("/").length === 2 && !exported.has(`./${path}`))
    .map(({ path }) => `${path} has no entry in package.json's exports`)
  const built = entries
    .filter((entry) => entry.default !== entry["keyfold-source"].replace("./", "./dist/").replace(/\.ts$/, ".js"))
    .map((entry) => `${entry.default} is not where the build puts it`)
  return [...missing, ...hidden, ...built]
}

describe("the checker finds", () => {
  test("an import uphill", () => {
    expect(importFaults({ path: "src/model/key.ts", text: 'import { start } from "../start.ts"' })).toEqual([
      "src/model/key.ts: model may not import start"
    ])
  })
  test("a stage that imports another", () => {
    expect(importFaults({ path: "src/journal/memory.ts", text: 'import type { Sink } from "../sink/sink.ts"' })).toHaveLength(1)
  })
  test("an import over several lines", () => {
    expect(importFaults({ path: "src/model/key.ts", text: 'import {\n  a,\n  b\n} from "../query.ts"' })).toHaveLength(1)
  })
  test("a third party in the wrong place", () => {
    expect(thirdPartyFaults({ path: "src/query.ts", text: 'import { metrics } from "@opentelemetry/api"' })).toHaveLength(1)
    expect(thirdPartyFaults({ path: "src/journal/journal.ts", text: 'import Redis from "ioredis"' })).toHaveLength(1)
  })
  test("a clock, randomness and a timer called directly", () => {
    expect(bannedFaults({ path: "src/query.ts", text: "const now = Date.now()\nsetTimeout(f, 1)\nMath.random()" })).toHaveLength(3)
  })
  test("a shelf that reaches into src", () => {
    expect(shelfFaults({ path: "actors/x.ts", text: 'import { a } from "../src/model/key.ts"' })).toHaveLength(1)
  })
})

test("imports run downhill, and the five stages never import each other", () => {
  expect(sources.flatMap(importFaults)).toEqual([])
})

test("third parties stay where they belong", () => {
  expect([...sources, ...shelves].flatMap(thirdPartyFaults)).toEqual([])
})

test("time, randomness and ids come from the context (R10)", () => {
  expect(sources.flatMap(bannedFaults)).toEqual([])
})

test("shelves and examples use the front door (R14)", () => {
  expect(shelves.flatMap(shelfFaults)).toEqual([])
})

test("no file is a drawer (R9)", () => {
  expect([...sources, ...shelves].map(({ path }) => posix.basename(path)).filter((name) => drawer.test(name))).toEqual([])
})

test("every export has its file, and every shelf file its export", () => {
  expect(exportFaults()).toEqual([])
})
