/**
 * A connection of a client to a server, as TCP makes one: what is sent arrives in order or not at all, and nobody knows which. It can be cut
 * (what was under way arrives in part, and both ends hear of it later) or go deaf (nobody hears of anything).
 */
import type { SimulatedProcess } from "./process.ts"

/** Which ways something is wrong with: both, or that to the server or from it alone. */
export const ways = ["both", "up", "down"] as const
export type Ways = (typeof ways)[number]

interface Way {
  /** What a message may take at most; 0: what it takes on a good day. */
  slowestMs: number
  /** What is sent is lost without a word. */
  isDeaf: boolean
}

const fairWay: Way = { slowestMs: 0, isDeaf: false }

/** How it is at present between a process and a server. */
export class Weather {
  readonly up: Way = { ...fairWay }
  readonly down: Way = { ...fairWay }
  /** Connections are refused. */
  isDown = false
  readonly #lines = new Set<Line>()

  begun(line: Line): void {
    this.#lines.add(line)
  }

  ended(line: Line): void {
    this.#lines.delete(line)
  }

  cut(): void {
    for (const line of [...this.#lines]) line.cut()
  }

  /** Answers how to make it right again. */
  worsen(which: Ways, wrong: Partial<Way>): () => void {
    const those = [this.up, this.down].filter((way) => which === "both" || way === this[which])
    for (const way of those) Object.assign(way, wrong)
    return () => {
      for (const way of those) Object.assign(way, fairWay)
    }
  }

  clear(): void {
    for (const way of [this.up, this.down]) Object.assign(way, fairWay)
    this.isDown = false
  }
}

const fairMs = { least: 0.1, most: 0.6 }

export class Line {
  readonly #process: SimulatedProcess
  readonly #weather: Weather
  readonly #closed: () => void
  #state: "open" | "cut" | "closed" = "open"
  readonly #deaf = { up: false, down: false }
  #upAtMs = 0
  #downAtMs = 0
  #upUnderWay = 0
  /** After a cut: how many of those under way to the server still arrive; none when that is gone. */
  #upArriving = 0

  /** `closed` is called in the process once, when it hears that the line is no more, unless it has closed it itself. */
  constructor(process: SimulatedProcess, weather: Weather, closed: () => void) {
    this.#process = process
    this.#weather = weather
    this.#closed = closed
    process.onDeath(() => this.cut())
    weather.begun(this)
  }

  get isOpen(): boolean {
    return this.#state === "open"
  }

  /** To the server; `arrive` is called there. */
  up(arrive: () => void): void {
    if (this.#state !== "open" || !this.#process.maySend() || this.#swallows("up")) return
    const { world } = this.#process
    this.#upAtMs = Math.max(this.#upAtMs, world.nowMs + this.#latency("up"))
    this.#upUnderWay += 1
    world.after(this.#upAtMs - world.nowMs, () => {
      this.#upUnderWay -= 1
      if (this.#state !== "open" && --this.#upArriving < 0) return
      arrive()
    })
  }

  /** To the client; `arrive` is called in its process. */
  down(arrive: () => void): void {
    if (this.#state !== "open" || this.#swallows("down")) return
    const { world } = this.#process
    this.#downAtMs = Math.max(this.#downAtMs, world.nowMs + this.#latency("down"))
    world.after(this.#downAtMs - world.nowMs, () =>
      this.#process.enter(() => {
        if (this.#state === "open") arrive()
      })
    )
  }

  /** The network, the server or the death of the process ends it. */
  cut(): void {
    if (!this.#end("cut")) return
    const { world } = this.#process
    world.after(this.#latency("down"), () =>
      this.#process.enter(() => {
        if (this.#state === "cut") this.#closed()
      })
    )
  }

  /** The process itself ends it. */
  close(): void {
    this.#end("closed")
  }

  #end(state: "cut" | "closed"): boolean {
    if (this.#state !== "open") return false
    this.#state = state
    this.#weather.ended(this)
    this.#upArriving = this.#deaf.up || this.#weather.isDown ? 0 : this.#process.world.dice.whole(0, this.#upUnderWay)
    return true
  }

  /** What has once lost something stays deaf: nothing makes sense after a gap. */
  #swallows(way: "up" | "down"): boolean {
    this.#deaf[way] ||= this.#weather[way].isDeaf
    return this.#deaf[way]
  }

  #latency(way: "up" | "down"): number {
    const most = Math.max(fairMs.most, this.#weather[way].slowestMs)
    return fairMs.least + this.#process.world.dice.fraction() * (most - fairMs.least)
  }
}
