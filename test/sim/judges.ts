/** What several models say of what came out: texts in, what is wrong out; undefined when nothing is. */

/** `isPartial`: or the beginning of it. */
export const isSame = (found: readonly unknown[], expected: readonly unknown[], isPartial: boolean): boolean =>
  String(found) === String(isPartial ? expected.slice(0, found.length) : expected)

export const foulOf = (key: string, armed: { readonly dueMs: number } | undefined, atMs: number): string | undefined => {
  if (armed === undefined) return `a timeout of ${key} without what it was armed for`
  return atMs <= armed.dueMs ? `a timeout of ${key} at ${atMs}, due at ${armed.dueMs}` : undefined
}

export const foulIn = (found: readonly { readonly foul?: string | undefined }[]): string | undefined =>
  found.find(({ foul }) => foul !== undefined)?.foul

/** The numbers of a key, over all its results, are those of its events, in order. */
export const judgeNumbersOf = (
  found: readonly { readonly key: string; readonly numbers: readonly number[] }[],
  sent: readonly { readonly key: string; readonly number: number }[],
  isPartial: boolean
): string | undefined => {
  const lines = found.flatMap(({ key, numbers }) => numbers.map((number) => `${key}: ${number}`))
  const expected = sent.map(({ key, number }) => `${key}: ${number}`)
  for (const key of new Set(sent.map((one) => one.key))) {
    const [got, wanted] = [lines, expected].map((all) => all.filter((line) => line.startsWith(`${key}: `))) as [string[], string[]]
    if (!isSame(got, wanted, isPartial)) return `${key} has results of [${got}], its events are [${wanted}]`
  }
  return differenceOf(lines, expected, isPartial)
}

export const differenceOf = (found: readonly string[], expected: readonly string[], isPartial: boolean): string | undefined => {
  const sorted = [found.toSorted(), expected.toSorted()].map((lines) => lines.join("\n"))
  if (sorted[0] === sorted[1]) return undefined
  const left = [...found]
  const missing = expected.filter((line) => {
    const index = left.indexOf(line)
    if (index >= 0) left.splice(index, 1)
    return index < 0
  })
  if (isPartial && left.length === 0) return undefined
  return `missing: ${missing.slice(0, 3).join("; ") || "nothing"}, too much: ${left.slice(0, 3).join("; ") || "nothing"}`
}
