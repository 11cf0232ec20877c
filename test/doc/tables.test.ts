// Goal: what the documentation lists is what the code has: no limit, error, rule, command or ready-made part missing, none stale.
// Method: tables and headings are read out of the pages and held against the tables in the code.
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { commandNames, commandRules, optionRules, usageOf } from "../../src/cli/command-line.ts"
import { errorCodes } from "../../src/errors.ts"
import { limitRules, turnOutputBytesMax, turnTimeoutsMax } from "../../src/options.ts"
import { attributeNames } from "../../src/telemetry/span-names.ts"
import { pageAt, root, tableWith } from "./pages.ts"

const readme = pageAt("README.md")
const operating = pageAt("docs/operating.md")
const errors = pageAt("docs/errors.md")
const semantics = pageAt("docs/semantics.md")

const unquoted = (cell: string): string => cell.replaceAll("`", "")
const counted = (count: number): string => count.toLocaleString("en")

test("the limits have the defaults and bounds of options.ts", () => {
  const shown = tableWith(operating, "Limit").map(([name = "", ...bounds]) => [unquoted(name), ...bounds.slice(0, 3)])
  expect(shown).toEqual(
    Object.entries(limitRules).map(([name, { default: byDefault, min, max }]) =>
      [name, byDefault, min, max].map(String).map((text, index) => (index === 0 ? text : counted(Number(text))))
    )
  )
})

test("the bounds that are no options are the code's", () => {
  expect(operating.text).toContain(`a turn writes at most ${turnOutputBytesMax / 1_048_576} MiB`)
  expect(operating.text).toContain(`a turn fires at most ${counted(turnTimeoutsMax)} timeouts`)
})

describe("every error code", () => {
  const sections = errors.text.split(/^### /m).slice(1)
  const byCode = new Map(sections.map((section) => [section.split("\n", 1)[0] ?? "", section] as const))

  test("has a section, in the order of errors.ts, and no section is stale", () => {
    expect([...byCode.keys()]).toEqual(Object.keys(errorCodes))
  })

  test.each(Object.entries(errorCodes))("%s: meaning, typical message, causes, cure, who acts", (code, meaning) => {
    const section = byCode.get(code) ?? ""
    expect(unquoted(section).toLowerCase()).toContain(`${meaning.toLowerCase()}.`)
    for (const part of ["- **Typical**: ", "- **Causes**: ", "- **Cure**: ", "- **Who acts**: "]) expect(section).toContain(part)
  })
})

test("every rule of a state function is in semantics.md", () => {
  const numbers = (letter: string, last: number) => Array.from({ length: last }, (_, index) => `${letter}${index + 1}`)
  const rules = [...numbers("G", 23), ...numbers("W", 8), ...numbers("T", 4)]
  const stated = [...semantics.text.matchAll(/^- \*\*([GWT]\d+)\*\*/gm)].map((match) => match[1] as string)
  expect(stated.toSorted()).toEqual(rules.toSorted())
})

describe("the command", () => {
  test("README.md lists every command with its options", () => {
    const shown = tableWith(readme, "Command").map(([usage = "", , options = ""]) => [unquoted(usage), unquoted(options)])
    expect(shown).toEqual(
      commandNames.map((name) => [
        usageOf(name).replace(" [options]", ""),
        commandRules[name].options
          .map((option) => `--${option}${"value" in optionRules[option] ? ` ${optionRules[option].value}` : ""}`)
          .join(", ")
      ])
    )
  })

  test("operating.md lists every command and every exit code", () => {
    expect(tableWith(operating, "Command").map(([name = ""]) => unquoted(name))).toEqual(commandNames)
    const codes = /ExitCode = ([\d |]+)/.exec(readFileSync(join(root, "src/cli/refusal.ts"), "utf8"))?.[1]?.split(" | ")
    expect(tableWith(operating, "Code").map(([code]) => code)).toEqual(codes)
  })
})

test("tracing.md lists every attribute of a span", () => {
  const shown = tableWith(pageAt("docs/tracing.md"), "Attribute").map(([name = ""]) => unquoted(name))
  const { link, ...ofSpans } = attributeNames
  expect(shown.toSorted()).toEqual(Object.values(ofSpans).toSorted())
  expect(pageAt("docs/tracing.md").text).toContain(link)
})

test("README.md lists every ready-made actor and codec", () => {
  const shelved = ["actors", "codecs"].flatMap((shelf) =>
    globSync(`${shelf}/*.ts`, { cwd: root }).map((file) => `keyfold/${file.replace(/\.ts$/, "")}`)
  )
  expect(
    tableWith(readme, "Import")
      .map(([name = ""]) => unquoted(name))
      .toSorted()
  ).toEqual(shelved.toSorted())
})

test("every npm script that a page names exists", () => {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> }
  const named = [readme, operating].flatMap(({ text }) =>
    [...text.matchAll(/npm (?:run ([\w:]+)|(test))/g)].map((match) => match[1] ?? match[2])
  )
  expect(named.length).toBeGreaterThan(3)
  expect(named.filter((name) => name === undefined || scripts[name] === undefined)).toEqual([])
})

test("the changelog begins with the version of the package", () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }
  expect(/^## (\S+)/m.exec(pageAt("CHANGELOG.md").text)?.[1]).toBe(version)
})
