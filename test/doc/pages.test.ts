// Goal: whatever code the README and docs/ show compiles, runs, and prints what they say.
// Method: the ts blocks of a page become files of a directory of its own inside the repository (where "keyfold" is the sources); tsc checks
// all of them at once, and the shell blocks are run there in their order.
import { execFile, execFileSync } from "node:child_process"
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { startNats } from "../servers/nats-server.ts"
import { startRedis } from "../servers/redis-server.ts"
import { type Server, startAll } from "../servers/server.ts"
import { type Block, blockFaults, blocksIn, codePages, commandsOf, fileNameOf, isAsShown, type Page, root, steady } from "./pages.ts"

const pages = codePages()

const started: Server[] = []
let scratch: string
let commands: string

beforeAll(() => {
  mkdirSync(join(root, ".keyfold"), { recursive: true })
  scratch = mkdtempSync(join(root, ".keyfold", "doc-"))
  commands = join(scratch, "bin")
  mkdirSync(commands)
  const main = join(root, "src/cli/main.ts")
  writeFileSync(join(commands, "npx"), `#!/bin/sh\n[ "$1" = keyfold ] || exit 127\nshift\nexec node ${main} "$@"\n`)
  chmodSync(join(commands, "npx"), 0o755)
})

beforeAll(async () => {
  const [nats, redis] = (await startAll([startNats(), startRedis()])) as [Server, Server]
  started.push(nats, redis)
  servers = { KEYFOLD_NATS: nats.url, KEYFOLD_REDIS: redis.url }
})

afterAll(async () => {
  rmSync(scratch, { recursive: true, force: true })
  await Promise.all(started.map((server) => server.stop()))
})

const run = promisify(execFile)

/** What a command prints, stdout and stderr as a terminal would show them; it may fail, when the page shows a failure. */
const printedBy = async (command: string, directory: string, places: Readonly<Record<string, string>> = {}): Promise<string> => {
  const env = {
    ...places,
    HOME: process.env["HOME"],
    PATH: [commands, dirname(process.execPath), process.env["PATH"]].join(":"),
    NODE_COMPILE_CACHE: join(scratch, "compiled"),
    NODE_OPTIONS: "--conditions=keyfold-source --disable-warning=ExperimentalWarning"
  }
  const { stdout } = await run("bash", ["-c", `exec 2>&1\n${command}`], { cwd: directory, env }).catch((failed: { stdout?: string }) => {
    if (typeof failed.stdout === "string") return { stdout: failed.stdout }
    throw failed
  })
  return stdout
}

/** What npm and docker do is not for a test to do: they install or start what is already here. */
const isNpms = (block: Block): boolean => /(^|&& )(npm|docker) /m.test(block.text)

/** The page whose commands work on servers, which are started for it. */
const onServers = "docs/clustered.md"
let servers: Readonly<Record<string, string>> = {}

describe("the checker", () => {
  test("finds a block without a file name, an unknown language and a console without a command", () => {
    const text = "```ts\nconst a = 1\n```\n```js\n1\n```\n```console\nls\n```\n"
    expect(blockFaults({ path: "x.md", text, blocks: blocksIn(text) })).toHaveLength(3)
  })
  test("compares all but times and rates", () => {
    expect(isAsShown("done in 1.5 s (9 lines/s)\n", "done in 0.0 s (444 lines/s)")).toBe(true)
    expect(isAsShown("7 events", "8 events")).toBe(false)
    expect(isAsShown("one\ntwo\nthree", "one\n…")).toBe(true)
    expect(isAsShown("two\nthree", "one\n…")).toBe(false)
  })
})

test("every code block says what it is", () => {
  expect(pages.flatMap(blockFaults)).toEqual([])
})

test("every file in the pages compiles", () => {
  const files = pages.flatMap((page) => writeVersions(page, join(scratch, "types", page.path)))
  const config = { extends: join(root, "tsconfig.json"), compilerOptions: { rootDir: root }, include: [], files }
  writeFileSync(join(scratch, "tsconfig.json"), JSON.stringify(config))
  const faults = (() => {
    try {
      return execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", scratch], { encoding: "utf8" })
    } catch (failed) {
      return (failed as { stdout: string }).stdout
    }
  })()
  expect(faults).toBe("")
  expect(files.length).toBeGreaterThan(pages.length)
})

test.concurrent.each(pages.map((page) => [page.path, page] as const))("%s: the commands print what the page shows", async (path, page) => {
  const directory = join(scratch, "run", path)
  mkdirSync(directory, { recursive: true })
  const places = path === onServers ? servers : {}
  for (const block of page.blocks) {
    if (block.language === "ts") writeFileSync(join(directory, fileNameOf(block) as string), block.text)
    else if (block.language === "sh" && !isNpms(block)) await printedBy(block.text, directory, places)
    else if (block.language === "console") {
      for (const { command, prints } of commandsOf(block)) {
        const printed = await printedBy(command, directory, places)
        if (!isAsShown(printed, prints)) expect(steady(printed), `${path}:${block.line}: ${command}`).toBe(steady(prints))
      }
    }
  }
})

/** Writes the files of a page; when a later block replaces one, all of them once more, so that each version is checked among its fellows. */
const writeVersions = (page: Page, directory: string): string[] => {
  let current = new Map<string, string>()
  const versions = [current]
  for (const block of page.blocks.filter(({ language }) => language === "ts")) {
    const name = fileNameOf(block)
    if (name === undefined) continue
    if (current.has(name)) {
      current = new Map(current)
      versions.push(current)
    }
    current.set(name, block.text)
  }
  return versions.flatMap((version, index) =>
    [...version].map(([name, text]) => {
      const file = join(directory, String(index), name)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, text)
      return file
    })
  )
}
