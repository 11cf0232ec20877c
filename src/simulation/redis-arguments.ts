import type { Bytes } from "./redis-data.ts"

/** Takes one list after the other from a script's arguments: how many items, and then the items, each of so many arguments. */
export const listsIn = (args: readonly Bytes[]): ((width: number) => Bytes[][]) => {
  let at = 0
  return (width) => {
    const count = Number(args[at])
    const items = Array.from({ length: count }, (_, index) => args.slice(at + 1 + index * width, at + 1 + (index + 1) * width))
    at += 1 + count * width
    return items
  }
}
