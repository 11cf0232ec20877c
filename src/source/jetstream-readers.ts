/**
 * The readers of this process: one for each place where somebody reads on. Whoever comes with another position gets another reader; those
 * that nobody has used for a while are closed.
 */
import { type NatsConnection, PermissionViolationError, type Status } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import type { StoredRecord } from "../model/record.ts"
import type { ArrivalBeat } from "./arrival-beat.ts"
import type { JetStreamApi } from "./jetstream-api.ts"
import type { ReaderPlace, ReaderPosition } from "./jetstream-consumer.ts"
import type { PullSize } from "./jetstream-pulls.ts"
import { StreamReader } from "./jetstream-reader.ts"
import type { ReadRequest } from "./source.ts"

const lookMsEvery = 1_000
const unusedLooksMax = 30
const readersOfPlaceMax = 4

/** What one request of a reader may bring, and the least; all readers together share the rest. */
const pullRecords = 4_096
const pullBytesMost = 1_048_576
const pullBytesLeast = 65_536
const pullBytesAll = 32 * 1_048_576

/** How long `read` waits for records that are there, and for more of them once some have come. */
const firstMsMax = 1_000
const moreMsMax = 20

export class Readers {
  readonly #api: JetStreamApi
  readonly #scope: Scope.Scope
  readonly #inboxPrefix: string | undefined
  readonly #readers = new Map<string, StreamReader[]>()
  /** Where the last reader of each stream was when it was closed. */
  readonly #left = new Map<string, ReaderPosition & { readonly created: string }>()
  #count = 0
  #pullSize: PullSize = { records: pullRecords, bytes: pullBytesMost }

  constructor(api: JetStreamApi, scope: Scope.Scope, inboxPrefix: string | undefined) {
    this.#api = api
    this.#scope = scope
    this.#inboxPrefix = inboxPrefix
  }

  /** The reader that reads on from here, if there is one. Once a turn. */
  find(stream: string, after: number): StreamReader | undefined {
    const readers = this.#readers.get(stream)
    if (readers === undefined) return undefined
    for (const reader of readers) if (reader.serves(after)) return reader
    return undefined
  }

  /** The reader that reads on from here, or a new one. */
  at(place: ReaderPlace, after: number): Effect.Effect<StreamReader> {
    return Effect.suspend(() => {
      const found = this.find(place.stream, after)
      if (found !== undefined && found.place.created === place.created) return Effect.succeed(found)
      const left = this.#left.get(place.stream)
      const isLeft = left?.position === after && left.created === place.created
      const at = { position: after, publishedAt: isLeft ? left.publishedAt : null }
      const reader = new StreamReader(place, at, { api: this.#api, inboxPrefix: this.#inboxPrefix, pullSize: () => this.#pullSize })
      const others = this.#readers.get(place.stream) ?? []
      if (others.length >= readersOfPlaceMax) this.#close(leastUsed(others))
      this.#readers.set(place.stream, [...(this.#readers.get(place.stream) ?? []), reader])
      this.#resize(1)
      return Effect.as(Effect.forkIn(reader.run, this.#scope), reader)
    })
  }

  /** Of a fault that somebody was told of: whoever asks again looks again. */
  discard(reader: StreamReader): void {
    this.#close(reader)
  }

  /** The stream's leader has said that there are records up to here. */
  known(stream: string, last: number): void {
    for (const reader of this.#readers.get(stream) ?? []) reader.knows(last)
  }

  /** How far somebody has read for certain. */
  reached(stream: string): number {
    return (this.#readers.get(stream) ?? []).reduce((most, reader) => Math.max(most, reader.isGuarded ? reader.base.position : 0), 0)
  }

  look(): void {
    for (const reader of this.#all()) {
      reader.look()
      if (reader.unusedLooks > unusedLooksMax && !reader.isWaitedFor) this.#close(reader)
    }
  }

  status(status: Status): void {
    if (status.type === "reconnect" || status.type === "disconnect") {
      this.#api.disconnected()
      for (const reader of this.#all()) reader.reset()
    }
    if (status.type === "error" && status.error instanceof PermissionViolationError) {
      for (const reader of this.#all()) reader.refused(status.error)
    }
  }

  closeAll(): void {
    for (const reader of this.#all()) this.#close(reader)
  }

  #all(): StreamReader[] {
    return [...this.#readers.values()].flat()
  }

  #close(reader: StreamReader): void {
    const { stream } = reader.place
    const before = this.#readers.get(stream) ?? []
    const left = before.filter((other) => other !== reader)
    if (left.length === 0) this.#readers.delete(stream)
    else this.#readers.set(stream, left)
    this.#resize(left.length - before.length)
    this.#left.set(stream, { ...reader.base, created: reader.place.created })
    reader.close()
  }

  #resize(by: number): void {
    this.#count += by
    const share = Math.floor(pullBytesAll / Math.max(1, this.#count) / 4)
    this.#pullSize = { records: pullRecords, bytes: Math.min(pullBytesMost, Math.max(pullBytesLeast, share)) }
  }
}

/** Closed with the scope. */
export const openReaders = Effect.fnUntraced(function* (
  api: JetStreamApi,
  inboxPrefix: string | undefined
): Effect.fn.Return<Readers, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const readers = new Readers(api, scope, inboxPrefix)
  yield* Effect.addFinalizer(() => Effect.sync(() => readers.closeAll()))
  yield* Effect.forkIn(
    Effect.forever(
      Effect.andThen(
        Effect.sleep(lookMsEvery),
        Effect.sync(() => readers.look())
      )
    ),
    scope
  )
  yield* Effect.forkIn(watchStatus(api.connection, readers), scope)
  return readers
})

/** An iterator of the client that nobody takes from grows, and one that nobody stops stays for ever. */
const watchStatus = (connection: NatsConnection, readers: Readers): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const statuses = connection.status() as AsyncIterable<Status> & { readonly stop?: () => void }
    const watch = async (): Promise<void> => {
      for await (const status of statuses) readers.status(status)
    }
    watch().then(
      () => resume(Effect.void),
      () => resume(Effect.void)
    )
    return Effect.sync(() => statuses.stop?.())
  })

const leastUsed = (readers: readonly StreamReader[]): StreamReader =>
  readers.reduce((least, reader) => (!reader.isWaitedFor && reader.unusedLooks >= least.unusedLooks ? reader : least))

/**
 * I1, I8. What is buffered comes at once. Records that are known to be there are waited for, but not for ever; and once the first have
 * come, for a moment those that are right behind: fewer and larger turns while there is a backlog.
 */
export const readFrom = Effect.fnUntraced(function* (
  readers: Readers,
  place: ReaderPlace,
  request: ReadRequest
): Effect.fn.Return<readonly StoredRecord[], KeyfoldError> {
  const { after } = request
  for (;;) {
    const reader = yield* readers.at(place, after)
    const isThere = (): boolean => reader.hasBehind(after) || (reader.isGuarded && !reader.isBehind(request))
    if (!isThere()) yield* Effect.timeoutOption(reader.until(isThere), firstMsMax)
    if (reader.isBehind(request)) {
      yield* Effect.timeoutOption(
        reader.until(() => !reader.isBehind(request)),
        moreMsMax
      )
    }
    const { fault } = reader
    if (!reader.serves(after)) {
      // Meanwhile somebody else has read on with it.
      if (fault === undefined) continue
    } else {
      const records = reader.take(request)
      if (records.length > 0 || fault === undefined) return records
    }
    readers.discard(reader)
    return yield* Effect.fail(fault)
  }
})

/** I5. Completes when one of them has something behind its position, be it a fault. */
export const anyArrival = (
  behind: readonly { readonly reader: StreamReader; readonly after: number }[],
  beat: ArrivalBeat
): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const isThere = (): boolean => behind.some(({ reader, after }) => !reader.serves(after) || reader.hasBehind(after))
    if (isThere()) return resume(Effect.void)
    let leave = (): void => undefined
    const call = (): boolean => {
      if (!isThere()) return true
      leave = beat.join(() => resume(Effect.void))
      return false
    }
    const stops = behind.map(({ reader }) => reader.onChange(call))
    return Effect.andThen(
      Effect.all(stops, { discard: true }),
      Effect.sync(() => leave())
    )
  })
