/**
 * Checks the package as its users get it: packs it, lints the tarball (publint, attw), installs it into a foreign project and type-checks
 * a job there with `skipLibCheck: false`, then runs that job on the embedded runtime, on this Node and on the oldest that `engines` allows.
 * On the clustered runtime it only has to say that nobody is there.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")
const work = mkdtempSync(join(tmpdir(), "keyfold-package-"))

const run = (command: string, args: readonly string[], cwd: string): string => {
  process.stdout.write(`$ ${command} ${args.join(" ")}\n`)
  return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 64 * 1_048_576 })
}

const bin = (name: string): string => join(root, "node_modules/.bin", name)

interface Manifest {
  readonly engines: { readonly node: string }
}

const foreignJob = `
import { job, type KeyfoldError, topic, publisher, read, start, type Query } from "keyfold"
import { avro } from "keyfold/codecs/avro"
import { json } from "keyfold/codecs/json"
import { text } from "keyfold/codecs/text"
import { bytes } from "keyfold/codecs/bytes"
import { sessionize } from "keyfold/actors/sessionize"
import { clustered } from "keyfold/clustered"
import { embedded } from "keyfold/embedded"
import { groupState, harness, memory } from "keyfold/testing"
import * as layers from "keyfold/effect"

interface Click { readonly user: string; readonly at: number }
const clicks = topic("clicks", { codec: json<Click>(), key: (click) => click.user, partitions: 2 })
const sessionSchema = {
  type: "record",
  name: "Session",
  fields: [
    { name: "user", type: "string" },
    { name: "count", type: "int" }
  ]
} as const
const sessions = topic("sessions", { codec: avro<{ user: string; count: number }>(sessionSchema), key: (session) => session.user })
const sessionized = job("foreign")
  .from(clicks)
  .withWatermark((click) => click.at, "1 second")
  .groupByKey()
  .actor(sessionize<string, Click>({ gap: "1 minute", eventTime: (click) => click.at }))
  .map((session) => ({ user: session.key, count: session.count }))
  .to(sessions)

const runtime = embedded("./data")
const out = await publisher(runtime, clicks)
await out.send({ user: "u", at: 1_000_000 })
await out.send({ user: "u", at: 1_010_000 })
await out[Symbol.asyncDispose]()
const query: Query = await start(sessionized, { runtime, trigger: "available-now", atEnd: "close" })
await query.awaitTermination()
for await (const { value } of read(runtime, sessions)) console.log(JSON.stringify(value))
const nowhere = clustered({ nats: "nats://127.0.0.1:9", redis: "redis://127.0.0.1:9" })
const refused: KeyfoldError = await start(sessionized, { runtime: nowhere }).then(() => { throw new Error("it started") }, (thrown) => thrown)
if (refused.code !== "unreachable") throw refused
void [text, bytes, groupState, harness, memory, layers]
`

const tsconfig = {
  compilerOptions: {
    target: "es2024",
    lib: ["es2024", "dom", "esnext.disposable"],
    module: "nodenext",
    strict: true,
    skipLibCheck: false,
    noEmit: true,
    types: ["node"]
  },
  include: ["main.ts"]
}

try {
  const [packed] = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", work], root)) as [
    { filename: string }
  ]
  const tarball = join(work, packed.filename)
  process.stdout.write(run(bin("publint"), ["run", tarball, "--strict"], root))
  process.stdout.write(run(bin("attw"), [tarball, "--profile", "esm-only"], root))

  const foreign = join(work, "foreign")
  mkdirSync(foreign)
  writeFileSync(
    join(foreign, "package.json"),
    JSON.stringify({ name: "foreign", private: true, type: "module", allowScripts: { node: true } })
  )
  writeFileSync(join(foreign, "tsconfig.json"), JSON.stringify(tsconfig))
  writeFileSync(join(foreign, "main.ts"), foreignJob)
  const oldest = `node@${(JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest).engines.node.replace(">=", "")}`
  run("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline", tarball, "@types/node@24", oldest], foreign)
  run(bin("tsc"), ["-p", foreign], foreign)
  for (const node of [process.execPath, join(foreign, "node_modules/.bin/node")]) {
    const version = run(node, ["--version"], foreign).trim()
    rmSync(join(foreign, "data"), { recursive: true, force: true })
    const printed = run(node, ["main.ts"], foreign).trim()
    if (printed !== '{"user":"u","count":2}') throw new Error(`the foreign job printed ${printed} on Node ${version}`)
    const keyfold = run(node, ["node_modules/.bin/keyfold", "--version"], foreign).trim()
    process.stdout.write(`package: keyfold ${keyfold} fits a foreign project and runs there on Node ${version}\n`)
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}
