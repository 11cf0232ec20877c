/**
 * A simulated NATS server with JetStream: the part of its interface that keyfold uses, with the answers, error codes and silences that real
 * servers have been seen to give.
 */
import { Consumers, type Delivered, type Inbox, statusOf } from "./nats-consumers.ts"
import { isMatch, type Outcome, SimulatedStream, type StoredMessage, type StreamConfig, timeText } from "./nats-stream.ts"
import type { World } from "./world.ts"

export interface Published {
  readonly subject: string
  /** Where an answer goes; undefined when none is wanted. */
  readonly reply: Inbox | undefined
  readonly headers: Uint8Array
  readonly data: Uint8Array
}

/** What real servers differ in. */
export interface NatsKind {
  readonly looksAtSequenceFirst?: boolean
  readonly isCluster?: boolean
}

/** A leader that leads no more. */
interface Deposed {
  /** How probable it is that somebody asks it. */
  readonly part: number
  /** What it knows. */
  readonly streams: Map<string, SimulatedStream>
}

const apiPrefix = "$JS.API."

type Answer = object

export class NatsServer {
  readonly #world: World
  readonly #consumers: Consumers
  readonly #streams = new Map<string, SimulatedStream>()
  /** Servers from 2.11 on look at the expected sequence before the message id. */
  readonly looksAtSequenceFirst: boolean
  /** How far its clock is ahead of the true time. */
  skewMs = 0
  /** Its streams take no more, or not now (P15). */
  isFull = false
  /** JetStream is not there yet: the server has just been started. */
  isStarting = false
  /** How probable it is that a message comes late, by another way than those before and after it: a change of leaders. */
  straggling = 0
  /** How probable it is that a message between stages is stored twice. */
  copying = 0
  /** How probable it is that a message to it, or one of its own, arrives twice. */
  doubling = 0
  /** Whether it is one of several: then its leaders change. */
  readonly isCluster: boolean
  #deposed: Deposed | undefined
  #createdNanos = 0n

  constructor(world: World, { looksAtSequenceFirst = world.dice.chance(0.5), isCluster = world.dice.chance(0.5) }: NatsKind = {}) {
    this.#world = world
    this.#consumers = new Consumers(world)
    this.looksAtSequenceFirst = looksAtSequenceFirst
    this.isCluster = isCluster
  }

  stream(name: string): SimulatedStream | undefined {
    return this.#streams.get(name)
  }

  get streams(): readonly SimulatedStream[] {
    return [...this.#streams.values()]
  }

  /** Consumers are forgotten, streams are not. */
  restart(): void {
    this.#consumers.clear()
  }

  unsubscribed(inbox: string): void {
    this.#consumers.unsubscribed(inbox)
  }

  /** A message has arrived. */
  take(published: Published): void {
    if (published.subject.startsWith(apiPrefix)) this.#ask(published)
    else if (this.#meetsDeposed() !== undefined) this.#world.history.add("nats", `${published.subject} is taken by one who leads no more`)
    else if (this.straggling > 0 && this.#world.dice.chance(this.straggling)) {
      const lateMs = this.#world.dice.whole(1, 4_000)
      this.#world.history.add("nats", `${published.subject} comes ${lateMs} ms late`)
      this.#world.after(lateMs, () => this.#store(published))
    } else this.#store(published)
  }

  /** Stores a message as it is, from nowhere. */
  append(subject: string, data: Uint8Array): void {
    const stream = this.#taking(subject)
    if (stream === undefined) throw new Error(`simulation: no stream takes ${subject}`)
    stream.store(subject, { headers: new Uint8Array(0), data }, { id: undefined, lastSequence: undefined }, this.#nowNanos())
    this.#consumers.stored(stream)
  }

  /** Answers false when it is not there. */
  delete(name: string): boolean {
    this.#consumers.deleteAllOf(name)
    this.#deposed?.streams.delete(name)
    return this.#streams.delete(name)
  }

  /** Removes the oldest part of what a stream holds. Answers how many messages. */
  purge(name: string, part: number): number {
    const stream = this.#streams.get(name)
    const kept = stream?.messages[Math.ceil(stream.messages.length * part)]
    if (stream === undefined) return 0
    const count = stream.purge(kept?.sequence)
    this.#toldOf(stream)
    return count
  }

  /** From now on one who leads no more is asked now and then, and what is sent to it is lost; 0: nobody asks it any more. */
  depose(part: number): void {
    const know = (): Deposed => ({ part, streams: new Map(this.streams.map((stream) => [stream.config.name, stream.snapshot()])) })
    this.#deposed = part > 0 && this.isCluster ? know() : undefined
  }

  /** Answers false when it is not there. */
  recreate(name: string): boolean {
    const config = this.#streams.get(name)?.config
    if (config === undefined) return false
    this.delete(name)
    this.#toldOf(this.create(config))
    return true
  }

  create(config: StreamConfig): SimulatedStream {
    const nowNanos = this.#nowNanos()
    this.#createdNanos = nowNanos > this.#createdNanos ? nowNanos : this.#createdNanos + 1n
    const stream = new SimulatedStream(config, this.#createdNanos, this.looksAtSequenceFirst)
    this.#streams.set(config.name, stream)
    return stream
  }

  // ---- messages

  #store({ subject, reply, headers, data }: Published): void {
    const stream = this.isStarting ? undefined : this.#taking(subject)
    if (stream === undefined) {
      if (reply !== undefined) this.#nobody(reply)
      return
    }
    if (this.isFull) {
      this.#world.history.add("nats", `${subject} is not taken`)
      if (reply !== undefined) answer(reply, this.#world.dice.pick(notTaken))
      return
    }
    const outcome = stream.store(subject, { headers, data }, conditionsIn(headers), this.#nowNanos())
    this.#world.history.add("nats", `${subject} ${outcomeText(outcome)}`)
    if (reply !== undefined) answer(reply, acknowledgement(stream.config.name, outcome))
    if (outcome.kind === "stored" && this.copying > 0 && isBetweenStages(stream) && this.#world.dice.chance(this.copying)) {
      this.#world.history.add("nats", `${subject} stored once more`)
      stream.copy(outcome.message, this.#nowNanos())
    }
    if (outcome.kind === "stored") this.#consumers.stored(stream)
  }

  #taking(subject: string): SimulatedStream | undefined {
    for (const stream of this.#streams.values()) if (stream.takes(subject)) return stream
    return undefined
  }

  // ---- questions

  #ask({ subject, reply, data }: Published): void {
    if (reply === undefined) return
    if (this.isStarting) {
      this.#nobody(reply)
      return
    }
    const [area = "", verb = "", ...rest] = subject.slice(apiPrefix.length).split(".")
    const request = data.byteLength === 0 ? {} : (JSON.parse(Buffer.from(data).toString()) as Record<string, unknown>)
    const [name = ""] = verb === "MSG" ? rest.slice(1) : rest
    if (area === "CONSUMER") this.#askConsumer(verb, rest, request, reply)
    else if (area === "INFO") answer(reply, { type: "io.nats.jetstream.api.v1.account_info_response" })
    else answer(reply, this.#askStream(verb, name, request))
  }

  #askStream(verb: string, name: string, request: Record<string, unknown>): Answer {
    if (verb === "CREATE") return this.#created(request as unknown as StreamConfig)
    const deposed = verb === "INFO" || verb === "MSG" ? this.#meetsDeposed() : undefined
    const stream = (deposed?.streams ?? this.#streams).get(name)
    if (stream === undefined) return streamNotFound
    switch (verb) {
      case "INFO":
        return this.#infoOf(stream, "subjects_filter" in request)
      case "PURGE": {
        const { seq, filter } = request as { readonly seq?: number; readonly filter?: string }
        return { success: true, purged: stream.purge(seq ?? stream.lastSequence + 1, filter) }
      }
      case "DELETE":
        this.delete(name)
        return { success: true }
      case "MSG":
        return messageAnswer(found(stream, request))
      default:
        throw new Error(`simulation: STREAM.${verb} is not there`)
    }
  }

  #created(config: StreamConfig): Answer {
    const known = this.#streams.get(config.name)
    if (known !== undefined) {
      const isSame = JSON.stringify(known.config) === JSON.stringify(config)
      return isSame ? this.#infoOf(known, false) : refusal(400, 10_058, "stream name already in use with a different configuration")
    }
    const overlaps = this.streams.some((other) =>
      other.config.subjects.some((one) => config.subjects.some((two) => isMatch(one, two) || isMatch(two, one)))
    )
    if (overlaps) return refusal(400, 10_065, "subjects overlap with an existing stream")
    this.#world.history.add("nats", `creates ${config.name}`)
    return this.#infoOf(this.create(config), false)
  }

  #askConsumer(verb: string, rest: readonly string[], request: Record<string, unknown>, reply: Inbox): void {
    if (verb === "MSG") {
      const [, stream = "", name = ""] = rest
      if (!this.#consumers.pull(stream, name, reply, request as unknown as Parameters<Consumers["pull"]>[3])) this.#nobody(reply)
      return
    }
    const [streamName = "", name = ""] = rest
    const stream = this.#streams.get(streamName)
    if (stream === undefined) answer(reply, streamNotFound)
    else if (verb === "CREATE") {
      const { opt_start_seq: start = 1 } = request["config"] as { readonly opt_start_seq?: number }
      this.#consumers.create(stream, name, { start, isPatient: this.looksAtSequenceFirst })
      answer(reply, { stream_name: streamName, name })
    } else {
      const isThere = this.#consumers.delete(streamName, name)
      answer(reply, isThere ? { success: true } : refusal(404, 10_014, "consumer not found"))
    }
  }

  #infoOf(stream: SimulatedStream, withSubjects: boolean): Answer {
    return {
      config: stream.config,
      created: timeText(stream.createdNanos),
      state: stream.state(withSubjects),
      ...(this.isCluster && { cluster: { name: "simulated", leader: "n1", replicas: [{ name: "n2" }, { name: "n3" }] } })
    }
  }

  /** Nobody can say that events are lost for good while those who know it are not heard: such histories have no right end. */
  #toldOf(stream: SimulatedStream): void {
    this.#deposed?.streams.set(stream.config.name, stream.snapshot())
  }

  #meetsDeposed(): Deposed | undefined {
    return this.#deposed !== undefined && this.#world.dice.chance(this.#deposed.part) ? this.#deposed : undefined
  }

  #nobody(reply: Inbox): void {
    reply.deliver(statusOf(reply, "NATS/1.0 503"))
  }

  #nowNanos(): bigint {
    return BigInt(Math.floor((this.#world.nowMs + this.skewMs) * 1_000)) * 1_000n
  }
}

const isBetweenStages = ({ config }: SimulatedStream): boolean => config.name.includes("~")

const answer = (reply: Inbox, body: Answer): void => {
  const delivered: Delivered = { subject: reply.subject, reply: "", headers: new Uint8Array(0), data: Buffer.from(JSON.stringify(body)) }
  reply.deliver(delivered)
}

const refusal = (code: number, errorCode: number, description: string): Answer => ({ error: { code, err_code: errorCode, description } })

/** Limits of the stream, repetitions that are under way, and a JetStream that has no time. */
const notTaken = [
  refusal(503, 10_077, "maximum bytes exceeded"),
  refusal(400, 10_158, "duplicate message id is in process"),
  refusal(400, 10_164, "last sequence by subject mismatch"),
  refusal(503, 10_008, "JetStream system temporarily unavailable")
]

const streamNotFound = refusal(404, 10_059, "stream not found")

const acknowledgement = (stream: string, outcome: Outcome): Answer => {
  switch (outcome.kind) {
    case "stored":
      return { stream, seq: outcome.message.sequence }
    case "duplicate":
      return { stream, seq: outcome.sequence, duplicate: true }
    default:
      return { ...refusal(400, 10_071, `wrong last sequence: ${outcome.sequence}`), stream, seq: 0 }
  }
}

const outcomeText = (outcome: Outcome): string =>
  outcome.kind === "stored" ? `stored at ${outcome.message.sequence}` : `${outcome.kind} ${outcome.sequence}`

const conditionsIn = (headers: Uint8Array): { readonly id: string | undefined; readonly lastSequence: number | undefined } => {
  if (headers.byteLength === 0) return { id: undefined, lastSequence: undefined }
  const text = Buffer.from(headers).toString()
  const expected = /^Nats-Expected-Last-Subject-Sequence: *(\d+)\r?$/m.exec(text)?.[1]
  return { id: /^Nats-Msg-Id: *(.*?)\r?$/m.exec(text)?.[1], lastSequence: expected === undefined ? undefined : Number(expected) }
}

const found = (stream: SimulatedStream, request: Record<string, unknown>): StoredMessage | undefined => {
  const { seq, next_by_subj: next, last_by_subj: last } = request as { seq?: number; next_by_subj?: string; last_by_subj?: string }
  if (last !== undefined) return stream.lastOf(last)
  const message = stream.from(seq ?? 0)
  return next !== undefined || message?.sequence === seq ? message : undefined
}

const messageAnswer = (message: StoredMessage | undefined): Answer => {
  if (message === undefined) return refusal(404, 10_037, "no message found")
  const { subject, sequence, headers, data, storedNanos } = message
  return {
    message: {
      subject,
      seq: sequence,
      ...(headers.byteLength > 0 && { hdrs: Buffer.from(headers).toString("base64") }),
      data: Buffer.from(data).toString("base64"),
      time: timeText(storedNanos)
    }
  }
}
