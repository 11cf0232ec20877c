/** Publishing events into a topic from outside a job. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { asKeyfoldError, KeyfoldError } from "./errors.ts"
import { partitionOf } from "./model/hash.ts"
import { keyText } from "./model/key.ts"
import { type NewRecord, noHeaders } from "./model/record.ts"
import { partitionsDefault, type Topic, type TopicDefinition } from "./model/topic.ts"
import { topicDefinition } from "./plan-names.ts"
import { connectorOf, type Runtime, type TopicPorts } from "./ports.ts"
import type { TopicDescription } from "./source/source.ts"
import { ActiveTrace, installedTracer } from "./telemetry/trace-headers.ts"

/**
 * Sends events to a topic, each to its key's partition. Calls that are not awaited travel together: send many, then `flush()`.
 * Sending twice stores twice: exactly-once begins with the stored record.
 */
export interface Publisher<T> extends AsyncDisposable {
  /**
   * Completes when the event is durable. Rejects with `encode-failed` or `key-invalid` when it cannot be an event of the topic; it was not
   * sent then. Rejects with `storage-full` or `unreachable`, on servers also with `topic-mismatch`, when it, or one that travels with it,
   * could not be stored. In a directory none of them is stored then. On servers some of them may be, and after `unreachable` this one even
   * when it travelled alone.
   */
  send(event: T): Promise<void>
  /** Completes when everything sent so far is durable; rejects with the first failure since the last flush that nobody has awaited. */
  flush(): Promise<void>
}

/** What the command line needs besides: bytes that are no event go in as they are, and the job that reads them says what is wrong. */
export interface VerbatimPublisher<T> extends Publisher<T> {
  /** To partition 0, untouched. */
  sendVerbatim(payload: Uint8Array): Promise<void>
}

interface OpenTopic {
  readonly ports: TopicPorts
  readonly description: TopicDescription
  readonly scope: Scope.Closeable
}

/** Opens a publisher, and the topic with it if it is new. Rejects with `topic-mismatch` when it was created with another partition count. */
export async function publisher<T>(runtime: Runtime, topic: Topic<T>): Promise<Publisher<T>> {
  return verbatimPublisher(runtime, topic)
}

export const verbatimPublisher = async <T>(runtime: Runtime, topic: Topic<T>): Promise<VerbatimPublisher<T>> => {
  const connect = connectorOf(runtime)
  const defined = topicDefinition(topic)
  const scope = Scope.makeUnsafe()
  const opening = Effect.gen(function* () {
    const ports = yield* connect.client
    return { ports, description: yield* ports.source.open(defined.name, { partitions: defined.partitions, partitionsDefault }) }
  })
  const exit = await Effect.runPromiseExit(Scope.provide(opening, scope))
  if (Exit.isFailure(exit)) await Effect.runPromise(Scope.close(scope, exit))
  const { ports, description } = await Effect.runPromise(exit)
  return new OpenPublisher<T>(defined, { ports, description, scope })
}

/** Sends of one tick travel together: one hand-over, one commit. */
interface Parcel {
  readonly records: Omit<NewRecord, "publishedAt">[]
  readonly stored: Promise<void>
  /** Gives its records the trace of whoever sends them; undefined without an SDK (X5). */
  readonly trace: ActiveTrace | undefined
  bytes: number
}

/** A rejected promise that knows whether somebody looks at it. */
class Refusal extends Promise<never> {
  #seen: () => void = () => undefined

  static of(thrown: unknown, seen: () => void): Refusal {
    const refusal = new Refusal((_, reject) => reject(thrown))
    refusal.catch(() => undefined)
    refusal.#seen = seen
    return refusal
  }

  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise, and this is how it is looked at
  override then<A = never, B = never>(
    fulfilled?: ((value: never) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null
  ): Promise<A | B> {
    this.#seen()
    return super.then(fulfilled, rejected)
  }
}

const parcelRecordsMax = 4_096
const parcelBytesMax = 8 * 1_048_576

class OpenPublisher<T> implements VerbatimPublisher<T> {
  readonly #topic: TopicDefinition
  readonly #open: OpenTopic
  readonly #underWay = new Set<Promise<void>>()
  #parcel: Parcel | undefined
  #failure: { readonly thrown: unknown } | undefined
  #closed = false

  constructor(topic: TopicDefinition, open: OpenTopic) {
    this.#topic = topic
    this.#open = open
  }

  send(event: T): Promise<void> {
    return this.#accept(() => this.#add(this.#partitionOf(event), this.#encode(event)))
  }

  sendVerbatim(payload: Uint8Array): Promise<void> {
    return this.#accept(() => this.#add(0, payload))
  }

  async flush(): Promise<void> {
    await Promise.allSettled([...this.#underWay])
    const failure = this.#failure
    this.#failure = undefined
    if (failure !== undefined) throw failure.thrown
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.flush()
    } finally {
      await Effect.runPromise(Scope.close(this.#open.scope, Exit.void))
    }
  }

  /** A refusal reaches whoever awaits the send, or else the next flush; it is never an unhandled rejection. */
  #accept(add: () => Promise<void>): Promise<void> {
    try {
      return add()
    } catch (thrown) {
      const failure = { thrown }
      this.#failure ??= failure
      return Refusal.of(thrown, () => {
        if (this.#failure === failure) this.#failure = undefined
      })
    }
  }

  #add(partition: number, payload: Uint8Array): Promise<void> {
    if (this.#closed) throw new KeyfoldError("unsupported-operation", `the publisher of ${this.#topic.name} is closed`)
    const { payloadBytesMax } = this.#open.ports
    if (payload.byteLength > payloadBytesMax) {
      throw new KeyfoldError(
        "encode-failed",
        `an event for ${this.#topic.name} has ${payload.byteLength} bytes, ${payloadBytesMax} are allowed`
      )
    }
    this.#parcel ??= this.#newParcel()
    const { records, stored, trace } = this.#parcel
    const headers = trace === undefined ? noHeaders : trace.into(noHeaders)
    records.push({ topic: this.#topic.name, partition, headers, payload, identity: undefined })
    this.#parcel.bytes += payload.byteLength
    if (records.length === parcelRecordsMax || this.#parcel.bytes >= parcelBytesMax) this.#parcel = undefined
    return stored
  }

  #newParcel(): Parcel {
    const records: Parcel["records"] = []
    const stored = Promise.resolve().then(() => {
      this.#parcel = undefined
      return Effect.runPromise(this.#store(records))
    })
    this.#underWay.add(stored)
    stored.then(
      () => this.#underWay.delete(stored),
      (thrown: unknown) => {
        this.#underWay.delete(stored)
        this.#failure ??= { thrown }
      }
    )
    return { records, stored, trace: installedTracer() === undefined ? undefined : new ActiveTrace(), bytes: 0 }
  }

  #store(records: Parcel["records"]): Effect.Effect<void, KeyfoldError> {
    const { sink } = this.#open.ports
    return Effect.flatMap(Clock.currentTimeMillis, (publishedAt) => sink.publish(records.map((record) => ({ ...record, publishedAt }))))
  }

  #partitionOf(event: T): number {
    try {
      return partitionOf(keyText(this.#topic.key(event)), this.#open.description.partitions)
    } catch (thrown) {
      throw asKeyfoldError(thrown, "key-invalid", `the key function of ${this.#topic.name} threw`)
    }
  }

  #encode(event: T): Uint8Array {
    try {
      return new Uint8Array(this.#topic.codec.encode(event)) // a codec may use its buffer again
    } catch (thrown) {
      throw asKeyfoldError(thrown, "encode-failed", `the codec of ${this.#topic.name} refuses the event`)
    }
  }
}
