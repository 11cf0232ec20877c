/** Z4, told in a line: `assert` prints a difference for minutes where there is much of it. */
import { isDeepStrictEqual } from "node:util"

export class Disagreement extends Error {
  override readonly name = "Disagreement"
}

export const agree = (found: unknown, expected: unknown, what = "what was read"): void => {
  if (!isDeepStrictEqual(found, expected)) throw new Disagreement(`Z4: ${what} is ${shown(found)}, not ${shown(expected)}`)
}

const shown = (value: unknown): string => {
  const text = value instanceof Uint8Array ? Buffer.from(value).toString("hex") : (JSON.stringify(value) ?? String(value))
  return text.length > 300 ? `${text.slice(0, 300)}...` : text
}
