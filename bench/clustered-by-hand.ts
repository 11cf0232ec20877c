/**
 * The baseline of the clustered runtime: the same work by hand, for this one job, over the same clients. Each partition is a loop: what has
 * arrived, up to 4,096 messages; JSON; sessions folded in a Map; one command to Redis with the changed states; then the results, with as
 * many on their way as fit and their acks counted. It can lose, repeat and reorder, and two of it would write over each other.
 *
 * What it leaves out can be put in by halves, to see what each costs:
 *
 *   fenced    a script instead of the plain command: a look at an owner's token, and the results are stored with the states (P8)
 *   ordered   one result on its way per stream, with a message id and an expected sequence (P12)
 */
import { createHash } from "node:crypto"
import { type JetStreamClient, type JsMsg, jetstream } from "@nats-io/jetstream"
import { createInbox, headers, type Msg, type NatsConnection } from "@nats-io/transport-node"
import type { Redis } from "ioredis"
import { fnv1a32 } from "../src/model/hash.ts"
import { type Click, delayMs, fold, gapMs, jitterMs, type Open, type Session } from "./clicks.ts"

export interface HandOptions {
  readonly fenced: boolean
  readonly ordered: boolean
}

export interface HandParts extends HandOptions {
  readonly nats: NatsConnection
  readonly redis: Redis
  readonly input: string
  readonly output: string
  readonly outputPartitions: number
  /** Messages in each partition of the input. */
  readonly counts: readonly number[]
  /** What the loop's keys in Redis begin with. */
  readonly name: string
  /** Called with the first message: the clock starts. */
  readonly began: () => void
}

/** Reads the input to its end. Answers how many results were published and acknowledged. */
export const runByHand = async (parts: HandParts): Promise<number> => {
  const results = parts.ordered ? new OrderedResults(parts) : new Results(parts)
  const js = jetstream(parts.nats)
  try {
    const loops = parts.counts.map((count, partition) => new HandPartition(parts, results, partition).run(js, count))
    await Promise.all(loops)
    await results.settled()
    return results.published
  } finally {
    results.close()
  }
}

const turnCountMax = 4_096

class HandPartition {
  readonly #parts: HandParts
  readonly #results: Results
  readonly #partition: number
  readonly #states = new Map<string, Open>()
  #arrived: JsMsg[] = []
  #wake: (() => void) | undefined
  #newest = 0
  #position = 0
  #revision = 0
  /** Of the turn: what is sent when the states are stored. */
  #finished: Session[] = []

  constructor(parts: HandParts, results: Results, partition: number) {
    this.#parts = parts
    this.#results = results
    this.#partition = partition
  }

  async run(js: JetStreamClient, count: number): Promise<void> {
    if (count === 0) return
    const consumer = await js.consumers.get(`${this.#parts.input}-${this.#partition}`)
    const messages = await consumer.consume({
      max_messages: turnCountMax,
      callback: (message) => {
        this.#arrived.push(message)
        this.#wake?.()
      }
    })
    if (this.#parts.fenced) await this.#parts.redis.hset(this.#key("meta"), "token", token, "rev", 0)
    while (this.#position < count) {
      if (this.#arrived.length === 0) await this.#arrival()
      const batch = this.#arrived.splice(0, turnCountMax)
      await this.#turn(batch)
      await this.#results.room()
    }
    await messages.close()
  }

  async #turn(batch: readonly JsMsg[]): Promise<void> {
    if (this.#position === 0) this.#parts.began()
    const changed = new Set<string>()
    const finish = (session: Session) => this.#finished.push(session)
    for (const { data } of batch) {
      const click = JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString()) as Click
      const { user } = click
      const before = this.#states.get(user)
      const open = fold(user, [click], before, finish) as Open
      if (open.end !== before?.end) this.#states.delete(user) // to the end: the map stays nearly in order of `end`
      this.#states.set(user, open)
      changed.add(user)
      if (click.at > this.#newest) this.#newest = click.at
    }
    this.#position = (batch.at(-1) as JsMsg).seq
    this.#fire(this.#newest - delayMs, changed)
    await this.#store(changed)
    for (const session of this.#finished) this.#results.publish(session.user, JSON.stringify(session))
    this.#finished = []
  }

  /** What the watermark has passed. The map is in order but for the jitter. */
  #fire(watermark: number, changed: Set<string>): void {
    for (const [user, open] of this.#states) {
      const due = open.end + gapMs
      if (due >= watermark + jitterMs) return
      if (due >= watermark) continue
      this.#finished.push({ user, ...open })
      this.#states.delete(user)
      changed.add(user)
    }
  }

  async #store(changed: ReadonlySet<string>): Promise<void> {
    const { redis, fenced } = this.#parts
    const states: unknown[] = []
    for (const user of changed) states.push(user, this.#states.get(user) ?? null)
    const entry = JSON.stringify({ position: this.#position, newest: this.#newest, states })
    if (!fenced) {
      await redis.xadd(this.#key("log"), "*", "e", entry)
      return
    }
    const outbox = this.#finished.length === 0 ? "" : JSON.stringify(this.#finished)
    const keys = [this.#key("meta"), this.#key("log"), this.#key("outbox")]
    const write = [token, this.#revision, `${this.#revision} of this`, entry, outbox]
    const answer = await redis.evalsha(commitHash, keys.length, ...keys, ...write).catch((thrown: Error) => {
      if (!thrown.message.startsWith("NOSCRIPT")) throw thrown
      return redis.eval(commit, keys.length, ...keys, ...write)
    })
    if (answer !== "OK") throw new Error(`the fence says ${String(answer)}`)
    this.#revision += 1
  }

  #key(what: string): string {
    return `${this.#parts.name}:{${this.#partition}}:${what}`
  }

  #arrival(): Promise<void> {
    return new Promise((arrived) => {
      this.#wake = () => {
        this.#wake = undefined
        arrived()
      }
    })
  }
}

const token = "an owner"

const commit = /* lua */ `
local fence = redis.call('HMGET', KEYS[1], 'token', 'rev', 'op')
if fence[1] ~= ARGV[1] then return 'FENCED' end
if fence[3] == ARGV[3] then return 'ALREADY' end
if tonumber(fence[2]) ~= tonumber(ARGV[2]) then return 'MOVED' end
redis.call('XADD', KEYS[2], '*', 'e', ARGV[4])
if ARGV[5] ~= '' then redis.call('XADD', KEYS[3], '*', 'e', ARGV[5]) end
redis.call('HSET', KEYS[1], 'rev', ARGV[2] + 1, 'op', ARGV[3])
return 'OK'
`
const commitHash = createHash("sha1").update(commit).digest("hex")

// ---- results

const underWayMax = 8_192
const braceLength = 2
/** `{"stream":...` and not `{"error":...`. */
const firstOfStream = "s".charCodeAt(0)

/** Many at once; what comes back is counted and looked at. */
class Results {
  readonly parts: HandParts
  readonly #inbox = createInbox()
  readonly #subscription
  readonly #waiting: { readonly most: number; readonly go: () => void }[] = []
  #underWay = 0
  published = 0

  constructor(parts: HandParts) {
    this.parts = parts
    this.#subscription = parts.nats.subscribe(`${this.#inbox}.*`, { callback: (_, message) => this.answered(message) })
  }

  publish(user: string, payload: string): void {
    const { nats, output } = this.parts
    this.#underWay += 1
    nats.publish(`${output}.${this.place(user)}`, payload, { reply: `${this.#inbox}.0` })
  }

  place(user: string): number {
    return fnv1a32(user) % this.parts.outputPartitions
  }

  protected answered(message: Msg): void {
    if (message.data[braceLength] !== firstOfStream) throw new Error(`a result was refused: ${message.string()}`)
    this.count()
  }

  protected reply(place: number): string {
    return `${this.#inbox}.${place}`
  }

  protected expect(): void {
    this.#underWay += 1
  }

  protected count(): void {
    this.#underWay -= 1
    this.published += 1
    while (this.#waiting.length > 0 && this.#underWay <= (this.#waiting[0]?.most ?? 0)) this.#waiting.shift()?.go()
  }

  room(): Promise<void> | undefined {
    return this.#until(underWayMax)
  }

  async settled(): Promise<void> {
    await this.#until(0)
  }

  close(): void {
    this.#subscription.unsubscribe()
  }

  #until(most: number): Promise<void> | undefined {
    if (this.#underWay <= most) return undefined
    return new Promise((go) => this.#waiting.push({ most, go }))
  }
}

interface Line {
  readonly waiting: string[]
  number: number
  sequence: number
}

/** One at a time per stream, each upon the one before it. */
class OrderedResults extends Results {
  readonly #lines: Line[] = []
  readonly #writer = createInbox().slice(-16)

  override publish(user: string, payload: string): void {
    const place = this.place(user)
    this.#lines[place] ??= { waiting: [], number: 0, sequence: 0 }
    const line = this.#lines[place] as Line
    this.expect()
    line.waiting.push(payload)
    if (line.waiting.length === 1) this.#send(place, line)
  }

  protected override answered(message: Msg): void {
    super.answered(message)
    const place = Number(message.subject.slice(message.subject.lastIndexOf(".") + 1))
    const line = this.#lines[place] as Line
    line.sequence = message.json<{ readonly seq: number }>().seq
    line.waiting.shift()
    if (line.waiting.length > 0) this.#send(place, line)
  }

  #send(place: number, line: Line): void {
    const own = headers()
    line.number += 1
    own.set("Nats-Msg-Id", `${this.#writer}.${line.number}`)
    own.set("kf-n", String(line.number))
    own.set("Nats-Expected-Last-Subject-Sequence", String(line.sequence))
    const { nats, output } = this.parts
    nats.publish(`${output}.${place}.${this.#writer}`, line.waiting[0], { reply: this.reply(place), headers: own })
  }
}
