// Goal: the commands that an example's README shows do what it says.
// Method: the blocks of the page are run in their order from the root of the repository, as a reader would; the files that they write go
// into a directory of the test's own.
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { afterAll, expect, test } from "vitest"
import { commandsOf, isAsShown, type Page, pageAt, root, steady } from "./pages.ts"

const scratch = mkdtempSync(join(tmpdir(), "keyfold-examples-"))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const run = promisify(execFile)

/** What a command prints; the files that it names without a directory, and its data, are the test's. */
const printedBy = async (command: string): Promise<string> => {
  const here = command
    .replace(/ \.\/fraud-data\b/g, ` ${join(scratch, "data")}`)
    .replace(/(?<= )\w+\.jsonl\b/g, (name) => join(scratch, name))
  const env = { HOME: process.env["HOME"], PATH: [dirname(process.execPath), process.env["PATH"]].join(":"), LC_ALL: "C" }
  const { stdout } = await run("bash", ["-e", "-o", "pipefail", "-c", here], { cwd: root, env })
  return stdout
}

const runsAsShown = async (page: Page): Promise<number> => {
  let compared = 0
  for (const block of page.blocks) {
    if (block.language === "sh") await printedBy(block.text)
    for (const { command, prints } of block.language === "console" ? commandsOf(block) : []) {
      const printed = await printedBy(command)
      if (!isAsShown(printed, prints)) expect(steady(printed), `${page.path}:${block.line}: ${command}`).toBe(steady(prints))
      compared += 1
    }
  }
  return compared
}

test("examples/02-fraud-detection: the commands print what its README shows", async () => {
  expect(await runsAsShown(pageAt("examples/02-fraud-detection/README.md"))).toBe(2)
})
