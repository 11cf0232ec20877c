/**
 * Checkpoints of an owned journal in Redis (P18-P20): what the log says of keys goes into the hash of states and the sorted set of timeouts,
 * many turns of a hot key as one write, and the log forgets it. In the background, a chunk at a time, so that commits go on in between.
 *
 * A crash at any point does no harm: what chunks have written is what committed turns have left, and until the end of the checkpoint the
 * log still has all of it and overrides the hash. A chunk may even take what a turn after the checkpoint's has left: the log has that too.
 */
import * as Effect from "effect/Effect"
import type { KeyText } from "../model/key.ts"
import type { KeyImage } from "../model/turn.ts"
import { monotonicMs } from "../storage/monotonic.ts"
import type { RedisArgument } from "../storage/redis-link.ts"
import type { RedisTenure } from "../storage/redis-tenure.ts"
import type { JournalMemory } from "./journal-memory.ts"
import { encodeValue } from "./key-value.ts"
import { checkpointChunk, checkpointEnd } from "./scripts.ts"
import type { StoredTimeouts } from "./stored-timeouts.ts"

/** P19 allows four times as many; fewer hold up the turns of other partitions less, here and in Redis. */
const chunkKeysMax = 250
const chunkBytesMax = 1_048_576
const fullMsEvery = 1_000

export interface CheckpointParts {
  readonly tenure: RedisTenure
  readonly memory: JournalMemory
  readonly storedTimeouts: StoredTimeouts
}

/** Runs checkpoints for as long as it is run, or until one fails for good. A full disk passes; meanwhile it refuses turns as well. */
export const keepCheckpoints = Effect.fnUntraced(function* (parts: CheckpointParts, checkpointEveryMs: number) {
  let waitMs = checkpointEveryMs * placeInRound(parts.tenure.owner.partition)
  for (;;) {
    yield* Effect.raceFirst(Effect.sleep(waitMs), parts.memory.logIsFull)
    waitMs = checkpointEveryMs
    yield* Effect.catch(checkpoint(parts), (failure) => {
      if (failure.code !== "storage-full") return Effect.fail(failure)
      parts.memory.yieldRoom()
      return Effect.sleep(fullMsEvery)
    })
  }
})

/** From 0 to 1: partitions that were taken over together should not all write at the same time. Neighbours are far apart. */
const placeInRound = (partition: number): number => ((partition + 1) * 0.618_034) % 1

/** One checkpoint, when there is anything to write or to forget. */
export const checkpoint = Effect.fnUntraced(function* ({ tenure, memory, storedTimeouts }: CheckpointParts) {
  const { revision, progress = "", logBytes } = memory
  const nowMs = yield* monotonicMs
  if (revision === memory.snapshot && !memory.ledger.hasStale(nowMs)) return
  const keys = [...memory.dirty.all().map(({ keyText }) => keyText)]
  const written: KeyImage[] = []
  while (written.length < keys.length) {
    const chunk = Effect.suspend(() => {
      const images = chunkOf(memory, keys, written.length)
      return Effect.tap(tenure.write(checkpointChunk, chunkArguments(images)), () => {
        written.push(...images)
        storedTimeouts.shift()
        return Effect.void
      })
    })
    yield* tenure.inLine(Effect.uninterruptible(chunk))
  }
  const end = Effect.suspend(() => {
    const confirmed = memory.ledger.confirmedThrough(memory.revision)
    const firsts = [revision + 1, memory.ledger.forgetStale(nowMs)]
    const args = [revision, progress, confirmed, ...firsts].map(String)
    return Effect.tap(tenure.write(checkpointEnd, args), () => {
      memory.snapshot = revision
      memory.confirmed = confirmed
      memory.trimmed(logBytes)
      memory.dirty.clean(written)
      storedTimeouts.forget()
      return Effect.void
    })
  })
  yield* tenure.inLine(Effect.uninterruptible(end))
})

/** The next keys, as they are by now. A key that was dirty stays so until the end, so each of them is there. */
const chunkOf = (memory: JournalMemory, keys: readonly KeyText[], from: number): readonly KeyImage[] => {
  const images: KeyImage[] = []
  let bytes = 0
  for (let index = from; index < keys.length && images.length < chunkKeysMax && bytes < chunkBytesMax; index++) {
    const image = memory.dirty.get(keys[index] as KeyText) as KeyImage
    images.push(image)
    bytes += image.keyText.length + (image.bytes?.byteLength ?? 0)
  }
  return images
}

const chunkArguments = (images: readonly KeyImage[]): readonly RedisArgument[] => {
  const stored: RedisArgument[] = []
  const gone: RedisArgument[] = []
  const armed: RedisArgument[] = []
  const disarmed: RedisArgument[] = []
  for (const image of images) {
    const { keyText, bytes, timeoutAt } = image
    if (bytes === undefined && timeoutAt === undefined) gone.push(keyText)
    else stored.push(keyText, encodeValue(image))
    if (timeoutAt === undefined) disarmed.push(keyText)
    else armed.push(String(timeoutAt), keyText)
  }
  const counts = [stored.length / 2, gone.length, armed.length / 2, disarmed.length].map(String) as [string, string, string, string]
  return [counts[0], ...stored, counts[1], ...gone, counts[2], ...armed, counts[3], ...disarmed]
}
