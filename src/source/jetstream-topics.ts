/**
 * Which topics there are, and what they are made of. The stream of partition 0 says it in its description (2.9 has no metadata), is made
 * first, and is the authority: whoever finds partitions missing, because somebody stopped half way, makes them by what it says (I4).
 */
import type { StreamConfig } from "@nats-io/jetstream"
import * as Effect from "effect/Effect"
import { KeyfoldError, shown } from "../errors.ts"
import { duplicateWindowMs, streamNameLengthMax, streamOf, streamSubjects } from "../model/jetstream-names.ts"
import { partitionsMax } from "../model/topic.ts"
import { type ApiFault, type ApiRefusal, isStreamMissing, type JetStreamApi, type StreamInfo } from "./jetstream-api.ts"
import type { ReaderPlace } from "./jetstream-consumer.ts"
import type { TopicDescription } from "./source.ts"

export const topicHash = "fnv1a32"

interface TopicSettings {
  readonly partitions: number
  readonly replicas: number
}

export const formatNewest = 1
const nanosecondsPerMs = 1_000_000
const openedAtOnce = 16
/** A stream of several replicas begins with an election. */
const createMsMax = 4_000

/** A topic or stream that this process knows, with what a reader must know of each partition. */
export interface KnownTopic {
  readonly description: TopicDescription
  /** Of a foreign stream of which not everything is read. */
  readonly subjects: readonly string[]
  readonly places: readonly ReaderPlace[]
}

export interface TopicOptions {
  /** Of the streams that are created. */
  readonly replicas: number
  /** Looks at the streams of what was opened: are they durable enough? */
  readonly opened?: ((streams: readonly StreamConfig[]) => Effect.Effect<void, KeyfoldError>) | undefined
}

export class Topics {
  readonly #api: JetStreamApi
  readonly #options: TopicOptions
  readonly #known = new Map<string, KnownTopic>()

  constructor(api: JetStreamApi, options: TopicOptions) {
    this.#api = api
    this.#options = options
  }

  known(name: string): KnownTopic | undefined {
    return this.#known.get(name)
  }

  readonly open = Effect.fnUntraced(function* (
    this: Topics,
    name: string,
    declared: { readonly partitions: number | undefined; readonly partitionsDefault: number }
  ): Effect.fn.Return<TopicDescription, KeyfoldError> {
    let head = yield* this.#info(name, 0)
    if (head === undefined) {
      const settings = { partitions: declared.partitions ?? declared.partitionsDefault, replicas: this.#options.replicas }
      head = (yield* this.#create(name, 0, settings)) ?? (yield* this.#info(name, 0))
    }
    if (head === undefined) return yield* Effect.fail(this.#api.unreachable(`the topic ${name} is deleted while it is opened`))
    const settings = yield* settingsOf(name, 0, head)
    if (declared.partitions !== undefined && declared.partitions !== settings.partitions) {
      return yield* Effect.fail(countMismatch(name, declared.partitions, settings.partitions))
    }
    const { description, configs } = yield* this.#complete(name, head, settings)
    yield* this.#options.opened?.(configs) ?? Effect.void
    return description
  })

  readonly find = Effect.fnUntraced(function* (this: Topics, name: string): Effect.fn.Return<TopicDescription | undefined, KeyfoldError> {
    const head = yield* this.#info(name, 0)
    if (head === undefined) return undefined
    return (yield* this.#complete(name, head, yield* settingsOf(name, 0, head))).description
  })

  readonly openStream = Effect.fnUntraced(function* (
    this: Topics,
    name: string,
    subjects: readonly string[]
  ): Effect.fn.Return<TopicDescription, KeyfoldError> {
    if (!streamShape.test(name)) return yield* Effect.fail(noStreamName(name))
    const asked = Effect.catch(this.#api.streamInfo(name), (fault) =>
      isStreamMissing(fault) ? Effect.succeed(undefined) : Effect.fail(fault)
    )
    const info = yield* this.#api.patiently(asked, (fault) => refusedBy("the stream", name, fault))
    if (info === undefined) return yield* Effect.fail(streamMissing(name, this.#api.name))
    if ((info.config.retention ?? "limits") !== "limits") return yield* Effect.fail(consumedStream(name, String(info.config.retention)))
    const description = { name, partitions: 1, created: [info.created] }
    const { max_msgs_per_subject: perSubject = -1, allow_rollup_hdrs: rollup, allow_msg_ttl: ttl } = info.config
    const hasHoles = perSubject > 0 || rollup === true || ttl === true
    const accepts = subjects.length === 0 ? undefined : acceptsAny(subjects)
    const place = { topic: name, partition: 0, stream: name, created: info.created, hasHoles, accepts }
    this.#known.set(name, { description, subjects, places: [place] })
    yield* this.#options.opened?.([info.config]) ?? Effect.void
    return description
  })

  // ---- inside

  /** Partitions that are there must be of this topic, those that are not are made. */
  readonly #complete = Effect.fnUntraced(function* (
    this: Topics,
    name: string,
    head: StreamInfo,
    settings: TopicSettings
  ): Effect.fn.Return<{ readonly description: TopicDescription; readonly configs: readonly StreamConfig[] }, KeyfoldError> {
    const others = Array.from({ length: settings.partitions - 1 }, (_, index) => this.#other(name, index + 1, settings))
    const infos = [head, ...(yield* Effect.all(others, { concurrency: openedAtOnce }))]
    const created = infos.map((info) => info.created)
    const description = { name, partitions: settings.partitions, created }
    const places = created.map(
      (at, partition): ReaderPlace => ({
        topic: name,
        partition,
        stream: streamOf({ topic: name, partition }),
        created: at,
        hasHoles: false,
        accepts: undefined
      })
    )
    this.#known.set(name, { description, subjects: [], places })
    return { description, configs: infos.map(({ config }) => config) }
  })

  readonly #other = Effect.fnUntraced(function* (
    this: Topics,
    name: string,
    partition: number,
    settings: TopicSettings
  ): Effect.fn.Return<StreamInfo, KeyfoldError> {
    const info =
      (yield* this.#info(name, partition)) ??
      (yield* this.#create(name, partition, settings)) ??
      (yield* this.#info(name, partition)) ??
      (yield* Effect.fail(this.#api.unreachable(`the topic ${name} is deleted while it is opened`)))
    const { partitions } = yield* settingsOf(name, partition, info)
    if (partitions !== settings.partitions) return yield* Effect.fail(leftOver(name, partition, settings.partitions, partitions))
    return info
  })

  #info(name: string, partition: number): Effect.Effect<StreamInfo | undefined, KeyfoldError> {
    const asked = Effect.flatMap(this.#api.streamInfo(streamOf({ topic: name, partition })), (info) =>
      madeWhole(info) === undefined ? Effect.fail(halfMade) : Effect.succeed(info)
    )
    const found = Effect.catch(asked, (fault) => (isStreamMissing(fault) ? Effect.succeed(undefined) : Effect.fail(fault)))
    return this.#api.patiently(found, (fault) => refusedBy("the topic", name, fault))
  }

  /** Undefined when somebody else has made it meanwhile, with other settings perhaps. */
  #create(name: string, partition: number, settings: TopicSettings): Effect.Effect<StreamInfo | undefined, KeyfoldError> {
    const of = { topic: name, partition }
    const stream = streamOf(of)
    const config = {
      name: stream,
      description: descriptionOf(name, settings),
      subjects: streamSubjects(of),
      storage: "file",
      retention: "limits",
      discard: "old",
      num_replicas: settings.replicas,
      duplicate_window: duplicateWindowMs * nanosecondsPerMs,
      max_consumers: -1,
      max_msgs: -1,
      max_bytes: -1,
      max_age: 0
    }
    const made = (overlaps: number): Effect.Effect<StreamInfo | undefined, ApiFault> =>
      Effect.catch(Effect.map(this.#api.ask<StreamInfo>(`STREAM.CREATE.${stream}`, config, createMsMax), madeWhole), (fault) => {
        if (fault.kind !== "api") return Effect.fail(fault)
        if (fault.errorCode === nameInUse) return Effect.succeed(undefined)
        // Servers before 2.10 say so as well while somebody else creates this very stream.
        const again = fault.errorCode === subjectsOverlap && overlaps < overlapsMax
        return again ? Effect.andThen(Effect.sleep(overlapMsEvery), made(overlaps + 1)) : Effect.fail(fault)
      })
    return this.#api.patiently(made(0), (fault) => notCreated(name, stream, settings, fault))
  }
}

/** Servers before 2.10 show a stream that somebody else is creating at this moment without the time of its creation. */
const madeWhole = (info: StreamInfo): StreamInfo | undefined => (info.created.startsWith("0001-") ? undefined : info)
const halfMade: ApiFault = { kind: "silent", reason: "the stream is being created" }

const overlapsMax = 5
const overlapMsEvery = 50
const nameInUse = 10_058
const subjectsOverlap = 10_065
const replicasNotSupported = 10_074
const noSuitablePeers = 10_005

const descriptionOf = (topic: string, { partitions }: TopicSettings): string =>
  JSON.stringify({ keyfold: { format: formatNewest, topic, partitions, hash: topicHash } })

/** What a stream says of its topic. */
const settingsOf = (name: string, partition: number, { config }: StreamInfo): Effect.Effect<TopicSettings, KeyfoldError> => {
  const stream = streamOf({ topic: name, partition })
  const said = saidIn(config.description ?? "")
  if (said === undefined || said.topic !== name) return Effect.fail(notOurs(name, stream))
  if (!(typeof said.format === "number" && said.format <= formatNewest)) return Effect.fail(newer(name))
  if (said.hash !== topicHash) return Effect.fail(otherHash(name, said.hash))
  const { partitions } = said
  if (!Number.isInteger(partitions) || (partitions as number) < 1 || (partitions as number) > partitionsMax) {
    return Effect.fail(notOurs(name, stream))
  }
  return Effect.succeed({ partitions: partitions as number, replicas: config.num_replicas ?? 1 })
}

const saidIn = (description: string): Readonly<Record<string, unknown>> | undefined => {
  try {
    const { keyfold } = JSON.parse(description) as { readonly keyfold?: unknown }
    return typeof keyfold === "object" && keyfold !== null ? (keyfold as Readonly<Record<string, unknown>>) : undefined
  } catch {
    return undefined
  }
}

/** What the server takes as the name of a stream. */
const streamShape = new RegExp(`^[^\\s.*>/\\\\\\p{Cc}]{1,${streamNameLengthMax}}$`, "u")

/** A test whether a subject matches one of these, which may have the wildcards `*` and `>`. */
const acceptsAny = (subjects: readonly string[]): ((subject: string) => boolean) => {
  const shapes = subjects.map((subject) => new RegExp(`^${subject.split(".").map(tokenShape).join("\\.")}$`, "s"))
  return (subject) => shapes.some((shape) => shape.test(subject))
}

const tokenShape = (token: string): string => {
  if (token === ">") return ".+"
  return token === "*" ? "[^.]+" : token.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")
}

const mismatch = (message: string): KeyfoldError => new KeyfoldError("topic-mismatch", message)

const countMismatch = (name: string, declared: number, partitions: number): KeyfoldError =>
  mismatch(
    `the topic ${name} was created with ${partitions} partitions and is declared with ${declared}. ` +
      `Declare ${partitions}, or use another topic: the count never changes`
  )

const leftOver = (name: string, partition: number, partitions: number, others: number): KeyfoldError =>
  mismatch(
    `the topic ${name} was created with ${partitions} partitions, but its stream ${streamOf({ topic: name, partition })} is of one with ` +
      `${others}: an older topic was deleted in part. Delete its streams, or use another topic`
  )

const notOurs = (name: string, stream: string): KeyfoldError =>
  mismatch(
    `the topic ${name} would be the stream ${stream}, which exists and was not created by keyfold: use another topic, or read it as it is ` +
      `with stream({ stream: "${stream}", ... })`
  )

const newer = (name: string): KeyfoldError => new KeyfoldError("format-newer", `the topic ${name} was created by a newer keyfold: use that`)

const otherHash = (name: string, hash: unknown): KeyfoldError =>
  mismatch(`the topic ${name} is partitioned by ${shown(hash)}, which this keyfold does not know: use a newer keyfold`)

const noStreamName = (name: string): KeyfoldError =>
  new KeyfoldError("option-invalid", `${shown(name)} cannot be the name of a stream: it has no spaces, dots, slashes, \`*\` or \`>\``)

const streamMissing = (name: string, server: string): KeyfoldError =>
  mismatch(`there is no stream ${name} on ${server}: create it (\`nats stream add ${name}\`), or mend the name in stream({ stream })`)

const consumedStream = (name: string, retention: string): KeyfoldError =>
  mismatch(
    `the stream ${name} removes messages when consumers have taken them (retention ${retention}), so that nothing can be read twice: use one ` +
      "with retention limits, or a mirror of this one"
  )

const refusedBy = (what: string, name: string, { reason, errorCode }: ApiRefusal): KeyfoldError =>
  new KeyfoldError("unreachable", `${what} ${name} cannot be looked up: the server answers "${reason}" (${errorCode})`)

const notCreated = (name: string, stream: string, { replicas }: TopicSettings, { reason, errorCode }: ApiRefusal): KeyfoldError => {
  if (errorCode === subjectsOverlap) {
    return mismatch(
      `the topic ${name} cannot be created: another stream takes its subjects ${name}.*. Use another topic, or narrow that stream`
    )
  }
  if (errorCode === replicasNotSupported || errorCode === noSuitablePeers) {
    return new KeyfoldError(
      "durability-refused",
      `the topic ${name} cannot have ${replicas} replicas: the server answers "${reason}". Ask for fewer, or connect to a larger cluster`
    )
  }
  return new KeyfoldError(
    "unreachable",
    `the stream ${stream} of the topic ${name} cannot be created: the server answers "${reason}" (${errorCode})`
  )
}
