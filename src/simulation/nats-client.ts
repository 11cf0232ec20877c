/**
 * The client of a simulated process for a simulated NATS server: those parts of the real client's connection that keyfold uses, which
 * reconnects by itself as the real one does.
 */
import {
  type Msg,
  MsgImpl,
  type NatsConnection,
  type PublishOptions,
  type Status,
  type Subscription,
  TimeoutError
} from "@nats-io/transport-node"
import { Line, type Weather } from "./line.ts"
import type { Delivered, Inbox } from "./nats-consumers.ts"
import type { NatsServer } from "./nats-server.ts"
import type { SimulatedProcess } from "./process.ts"

/** As runtime/nats.ts sets the real client up. */
const pingMsEvery = 1_000
const pingsOutMax = 2
const reconnectMs = { least: 200, most: 500 }

type Callback = (error: Error | null, message: Msg) => void

interface Info {
  readonly max_payload: number
  readonly jetstream: boolean
  readonly version: string
  readonly cluster?: string
}

export class SimulatedNatsClient {
  readonly #process: SimulatedProcess
  readonly #server: NatsServer
  readonly #weather: Weather
  readonly #subscriptions = new Map<string, Callback>()
  readonly #statuses = new Set<StatusQueue>()
  #line: Line | undefined
  #pingsOut = 0
  #isClosed = false
  #requests = 0

  constructor(process: SimulatedProcess, server: NatsServer, weather: Weather) {
    this.#process = process
    this.#server = server
    this.#weather = weather
    this.#connect()
  }

  /** What the adapters take it for. */
  get connection(): NatsConnection {
    return this as unknown as NatsConnection
  }

  get info(): Info | undefined {
    if (this.#line === undefined) return undefined
    return { max_payload: 1_048_576, jetstream: true, version: "2.12.0", ...(this.#server.isCluster && { cluster: "simulated" }) }
  }

  isClosed(): boolean {
    return this.#isClosed
  }

  getServer(): string {
    return "simulated"
  }

  /** While it is not connected, what is published is lost. */
  publish(subject: string, payload: Uint8Array | string = "", { reply, headers }: PublishOptions = {}): void {
    const data = Buffer.from(payload as Uint8Array)
    const encoded = (headers as { encode?(): Uint8Array } | undefined)?.encode?.() ?? new Uint8Array(0)
    const line = this.#line
    const send = (): void =>
      line?.up(() =>
        this.#server.take({ subject, reply: reply === undefined ? undefined : this.#inbox(line, reply), headers: encoded, data })
      )
    send()
    if (this.#isDoubled()) send()
  }

  async request(subject: string, payload: Uint8Array | string, { timeout }: { readonly timeout: number }): Promise<Msg> {
    const inbox = `_INBOX.request.${++this.#requests}`
    const { promise, resolve, reject } = Promise.withResolvers<Msg>()
    const stop = this.#process.after(timeout, () => reject(new TimeoutError()))
    this.#subscriptions.set(inbox, (_, message) => {
      if (message.headers?.code === 503) reject(new Error(`no responders: '${subject}'`))
      else resolve(message)
    })
    this.publish(subject, payload, { reply: inbox })
    return promise.finally(() => {
      stop()
      this.#subscriptions.delete(inbox)
    })
  }

  /** `subject`: an inbox, or all that begin with one, by `*` at its end. */
  subscribe(subject: string, { callback }: { readonly callback: Callback }): Subscription {
    this.#subscriptions.set(subject, callback)
    const unsubscribe = (): void => {
      if (!this.#subscriptions.delete(subject)) return
      this.#line?.up(() => this.#server.unsubscribed(subject))
    }
    return { unsubscribe } as unknown as Subscription
  }

  status(): AsyncIterable<Status> {
    const queue = new StatusQueue(() => this.#statuses.delete(queue))
    this.#statuses.add(queue)
    return queue
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#line?.close()
    this.#line = undefined
    for (const queue of [...this.#statuses]) {
      queue.push({ type: "close" } as Status)
      queue.stop()
    }
  }

  // ---- inside

  #inbox(line: Line, subject: string): Inbox {
    const deliver = (message: Delivered): void => {
      line.down(() => this.#take(subject, message))
      if (this.#isDoubled()) line.down(() => this.#take(subject, message))
    }
    return { subject, isOpen: () => line.isOpen, deliver }
  }

  #isDoubled(): boolean {
    return this.#server.doubling > 0 && this.#process.world.dice.chance(this.#server.doubling)
  }

  #take(inbox: string, delivered: Delivered): void {
    const callback = this.#subscriptions.get(inbox) ?? this.#subscriptions.get(`${inbox.slice(0, inbox.lastIndexOf(".") + 1)}*`)
    callback?.(null, messageOf(delivered))
  }

  #connect(): void {
    if (this.#isClosed) return
    if (this.#weather.isDown || this.#weather.up.isDeaf || this.#weather.down.isDeaf) {
      this.#reconnect()
      return
    }
    const line = new Line(this.#process, this.#weather, () => this.#lose(line))
    this.#line = line
    this.#pingsOut = 0
    this.#ping(line)
    this.#tell({ type: "reconnect", server: "simulated" } as Status)
  }

  #reconnect(): void {
    const { dice } = this.#process.world
    this.#process.after(dice.whole(reconnectMs.least, reconnectMs.most), () => this.#connect())
  }

  #ping(line: Line): void {
    this.#process.after(pingMsEvery, () => {
      if (this.#line !== line) return
      if (this.#pingsOut >= pingsOutMax) return this.#lose(line)
      this.#pingsOut += 1
      line.up(() =>
        line.down(() => {
          this.#pingsOut = 0
        })
      )
      this.#ping(line)
    })
  }

  #lose(line: Line): void {
    if (this.#line !== line) return
    line.close()
    this.#line = undefined
    this.#tell({ type: "disconnect", server: "simulated" } as Status)
    this.#reconnect()
  }

  #tell(status: Status): void {
    for (const queue of this.#statuses) queue.push(status)
  }
}

const messageOf = ({ subject, reply, headers, data }: Delivered): Msg => {
  const bytes = headers.byteLength === 0 ? data : Buffer.concat([headers, data])
  const hdr = headers.byteLength === 0 ? -1 : headers.byteLength
  const parts = { subject: Buffer.from(subject), reply: reply === "" ? undefined : Buffer.from(reply), hdr, size: bytes.byteLength, sid: 0 }
  return new MsgImpl(parts as unknown as ConstructorParameters<typeof MsgImpl>[0], bytes, undefined as never) as unknown as Msg
}

/** What a connection tells of itself, for one who follows it. */
class StatusQueue implements AsyncIterable<Status>, AsyncIterator<Status> {
  readonly #left: () => void
  readonly #news: Status[] = []
  #wake: (() => void) | undefined
  #isOver = false

  constructor(left: () => void) {
    this.#left = left
  }

  push(status: Status): void {
    if (this.#isOver) return
    this.#news.push(status)
    this.#wake?.()
  }

  stop(): void {
    this.#isOver = true
    this.#left()
    this.#wake?.()
  }

  async next(): Promise<IteratorResult<Status>> {
    while (this.#news.length === 0 && !this.#isOver) {
      await new Promise<void>((resume) => {
        this.#wake = resume
      })
    }
    const value = this.#news.shift()
    return value === undefined ? { done: true, value: undefined } : { done: false, value }
  }

  async return(): Promise<IteratorResult<Status>> {
    this.stop()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): AsyncIterator<Status> {
    return this
  }
}
