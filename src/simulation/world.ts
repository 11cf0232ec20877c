/**
 * Time and order of a simulation. Nothing in it happens by itself: one appointment after the other is kept, and after each everything that
 * it has set in motion runs to its rest, promises and tasks of fibers included. So one seed is one history, however busy the machine.
 */
import { Agenda, type Appointment } from "./agenda.ts"
import { Dice } from "./dice.ts"
import { History } from "./history.ts"

/** When simulations begin: some hour that is none of today's, and of each seed another one. */
const beginMsLeast = Date.UTC(2030, 0, 1)
const beginHoursMost = 10_000
const hourMs = 3_600_000

/** The event loop of the machine has its turn every so many steps: time-outs of a test runner, signals. */
const stepsPerBreath = 4_096

export class World {
  readonly seed: number
  readonly dice: Dice
  readonly history: History
  readonly #agenda = new Agenda()
  /** What is to be done before time goes on. */
  readonly #soon: (() => void)[] = []
  #nowMs: number
  #steps = 0

  constructor(seed: number) {
    this.seed = seed
    this.dice = new Dice(seed)
    this.#nowMs = beginMsLeast + this.dice.whole(0, beginHoursMost) * hourMs
    this.history = new History(() => this.#nowMs)
  }

  /** True time, with fractions; processes have clocks of their own. */
  get nowMs(): number {
    return this.#nowMs
  }

  get steps(): number {
    return this.#steps
  }

  /** Calls once so many milliseconds from now. */
  after(ms: number, act: () => void): Appointment {
    return this.#agenda.add(this.#nowMs + Math.max(0, ms), act)
  }

  /** Calls once before time goes on, behind what is running. */
  soon(act: () => void): void {
    this.#soon.push(act)
  }

  /** Goes on until `isDone`, or until nothing is to happen any more, or until a time; answers whether it is done. */
  async run(isDone: () => boolean, untilMs: number): Promise<boolean> {
    await atRest()
    while (!isDone()) {
      if (!this.#step(untilMs)) return isDone()
      await atRest()
      if (this.#steps % stepsPerBreath === 0) await new Promise((resume) => setImmediate(resume))
    }
    return true
  }

  #step(untilMs: number): boolean {
    const soon = this.#soon.shift()
    if (soon !== undefined) {
      this.#steps += 1
      soon()
      return true
    }
    const next = this.#agenda.next(untilMs)
    if (next === undefined) return false
    this.#steps += 1
    this.#nowMs = Math.max(this.#nowMs, next.atMs)
    next.act()
    return true
  }
}

/** Every promise that can go on has gone on: ticks come after them (Node's own order). */
const atRest = (): Promise<void> => new Promise((resume) => process.nextTick(resume))
