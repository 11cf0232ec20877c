/** Where in the user's files an error came from. Pure. */
import { fileURLToPath } from "node:url"

/**
 * `/a/b.ts:3`, from the stack: Node puts the place before the stack of a syntax error, and into the frames of every other. Frames of
 * keyfold and of packages are passed over.
 */
export const placeOf = ({ stack = "" }: Error): string | undefined => {
  const [head = "", ...rest] = stack.split("\n")
  const found = [/^((?:file:\/\/)?\/.+:\d+)$/.exec(head)?.[1], ...rest.map((line) => frame.exec(line)?.[1])].find(
    (place) => place !== undefined && !place.includes("/node_modules/") && !ownFolders.some((folder) => place.startsWith(folder))
  )
  return found === undefined ? undefined : withoutScheme(found)
}

const frame = /^ +at (?:.*\()?(file:\/\/\/.+:\d+):\d+\)?$/

/** keyfold's own sources, or what was built of them; its examples are somebody's. */
const ownFolders = ["src", "codecs", "actors"].map((folder) => new URL(`../../${folder}/`, import.meta.url).href)

/** `file:///a/b%20c.ts:3` -> `/a/b c.ts:3` */
const withoutScheme = (place: string): string => {
  if (!place.startsWith("file:")) return place
  const end = place.lastIndexOf(":")
  return `${fileURLToPath(place.slice(0, end))}${place.slice(end)}`
}
