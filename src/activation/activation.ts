/**
 * The engine: calls the state function, key by key, and nothing else. Plain synchronous TypeScript: no clock, no randomness, no promise,
 * no journal; the same calls in, the same changes and outputs out. Its partition owns rows, reading, loading and committing.
 *
 * A1. A key is called at most once per turn: with its events, or because its timeout is due, never both (G1, G9, G10).
 * A2. All data calls come before all timeout calls (G10); the former in order of first row, the latter as given (T4).
 * A3. A call that throws changes nothing: no state, no timeout, no output (G23); only a timeout call's own timeout is used up.
 * A4. A turn can be undone whole, until it is committed.
 */
import { InvariantError, KeyfoldError } from "../errors.ts"
import type { Context } from "../model/actor.ts"
import { TurnTooLarge } from "../model/outgoing.ts"
import { type Change, noTimeout, type Resident, type StateImage } from "../model/resident.ts"
import type { ActorPlan, InitialState } from "../model/stage.ts"
import type { TurnClock } from "../model/turn.ts"
import type { Residents } from "./residents.ts"
import { StateHandle } from "./state-handle.ts"

/** All that the engine needs from its partition. */
export interface ActivationHost {
  /** What the function may use; `emitTo` belongs to the call under way. */
  readonly context: Context
  /** A call begins: what it puts out from here on can be taken back. */
  readonly callStarted: (resident: Resident, eventTime: number) => void
  /** One result of the call, on its way through the operators to the outbox. Throws what makes the call fail. */
  readonly result: (value: unknown) => void
  /** The call is over, and has put out what it has. */
  readonly callEnded: () => void
  /** The call is over, and what it has put out is taken back. */
  readonly callUndone: () => void
  /** The call has failed for good. Throws to give the turn up (onError: "stop"). */
  readonly callFailed: (resident: Resident, thrown: unknown) => void
}

export interface TurnCalls {
  readonly turn: number
  readonly clock: TurnClock
  /** Keys with events, in order of their first row. */
  readonly called: readonly Resident[]
  /** Of the first turn of all (G20): the states to start from. */
  readonly initial: ReadonlyMap<Resident, InitialState>
  /** Keys whose timeout is due, in firing order; those with events are passed over. */
  readonly due: readonly Resident[]
}

export class Activation {
  readonly #actor: ActorPlan
  readonly #retries: number
  readonly #residents: Residents
  readonly #host: ActivationHost
  readonly #state: StateHandle<unknown>
  #changes: Change[] = []
  #turn = 0
  #watermarkMs: number | undefined

  constructor(actor: ActorPlan, parts: { readonly retries: number; readonly residents: Residents; readonly host: ActivationHost }) {
    this.#actor = actor
    this.#retries = parts.retries
    this.#residents = parts.residents
    this.#host = parts.host
    this.#state = new StateHandle(actor.state, actor.timeout)
  }

  /** Runs a turn's calls and answers what changed, in call order. Throws only what `callFailed` throws, with the turn undone (A4). */
  run(calls: TurnCalls): readonly Change[] {
    this.#changes = []
    this.#turn = calls.turn
    this.#watermarkMs = calls.clock.watermarkMs
    this.#state.startTurn(calls.clock)
    try {
      for (const resident of calls.called) this.#call(resident, calls.initial.get(resident), false)
      for (const [resident, initial] of calls.initial) if (resident.events === undefined) this.#call(resident, initial, false)
      for (const resident of calls.due) if (resident.events === undefined) this.#call(resident, undefined, true)
    } catch (thrown) {
      this.undo()
      throw thrown
    }
    return this.#changes
  }

  /** Puts every key back as it was before the turn (A4). */
  undo(): void {
    for (const change of this.#changes) this.#residents.change(change.resident, change.before)
    this.#changes = []
  }

  #call(resident: Resident, initial: InitialState | undefined, timedOut: boolean): void {
    const prior = initial === undefined ? resident.bytes : initial.bytes
    const eventTime = this.#eventTimeOf(resident, timedOut)
    resident.turn = this.#turn
    for (let attempt = 0; ; attempt++) {
      this.#host.callStarted(resident, eventTime)
      this.#state.begin(prior, timedOut)
      try {
        this.#drain(this.#actor.run(resident.key, resident.events ?? noEvents, this.#state, this.#host.context))
        this.#keep(resident, this.#state.finish(), prior)
        this.#host.callEnded()
        return
      } catch (thrown) {
        this.#state.abandon()
        this.#host.callUndone()
        if (thrown instanceof InvariantError || thrown instanceof TurnTooLarge) throw thrown
        if (attempt < this.#retries) continue
        this.#fail(resident, { thrown, timedOut, prior })
        return
      }
    }
  }

  /** Outputs are taken lazily, so that state changes made between two yields count (G17). */
  #drain(returned: unknown): void {
    if (this.#actor.mode === "map") {
      if (isPromise(returned)) throw new KeyfoldError("function-failed", "the state function answered a promise: it must be synchronous")
      this.#host.result(returned)
      return
    }
    if (typeof (returned as Iterable<unknown> | null | undefined)?.[Symbol.iterator] !== "function") {
      throw new KeyfoldError("function-failed", "flatMapGroupsWithState needs a synchronous iterable of results: an array, or function*")
    }
    for (const value of returned as Iterable<unknown>) this.#host.result(value)
  }

  /** `prior` differs from what the resident has when it is an initial state: that is a change even when the call removes it (G20). */
  #keep(resident: Resident, image: StateImage, prior: Uint8Array | undefined): void {
    const { updated, removed } = this.#state
    const before = { bytes: resident.bytes, timeoutAt: timeoutOf(resident) }
    if (image.bytes === before.bytes && image.timeoutAt === before.timeoutAt && prior === before.bytes) return
    this.#changes.push({ resident, before, updated, removed })
    this.#residents.change(resident, image)
  }

  /** A3. A key of the initial state keeps it: it is applied once, whatever its first call does (G20). */
  #fail(resident: Resident, call: { readonly thrown: unknown; readonly timedOut: boolean; readonly prior: Uint8Array | undefined }): void {
    this.#host.callFailed(resident, call.thrown)
    const before = { bytes: resident.bytes, timeoutAt: timeoutOf(resident) }
    const timeoutAt = call.timedOut ? undefined : before.timeoutAt
    if (call.prior === before.bytes && timeoutAt === before.timeoutAt) return
    this.#changes.push({ resident, before, updated: false, removed: false })
    this.#residents.change(resident, { bytes: call.prior, timeoutAt })
  }

  /** The event time of a call's outputs: its rows' largest; of a timeout call, when it was due (DESIGN, "Event time after a stage"). */
  #eventTimeOf(resident: Resident, timedOut: boolean): number {
    if (!timedOut) return resident.eventTimeMax
    return this.#actor.timeout === "event-time" ? resident.timeoutAt : (this.#watermarkMs ?? Number.NaN)
  }
}

const noEvents: readonly unknown[] = Object.freeze([])

const timeoutOf = (resident: Resident): number | undefined => (resident.timeoutAt === noTimeout ? undefined : resident.timeoutAt)

const isPromise = (value: unknown): boolean => typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function"
