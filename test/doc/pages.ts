/**
 * The documentation as data: its pages, and the fenced blocks in them that are held to what they say.
 *
 *   ts          a complete file, named by its first line: `// file: name.ts`. A later block of the same name replaces it
 *   sh          commands to type; run as they are, unless one is npm's own business (install, scripts)
 *   console     `$ command` and what it prints; run, and compared
 *   text, json  pictures and excerpts, for the eye only
 */
import { globSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"

export const root = resolve(import.meta.dirname, "../..")

export interface Block {
  readonly language: string
  readonly text: string
  /** 1-based, of the opening fence. */
  readonly line: number
}

export interface Page {
  /** From the root of the repository. */
  readonly path: string
  readonly text: string
  readonly blocks: readonly Block[]
}

const languages = ["ts", "sh", "console", "text", "json"]

export const pageAt = (path: string): Page => {
  const text = readFileSync(join(root, path), "utf8")
  return { path, text, blocks: blocksIn(text) }
}

/** The pages whose code must hold. */
export const codePages = (): Page[] => ["README.md", ...globSync("docs/*.md", { cwd: root }).sort()].map(pageAt)

/** Everything that a reader may click through. */
export const allPages = (): Page[] =>
  ["README.md", "CHANGELOG.md", ...globSync(["docs/*.md", "examples/*/README.md"], { cwd: root }).sort()].map(pageAt)

export const blocksIn = (text: string): Block[] => {
  const blocks: Block[] = []
  let open: { language: string; lines: string[]; line: number } | undefined
  text.split("\n").forEach((line, index) => {
    if (!line.startsWith("```")) open?.lines.push(line)
    else if (open === undefined) open = { language: line.slice(3), lines: [], line: index + 1 }
    else {
      blocks.push({ language: open.language, text: open.lines.join("\n"), line: open.line })
      open = undefined
    }
  })
  return blocks
}

/** What is wrong with the blocks of a page as such. */
export const blockFaults = (page: Page): string[] =>
  page.blocks.flatMap((block) => {
    const at = `${page.path}:${block.line}`
    if (!languages.includes(block.language))
      return [`${at}: a block is one of ${languages.join(", ")}, not ${JSON.stringify(block.language)}`]
    if (block.language === "ts" && fileNameOf(block) === undefined) return [`${at}: a ts block begins with "// file: name.ts"`]
    if (block.language === "console" && !block.text.startsWith("$ ")) return [`${at}: a console block begins with "$ command"`]
    return []
  })

export const fileNameOf = (block: Block): string | undefined => /^\/\/ file: ([\w.-]+\.ts)\n/.exec(block.text)?.[1]

/** The commands of a console block, each with what it prints. */
export const commandsOf = (block: Block): { readonly command: string; readonly prints: string }[] =>
  block.text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [command = "", ...lines] = part.split("\n")
      return { command, prints: lines.join("\n").trimEnd() }
    })

/** Whether printed text is what the page shows: times and rates may differ, and a line "…" stands for the rest. */
export const isAsShown = (printed: string, shown: string): boolean => {
  const [have, want] = [steady(printed), steady(shown)]
  return want.endsWith("\n…") ? have.startsWith(want.slice(0, -1)) : have === want
}

/** Text without what differs from run to run. */
export const steady = (text: string): string =>
  text
    .trimEnd()
    .replace(/\d+\.\d+ s\b/g, "N s")
    .replace(/\([\d,.]+ lines\/s\)|\([\d,.]+\/s\)/g, "(N/s)")
    .replace(/\([\d.]+ms\)/g, "(N ms)")
    .replace(/"publishedAt":\d+/g, '"publishedAt":N')
    .replace(/process \d+ on \S+ has been running queries on it since \S+/g, "process N on HOST has been running queries on it since TIME")
    .replace(/(?:\/\S+)?\/\.keyfold\/doc-\S+?\/(?=[\w.-]+(?:[\s:)/]|$))/g, "")

/** The rows of the first table whose header has a column of this name; cells are trimmed. */
export const tableWith = (page: Page, column: string): string[][] => {
  const lines = page.text.split("\n")
  const header = lines.findIndex((line) => cellsOf(line).includes(column))
  const rows: string[][] = []
  for (const line of header === -1 ? [] : lines.slice(header + 2)) {
    if (!line.startsWith("|")) break
    rows.push(cellsOf(line))
  }
  return rows
}

const cellsOf = (line: string): string[] =>
  line.startsWith("|")
    ? line
        .slice(1, line.lastIndexOf("|"))
        .split("|")
        .map((cell) => cell.trim())
    : []
