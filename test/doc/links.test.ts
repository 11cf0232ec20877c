// Goal: no link within the documentation leads nowhere.
// Method: relative links of all pages are resolved in the tree, anchors against the headings of their page. Nothing is asked of the network.
import { existsSync, statSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { expect, test } from "vitest"
import { allPages, type Page, pageAt, root } from "./pages.ts"

/** Text outside of code, where links are. */
const proseOf = (page: Page): string => page.text.replace(/^```[\s\S]*?^```$/gm, "").replace(/`[^`\n]*`/g, "code")

const targetsIn = (page: Page): string[] => [...proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] as string)

/** As GitHub makes them: lower case, spaces to dashes, punctuation gone. */
const anchorsOf = (page: Page): string[] =>
  [...page.text.replace(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.+)$/gm)].map((match) =>
    (match[1] as string)
      .toLowerCase()
      .replace(/[^\w\- ]/g, "")
      .replaceAll(" ", "-")
  )

const linkFault = (page: Page, target: string): string | undefined => {
  if (/^https:/.test(target)) return undefined
  const [file = "", anchor] = target.split("#")
  const path = file === "" ? page.path : normalize(join(dirname(page.path), file))
  if (!existsSync(join(root, path))) return `${page.path}: ${target} does not exist`
  if (anchor === undefined) return undefined
  if (statSync(join(root, path)).isDirectory() || !path.endsWith(".md")) return `${page.path}: ${target} has an anchor but is no page`
  return anchorsOf(pageAt(path)).includes(anchor) ? undefined : `${page.path}: ${target} names no heading`
}

test("the checker finds a missing file and a missing heading", () => {
  const page: Page = { path: "docs/x.md", text: "[a](gone.md) [b](errors.md#nothing) [c](../README.md#licence)", blocks: [] }
  expect(targetsIn(page).flatMap((target) => linkFault(page, target) ?? [])).toHaveLength(2)
})

test("every link leads somewhere", () => {
  const pages = allPages()
  expect(pages.flatMap(targetsIn).length).toBeGreaterThan(20)
  expect(pages.flatMap((page) => targetsIn(page).flatMap((target) => linkFault(page, target) ?? []))).toEqual([])
})

test("every page of docs/ is linked from the README", () => {
  const linked = targetsIn(pageAt("README.md"))
  expect(
    allPages()
      .map(({ path }) => path)
      .filter((path) => path !== "README.md" && !linked.some((target) => target.split("#")[0] === path))
  ).toEqual([])
})
