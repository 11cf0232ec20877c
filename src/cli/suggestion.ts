/** "Did you mean": the name nearest to what was typed. Pure. */

/** The candidate that differs by a typing slip (one in three letters at most); undefined when none is near. */
export const nearest = (typed: string, candidates: readonly string[]): string | undefined => {
  const word = typed.toLowerCase()
  let best: { readonly name: string; readonly distance: number } | undefined
  for (const name of candidates) {
    const distance = editDistance(word, name.toLowerCase())
    if (distance <= slipsMax(word, name) && (best === undefined || distance < best.distance)) best = { name, distance }
  }
  return best?.name
}

/** "Did you mean run?", or all there is when nothing is near; undefined without candidates. */
export const didYouMean = (typed: string, candidates: readonly string[], what: string): string | undefined => {
  const near = nearest(typed, candidates)
  if (near !== undefined) return `Did you mean ${near}?`
  return candidates.length === 0 ? undefined : `${what}: ${listed(candidates)}.`
}

const listedMax = 12

export const listed = (names: readonly string[]): string => {
  const more = names.length - listedMax
  return more > 0 ? `${names.slice(0, listedMax).join(", ")} and ${more} more` : names.join(", ")
}

const slipsMax = (word: string, name: string): number => Math.max(1, Math.floor(Math.min(word.length, name.length) / 3))

/** Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment). */
export const editDistance = (left: string, right: string): number => {
  let before: number[] = []
  let last = Array.from({ length: right.length + 1 }, (_, index) => index)
  for (let row = 1; row <= left.length; row++) {
    const next = [row]
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1]
      const replaced = (last[column - 1] as number) + (same ? 0 : 1)
      const swaps = row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]
      const swapped = swaps ? (before[column - 2] as number) + 1 : replaced
      next.push(Math.min((last[column] as number) + 1, (next[column - 1] as number) + 1, replaced, swapped))
    }
    before = last
    last = next
  }
  return last[right.length] as number
}
