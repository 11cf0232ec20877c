/**
 * Reads output streams as they are stored, message by message, with the bare client and without a consumer: so nothing of keyfold's reading
 * is believed, and a restart of the server cannot disturb it.
 */
import type { NatsConnection } from "@nats-io/transport-node"
import { sleep } from "../fixtures/waiting.ts"
import type { Checker, StoredResult } from "./checker.ts"

const emptyMs = 50
const awayMs = 200

interface Answer {
  readonly message?: {
    readonly subject: string
    readonly seq: number
    readonly hdrs?: string
    readonly data: string
    readonly time: string
  }
  readonly error?: { readonly code: number }
}

export class Watch {
  /** When each message was stored, by stream. */
  readonly storedAtMs = new Map<string, number[]>()
  readonly #nats: NatsConnection
  readonly #following: Promise<unknown>
  #isOver = false

  /** Follows `<topic>-0`, `<topic>-1` and so on; they may come into being later. `fail` hears what makes it give up. */
  constructor(nats: NatsConnection, topics: readonly WatchedTopic[], fail: (thrown: unknown) => void) {
    this.#nats = nats
    const streams = topics.flatMap(({ topic, partitions, checker }) =>
      Array.from({ length: partitions }, (_, partition) => this.#follow(`${topic}-${partition}`, checker).catch(fail))
    )
    this.#following = Promise.all(streams)
  }

  /** Whether everything that is stored now has been seen. */
  async isThrough(): Promise<boolean> {
    for (const [stream, times] of this.storedAtMs) {
      const { state } = (await this.#nats.request(`$JS.API.STREAM.INFO.${stream}`)).json<{
        readonly state?: { readonly last_seq: number }
      }>()
      if (state !== undefined && state.last_seq > times.length) return false
    }
    return true
  }

  async close(): Promise<void> {
    this.#isOver = true
    await this.#following
  }

  async #follow(stream: string, checker: Checker): Promise<void> {
    const times: number[] = []
    this.storedAtMs.set(stream, times)
    while (!this.#isOver) {
      const answer = await this.#message(stream, times.length + 1)
      if (answer?.message === undefined) {
        if (answer?.error !== undefined && answer.error.code !== 404 && answer.error.code !== 503)
          throw new Error(`${stream}: ${JSON.stringify(answer)}`)
        await sleep(answer === undefined ? awayMs : emptyMs)
        continue
      }
      times.push(Date.parse(answer.message.time))
      checker.see(resultOf(stream, answer.message))
    }
  }

  /** Undefined while the server is away. */
  async #message(stream: string, seq: number): Promise<Answer | undefined> {
    try {
      return (await this.#nats.request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify({ seq }), { timeout: 2_000 })).json<Answer>()
    } catch {
      return undefined
    }
  }
}

export interface WatchedTopic {
  readonly topic: string
  readonly partitions: number
  readonly checker: Checker
}

const resultOf = (stream: string, { subject, seq, hdrs = "", data }: NonNullable<Answer["message"]>): StoredResult => ({
  stream,
  position: seq,
  writer: subject.split(".")[2] ?? "",
  number: Number(/^kf-n: *(\d+)/im.exec(Buffer.from(hdrs, "base64").toString())?.[1]),
  value: JSON.parse(Buffer.from(data, "base64").toString())
})
