/**
 * A process of a simulation: what a worker would be on a machine of its own. It has a clock, chance and a scheduler of its own, so it can be
 * killed at any wait, stand still for a while, and have a clock that goes wrong.
 *
 *   running ──pause──▶ paused ──resume──▶ running      what reaches it meanwhile waits
 *      └──────kill───────┴──────▶ dead                 nothing reaches it, and nothing leaves it
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { MixedScheduler, Scheduler } from "effect/Scheduler"
import { Dice } from "./dice.ts"
import type { World } from "./world.ts"

const nanosPerMs = 1_000_000

export class SimulatedProcess {
  readonly name: string
  readonly world: World
  /** What every fiber of it runs with. */
  readonly context: Context.Context<never>
  /** How far its clock is ahead of the true time; the monotonic one is right. */
  skewMs = 0
  #state: "running" | "paused" | "dead" = "running"
  readonly #held: (() => void)[] = []
  readonly #deaths = new Set<() => void>()
  /** It dies when it has sent so many messages more. */
  #sendsLeft = Number.POSITIVE_INFINITY

  constructor(world: World, name: string, id: number) {
    this.world = world
    this.name = name
    const dice = new Dice(world.seed, id)
    this.context = Context.make(Clock.Clock, this.#clock()).pipe(
      Context.add(Random.Random, { nextDoubleUnsafe: () => dice.fraction(), nextIntUnsafe: () => dice.whole(-(2 ** 53 - 1), 2 ** 53 - 1) }),
      Context.add(Scheduler, new MixedScheduler("async", (act) => this.#soon(act)))
    ) as Context.Context<never>
  }

  get isDead(): boolean {
    return this.#state === "dead"
  }

  get isPaused(): boolean {
    return this.#state === "paused"
  }

  /** Something reaches it, now or when it goes on. */
  enter(act: () => void): void {
    if (this.#state === "running") act()
    else if (this.#state === "paused") this.#held.push(act)
  }

  /** A timer of its own. Answers how to stop it. */
  after(ms: number, act: () => void): () => void {
    // Also one that was stopped while its process stood still does not ring when it goes on.
    const appointment = this.world.after(ms, () => this.enter(() => (appointment.isCancelled ? undefined : act())))
    return () => {
      appointment.isCancelled = true
    }
  }

  /** To be asked before each message that leaves it. */
  maySend(): boolean {
    if (this.#state === "dead") return false
    if (this.#sendsLeft === 0) {
      this.kill()
      return false
    }
    this.#sendsLeft -= 1
    return true
  }

  /** It dies right after so many messages more: between two of any of its steps. */
  killAfterSends(count: number): void {
    this.#sendsLeft = count
  }

  /** It does not die any more. */
  spare(): void {
    this.#sendsLeft = Number.POSITIVE_INFINITY
  }

  kill(): void {
    if (this.#state === "dead") return
    this.#state = "dead"
    this.#held.length = 0
    this.world.history.add(this.name, "dies")
    for (const died of [...this.#deaths]) died()
  }

  pause(): void {
    if (this.#state === "running") this.#state = "paused"
  }

  resume(): void {
    if (this.#state !== "paused") return
    this.#state = "running"
    for (const act of this.#held.splice(0)) this.#soon(act)
  }

  onDeath(act: () => void): void {
    this.#deaths.add(act)
  }

  /** A promise of what an effect comes to, as this process; it may never settle. */
  run<A, E>(effect: Effect.Effect<A, E>): Promise<A> {
    return Effect.runPromiseWith(this.context)(effect)
  }

  #soon(act: () => void): () => void {
    let isWanted = true
    this.world.soon(() => {
      if (isWanted) this.enter(act)
    })
    return () => {
      isWanted = false
    }
  }

  #clock(): Clock.Clock {
    const millis = (): number => Math.floor(this.world.nowMs + this.skewMs)
    const nanos = (): bigint => BigInt(Math.floor((this.world.nowMs + this.skewMs) * 1_000)) * 1_000n
    const monotonic = (): bigint => BigInt(Math.floor(this.world.nowMs * nanosPerMs))
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: monotonic,
      monotonicTimeNanos: Effect.sync(monotonic),
      sleep: (duration) =>
        Effect.callback<void>((resume) => {
          const stop = this.after(Duration.toMillis(duration), () => resume(Effect.void))
          return Effect.sync(stop)
        })
    }
  }
}
