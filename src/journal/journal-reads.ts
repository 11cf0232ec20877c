/** Reads of an owned journal in Redis: dirty keys from memory, all others from Redis, in one round trip where one is enough (J4, J5). */
import * as Effect from "effect/Effect"
import { KeyfoldError } from "../errors.ts"
import { compareKeyTexts, type KeyText } from "../model/key.ts"
import type { KeyImage } from "../model/turn.ts"
import { type RedisReply, replyParts, replyText } from "../storage/redis-link.ts"
import type { RedisTenure } from "../storage/redis-tenure.ts"
import { journalName } from "../storage/store.ts"
import type { JournalMemory } from "./journal-memory.ts"
import { decodeValue, valueHasState } from "./key-value.ts"
import { type ArmedKey, StoredTimeouts } from "./stored-timeouts.ts"

/** More would keep Redis from everybody else for too long. */
const keysPerRead = 8_192
const keysPerScan = 1_000

export class JournalReads {
  readonly #tenure: RedisTenure
  readonly #memory: JournalMemory
  readonly storedTimeouts: StoredTimeouts

  constructor(tenure: RedisTenure, memory: JournalMemory) {
    this.#tenure = tenure
    this.#memory = memory
    this.storedTimeouts = new StoredTimeouts({
      read: (command, args) => tenure.ask(tenure.link.command(command, tenure.keys.timeouts, args)),
      isDirty: (keyText) => memory.dirty.has(keyText)
    })
  }

  /** Hot path: loops. What is asked of Redis here cannot be changed meanwhile by a checkpoint, which writes dirty keys. */
  readonly load = Effect.fnUntraced(function* (this: JournalReads, keys: readonly KeyText[]) {
    const { dirty } = this.#memory
    const images: (KeyImage | undefined)[] = new Array(keys.length)
    const missing: number[] = []
    for (let index = 0; index < keys.length; index++) {
      const image = dirty.get(keys[index] as KeyText)
      if (image === undefined) missing.push(index)
      else images[index] = isGone(image) ? undefined : copyOf(image)
    }
    const values = yield* this.#values(missing.map((index) => keys[index] as KeyText))
    for (let at = 0; at < missing.length; at++) {
      const index = missing[at] as number
      images[index] = this.#decode(keys[index] as KeyText, values[at])
    }
    return images
  })

  /** P22: Redis' sorted set minus dirty keys, plus the dirty ones. */
  due(bound: { readonly before: number; readonly countMax: number }): Effect.Effect<readonly KeyImage[], KeyfoldError> {
    return this.#tenure.inLine(this.#due(bound))
  }

  readonly #due = Effect.fnUntraced(function* (this: JournalReads, bound: { readonly before: number; readonly countMax: number }) {
    const { before, countMax } = bound
    const dirty = this.#memory.dirty.due(before, countMax)
    const stored = yield* this.storedTimeouts.due(before, countMax)
    const values = yield* this.#values(stored.map(({ keyText }) => keyText))
    const due: KeyImage[] = []
    let [dirtyIndex, storedIndex] = [0, 0]
    while (due.length < countMax) {
      const [fromDirty, fromStored] = [dirty[dirtyIndex], stored[storedIndex]]
      if (fromDirty !== undefined && (fromStored === undefined || compareArmed(fromDirty as ArmedKey, fromStored) < 0)) {
        due.push(copyOf(fromDirty))
        dirtyIndex += 1
      } else if (fromStored !== undefined) {
        due.push(this.#armed(fromStored, values[storedIndex]))
        storedIndex += 1
      } else break
    }
    return due
  })

  get timeouts(): Effect.Effect<{ readonly first: number; readonly last: number } | undefined, KeyfoldError> {
    return this.#tenure.inLine(this.#timeouts())
  }

  readonly #timeouts = Effect.fnUntraced(function* (this: JournalReads) {
    const stored = { first: yield* this.storedTimeouts.first, last: yield* this.storedTimeouts.last }
    const dirty = this.#memory.dirty.span()
    if (stored.first === undefined || stored.last === undefined) return dirty
    return {
      first: Math.min(stored.first.timeoutAt, dirty?.first ?? Number.POSITIVE_INFINITY),
      last: Math.max(stored.last.timeoutAt, dirty?.last ?? Number.NEGATIVE_INFINITY)
    }
  })

  get keys(): Effect.Effect<readonly KeyImage[], KeyfoldError> {
    return this.#tenure.inLine(this.#keys())
  }

  readonly #keys = Effect.fnUntraced(function* (this: JournalReads) {
    const images = new Map<KeyText, KeyImage>()
    yield* this.#scan((keyText, value) => {
      images.set(keyText, decodeValue(keyText, value, this.#what))
      return true
    })
    for (const image of this.#memory.dirty.all()) if (!isGone(image)) images.set(image.keyText, copyOf(image))
    return [...images.values()].sort((left, right) => compareKeyTexts(left.keyText, right.keyText))
  })

  /** Whether any key has a state, and not only a timeout (J8). */
  readonly holdsState = Effect.fnUntraced(function* (this: JournalReads) {
    if (this.#memory.dirty.all().some((image) => image.bytes !== undefined)) return true
    let holds = false
    yield* this.#scan((_, value) => {
      holds = valueHasState(value)
      return !holds
    })
    return holds
  })

  /** All that Redis has of keys that are not dirty, some perhaps twice, until `take` has enough. */
  readonly #scan = Effect.fnUntraced(function* (this: JournalReads, take: (keyText: KeyText, value: Buffer) => boolean) {
    let cursor = "0"
    do {
      const reply = replyParts(yield* this.#read("HSCAN", [cursor, "COUNT", String(keysPerScan)]))
      cursor = replyText(reply[0])
      const parts = replyParts(reply[1])
      for (let index = 0; index < parts.length; index += 2) {
        const keyText = replyText(parts[index])
        if (!this.#memory.dirty.has(keyText) && !take(keyText, parts[index + 1] as Buffer)) return
      }
    } while (cursor !== "0")
  })

  readonly #values = Effect.fnUntraced(function* (this: JournalReads, keys: readonly KeyText[]) {
    if (keys.length === 0) return []
    if (keys.length <= keysPerRead) return replyParts(yield* this.#read("HMGET", keys))
    const parts = Array.from({ length: Math.ceil(keys.length / keysPerRead) }, (_, part) =>
      this.#read("HMGET", keys.slice(part * keysPerRead, (part + 1) * keysPerRead))
    )
    return (yield* Effect.all(parts, { concurrency: "unbounded" })).flatMap(replyParts)
  })

  #read(command: string, args: readonly string[]): Effect.Effect<RedisReply, KeyfoldError> {
    const { link, keys } = this.#tenure
    return this.#tenure.ask(link.command(command, keys.state, args))
  }

  #decode(keyText: KeyText, value: RedisReply | undefined): KeyImage | undefined {
    return value instanceof Buffer ? decodeValue(keyText, value, this.#what) : undefined
  }

  /** A key that has another timeout than the sorted set says would be due for ever. */
  #armed({ keyText, timeoutAt }: ArmedKey, value: RedisReply | undefined): KeyImage {
    const image = this.#decode(keyText, value)
    if (image !== undefined && image.timeoutAt === timeoutAt) return image
    throw new KeyfoldError(
      "directory-damaged",
      `Redis has a timeout of the journal ${journalName(this.#tenure.owner)} that its key does not have: the key was evicted or removed, or something else has written to it. Restore a backup, or begin anew under another query name`
    )
  }

  get #what(): string {
    return `a state in ${this.#tenure.keys.state}`
  }
}

const isGone = (image: KeyImage): boolean => image.bytes === undefined && image.timeoutAt === undefined

const copyOf = ({ keyText, bytes, timeoutAt }: KeyImage): KeyImage => ({ keyText, bytes: bytes && new Uint8Array(bytes), timeoutAt })

const compareArmed = (left: ArmedKey, right: ArmedKey): number =>
  left.timeoutAt - right.timeoutAt || compareKeyTexts(left.keyText, right.keyText)
