/** Sees results as a foreign reader does: an ordered consumer per stream, which gets what is stored. Notes who made each, and when it came. */
import { type ConsumerMessages, jetstream } from "@nats-io/jetstream"
import type { NatsConnection } from "@nats-io/transport-node"
import { type Count, countPartitions, countsName, machineUs } from "./clustered-counts.ts"

export interface Sighting {
  readonly partition: number
  readonly by: number
  readonly sentUs: number
  readonly seenUs: number
}

export class Watch {
  readonly #consumers: ConsumerMessages[] = []
  #sightings: Sighting[] = []

  private constructor() {}

  static async start(nats: NatsConnection, name: string): Promise<Watch> {
    const watch = new Watch()
    const js = jetstream(nats)
    for (let partition = 0; partition < countPartitions; partition++) {
      const consumer = await js.consumers.get(`${countsName(name)}-${partition}`)
      const messages = await consumer.consume({
        callback: (message) => {
          const { by, sentUs } = message.json<Count>()
          watch.#sightings.push({ partition, by, sentUs, seenUs: machineUs() })
        }
      })
      watch.#consumers.push(messages)
    }
    return watch
  }

  /** In the order in which they came; of each partition that is the order of the stream. */
  get sightings(): readonly Sighting[] {
    return this.#sightings
  }

  forget(): void {
    this.#sightings = []
  }

  async until(what: string, isEnough: (sightings: readonly Sighting[]) => boolean, secondsMax = 120): Promise<void> {
    const endMs = performance.now() + secondsMax * 1_000
    while (!isEnough(this.#sightings)) {
      if (performance.now() > endMs) throw new Error(`waited ${secondsMax} s in vain: ${what}`)
      await sleep(20)
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#consumers.map((messages) => messages.close()))
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms))

/** Of sorted numbers, the one below which a part of them lies. */
export const quantile = (sorted: readonly number[], part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
