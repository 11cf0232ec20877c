/** Names that nobody else has drawn. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

const wordBits = 32

/** So many random bits, whole words of them, in hexadecimal. */
export const randomName = (bits: 64 | 128): Effect.Effect<string> =>
  Effect.map(Effect.all(Array.from({ length: bits / wordBits }, () => Random.nextIntBetween(0, 2 ** wordBits - 1))), (words) =>
    words.map((word) => word.toString(16).padStart(wordBits / 4, "0")).join("")
  )
