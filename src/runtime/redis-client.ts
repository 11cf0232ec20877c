/**
 * One ioredis client, made dependable: a command is answered, or it fails. Left to itself ioredis sends unanswered commands again after a
 * reconnection, which appends twice; told not to, it never says what became of them; and a connection whose other end has vanished
 * without a word is noticed by nobody. So every command that is under way is known here, and ends with its connection.
 */
import { Cluster, Command, Redis } from "ioredis"
import type { RedisArgument, RedisReply } from "../storage/redis-link.ts"
import { withoutArguments } from "./redis-failures.ts"
import type { RedisSettings } from "./redis-settings.ts"

/** How often the watch looks; a command that has seen so many looks in silence, or a handshake, is taken for dead. */
export const lookMsEvery = 250
const looksMax = 6
/** One look more for so many bytes: the way is long for them (4 MiB/s), and nothing comes back meanwhile. */
const bytesPerLook = 1_048_576
const reconnectMsMax = 500

interface Pending {
  readonly fail: (thrown: Error) => void
  readonly looksMax: number
  looks: number
}

export class RedisClient {
  readonly #client: Redis | Cluster
  readonly #looksMax: number
  readonly #pending = new Set<Pending>()
  readonly #ready = new Set<() => void>()
  /** Why it is not connected. */
  #fault = "it does not answer"
  #refusal: Error | undefined
  #handshakeLooks = 0
  #bytesRead = 0

  /** `blockedMs`: how long its commands may block, and so keep silent, of their own will. */
  constructor(settings: RedisSettings, blockedMs = 0) {
    this.#looksMax = looksMax + Math.ceil(blockedMs / lookMsEvery)
    this.#client = settings.kind === "cluster" ? clusterClient(settings, this.#looksMax * lookMsEvery) : serverClient(settings)
    this.#client.on("error", (thrown: Error) => this.#note(thrown))
    this.#client.on("ready", () => this.#becomeReady())
    this.#client.on("close", () => this.#failAll(new Error("the connection was lost")))
    this.#client.on("end", () => this.#failAll(new Error("the connection was closed")))
  }

  get isReady(): boolean {
    return this.#client.status === "ready"
  }

  /** Why it is not ready. */
  get fault(): string {
    return this.#fault
  }

  /** Set when the server refused the user or password, which no waiting mends. */
  get refusal(): Error | undefined {
    return this.#refusal
  }

  /** Calls back once, when it is ready; at once when it is. Answers how to stop waiting. */
  whenReady(ready: () => void): () => void {
    if (this.isReady) ready()
    else this.#ready.add(ready)
    return () => this.#ready.delete(ready)
  }

  /** Calls back exactly once. What is sent in one go of the event loop leaves in one piece: each has its price, on loopback some 30 us. */
  send(name: string, args: readonly RedisArgument[], done: Done): void {
    this.#gather()
    this.#client.sendCommand(this.#command(name, args, done))
  }

  /** Sends commands one right after the other on one connection; of a cluster, that of the first one's key. */
  sendTogether(commands: readonly { readonly name: string; readonly args: readonly RedisArgument[]; readonly done: Done }[]): void {
    // Its type leaves out what every sender has.
    const pipeline = this.#client.pipeline() as unknown as { sendCommand(command: Command): void; exec(): Promise<unknown> }
    for (const { name, args, done } of commands) pipeline.sendCommand(this.#command(name, args, done))
    pipeline.exec().catch(() => undefined) // each command has its own answer
  }

  /** The nodes of a cluster that a slot is on, as one name; "" without a cluster. */
  nodesOf(slot: number): string {
    return this.#client instanceof Cluster ? (this.#client.slots[slot]?.join(" ") ?? String(slot)) : ""
  }

  get isCluster(): boolean {
    return this.#client instanceof Cluster
  }

  /** Asks a cluster where its slots are: after a command was sent to the wrong node. */
  refresh(): void {
    if (this.#client instanceof Cluster) this.#client.refreshSlotsCache(() => undefined)
  }

  /** A command on every primary. */
  async everywhere(name: string, args: readonly string[]): Promise<readonly RedisReply[]> {
    const nodes = this.#client instanceof Cluster ? this.#client.nodes("master") : [this.#client]
    return Promise.all(nodes.map((node) => node.callBuffer(name, ...args) as Promise<RedisReply>))
  }

  /** To be called every `lookMsEvery`. Counts looks, not time: a process that was stopped, or busy, blames nobody. */
  look(): void {
    // Answers come in order, so with any byte of one the others are on their way. The nodes of a cluster are not one another's.
    const bytesRead = this.#client instanceof Cluster ? 0 : (this.#client.stream?.bytesRead ?? 0)
    const isSilent = bytesRead === this.#bytesRead
    this.#bytesRead = bytesRead
    let isDead = false
    for (const pending of this.#pending) {
      pending.looks = isSilent ? pending.looks + 1 : 0
      if (pending.looks > pending.looksMax) isDead = true
    }
    this.#handshakeLooks = this.#client.status === "connect" ? this.#handshakeLooks + 1 : 0
    if (isDead || this.#handshakeLooks > looksMax) this.#drop()
  }

  close(): void {
    this.#client.disconnect()
  }

  #command(name: string, args: readonly RedisArgument[], done: Done): Command {
    const command = new Command(name, args.map(asBuffer), { replyEncoding: null })
    const pending: Pending = {
      looks: 0,
      looksMax: this.#looksMax + Math.floor(bytesIn(args) / bytesPerLook),
      fail: (thrown) => finish(thrown, null)
    }
    const finish: Done = (thrown, reply) => {
      if (this.#pending.delete(pending)) done(thrown, reply)
    }
    this.#pending.add(pending)
    command.promise.then(
      (reply) => finish(undefined, reply as RedisReply),
      (thrown: Error) => finish(thrown, null)
    )
    return command
  }

  #gather(): void {
    const stream = this.#client instanceof Cluster ? undefined : this.#client.stream
    if (stream === undefined || stream.writableCorked > 0) return
    stream.cork()
    queueMicrotask(() => stream.uncork())
  }

  /** What is under way ends with its connection; a cluster's nodes watch over theirs by `socketTimeout`. */
  #drop(): void {
    const silence = new Error(`no answer within ${this.#looksMax * lookMsEvery} ms`)
    this.#handshakeLooks = 0
    if (this.#client instanceof Cluster) this.#failAll(silence)
    else {
      this.#fault = silence.message
      this.#client.disconnect(true)
      this.#failAll(silence)
    }
  }

  #failAll(thrown: Error): void {
    for (const pending of [...this.#pending]) pending.fail(thrown)
  }

  #becomeReady(): void {
    this.#refusal = undefined
    const waiting = [...this.#ready]
    this.#ready.clear()
    for (const ready of waiting) ready()
  }

  #note(thrown: Error): void {
    const cause = (thrown as { readonly lastNodeError?: Error }).lastNodeError ?? thrown
    this.#fault = withoutArguments(cause.message) || (cause as NodeJS.ErrnoException).code || "it does not answer"
    if (/\b(WRONGPASS|NOAUTH|NOPERM)\b/.test(this.#fault)) this.#refusal = cause
  }
}

type Done = (thrown: Error | undefined, reply: RedisReply) => void

const bytesIn = (args: readonly RedisArgument[]): number => {
  let bytes = 0
  for (const argument of args) bytes += argument.length
  return bytes
}

/** ioredis writes a plain Uint8Array as the text of its numbers. */
const asBuffer = (argument: RedisArgument): string | Buffer =>
  typeof argument === "string" || Buffer.isBuffer(argument)
    ? argument
    : Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength)

const reconnectMs = (attempt: number): number => Math.min(reconnectMsMax, 20 * attempt)

/** What all clients have in common. */
const connection = ({ username, password, tls }: RedisSettings) => ({
  ...(username !== undefined && { username }),
  ...(password !== undefined && { password }),
  ...(tls !== undefined && { tls }),
  connectionName: "keyfold",
  disableClientInfo: true,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: null,
  connectTimeout: 3_000,
  disconnectTimeout: 50,
  // After a fail-over we may be connected to what is a replica by now.
  reconnectOnError: (thrown: Error) => thrown.message.startsWith("READONLY")
})

const serverClient = (settings: RedisSettings): Redis => {
  const { kind, places, primary, database, sentinelUsername, sentinelPassword } = settings
  const common = { ...connection(settings), db: database, enableOfflineQueue: false, retryStrategy: reconnectMs }
  if (kind === "server") return new Redis({ ...common, ...places[0] })
  return new Redis({
    ...common,
    sentinels: [...places],
    ...(primary !== undefined && { name: primary }),
    ...(sentinelUsername !== undefined && { sentinelUsername }),
    ...(sentinelPassword !== undefined && { sentinelPassword }),
    ...(settings.tls !== undefined && { sentinelTLS: settings.tls, enableTLSForSentinelMode: true }),
    sentinelRetryStrategy: reconnectMs,
    sentinelCommandTimeout: looksMax * lookMsEvery,
    failoverDetector: true
  })
}

const clusterClient = (settings: RedisSettings, socketTimeout: number): Cluster =>
  new Cluster([...settings.places], {
    redisOptions: { ...connection(settings), socketTimeout },
    clusterRetryStrategy: reconnectMs,
    slotsRefreshTimeout: 2_000
  })
