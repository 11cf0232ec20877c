/**
 * The timeouts that Redis holds for keys that are not dirty. The sorted set also has dirty keys, as they were: they are passed over, and so
 * that a hundred thousand of them are not passed over again and again, it is remembered how far from either end there is nothing else.
 *
 * What is remembered stays true while keys become dirty. A checkpoint's chunk shifts places, but writes dirty keys only; its end makes keys
 * clean, and then all is forgotten. So nothing may be written between two pages: the calls stand in the partition's line.
 */
import * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { KeyText } from "../model/key.ts"
import { type RedisArgument, type RedisReply, replyParts, replyText } from "../storage/redis-link.ts"

export interface ArmedKey {
  readonly keyText: KeyText
  readonly timeoutAt: number
}

type Read = (command: string, args: readonly RedisArgument[]) => Effect.Effect<RedisReply, KeyfoldError>

interface EndParts {
  readonly read: Read
  readonly isDirty: (keyText: KeyText) => boolean
}

export class StoredTimeouts {
  readonly #front: End
  readonly #back: End

  constructor(parts: EndParts) {
    this.#front = new End(parts, { command: "ZRANGEBYSCORE", from: "-inf", to: "+inf" })
    this.#back = new End(parts, { command: "ZREVRANGEBYSCORE", from: "+inf", to: "-inf" })
  }

  /** The first ones strictly before a time, in order (J5). */
  due(before: number, countMax: number): Effect.Effect<readonly ArmedKey[], KeyfoldError> {
    return this.#front.next(strictlyBefore(before), countMax)
  }

  get first(): Effect.Effect<ArmedKey | undefined, KeyfoldError> {
    return this.#front.nearest
  }

  get last(): Effect.Effect<ArmedKey | undefined, KeyfoldError> {
    return this.#back.nearest
  }

  /** A chunk of a checkpoint was written. */
  shift(): void {
    this.#front.shift()
    this.#back.shift()
  }

  /** Keys became clean. */
  forget(): void {
    this.#front.forget()
    this.#back.forget()
  }
}

/** How far from its end a search goes. */
interface Bound {
  /** As Redis writes it. */
  readonly text: string
  readonly excludes: (timeoutAt: number) => boolean
}

const strictlyBefore = (before: number): Bound => ({
  text: before === Number.POSITIVE_INFINITY ? "+inf" : `(${before}`,
  excludes: (timeoutAt) => timeoutAt >= before
})

const pageMin = 64
const pageMax = 4_096

/** One end of the sorted set. */
class End {
  readonly #parts: EndParts
  readonly #range: { readonly command: string; readonly from: string; readonly to: string }
  /** Everything beyond `score`, as Redis writes it, and the first `skip` keys from there on, are dirty. */
  #place: { readonly score: string; readonly skip: number }
  /** The first key that was not dirty when it was seen; null: there is none. */
  #nearest: ArmedKey | null | undefined

  constructor(parts: EndParts, range: { readonly command: string; readonly from: string; readonly to: string }) {
    this.#parts = parts
    this.#range = range
    this.#place = { score: range.from, skip: 0 }
  }

  shift(): void {
    this.#place = { score: this.#place.score, skip: 0 }
  }

  forget(): void {
    this.#place = { score: this.#range.from, skip: 0 }
    this.#nearest = undefined
  }

  get nearest(): Effect.Effect<ArmedKey | undefined, KeyfoldError> {
    return Effect.suspend(() => {
      const known = this.#known
      if (known !== undefined) return Effect.succeed(known ?? undefined)
      const all = { text: this.#range.to, excludes: () => false }
      return Effect.map(this.next(all, 1), ([nearest]) => {
        if (nearest === undefined) this.#nearest = null
        return nearest
      })
    })
  }

  /** The nearest ones that are not dirty, up to a bound. */
  readonly next = Effect.fnUntraced(function* (this: End, bound: Bound, countMax: number) {
    const found: ArmedKey[] = []
    const known = this.#known
    if (known === null || (known !== undefined && bound.excludes(known.timeoutAt)) || countMax <= 0) return found
    let place = this.#place
    for (let page = pageMin; ; page = Math.min(pageMax, 4 * page)) {
      const size = Math.max(page, Math.min(pageMax, countMax - found.length))
      const limits = ["WITHSCORES", "LIMIT", String(place.skip), String(size)]
      const parts = replyParts(yield* this.#parts.read(this.#range.command, [place.score, bound.text, ...limits]))
      for (let index = 0; index < parts.length && found.length < countMax; index += 2) {
        const [keyText, score] = [replyText(parts[index]), replyText(parts[index + 1])]
        place = score === place.score ? { score, skip: place.skip + 1 } : { score, skip: 1 }
        if (!this.#parts.isDirty(keyText)) {
          const armed = { keyText, timeoutAt: Number(score) }
          if (found.length === 0) this.#nearest = armed
          found.push(armed)
        } else if (found.length === 0) this.#place = place
      }
      if (found.length === countMax || parts.length < 2 * size) return found
    }
  })

  get #known(): ArmedKey | null | undefined {
    const nearest = this.#nearest
    return nearest && this.#parts.isDirty(nearest.keyText) ? undefined : nearest
  }
}
