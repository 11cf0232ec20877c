/**
 * The stateless operators between two groupings, as data, and the one loop that runs them. They cost no hop: a chain runs where its
 * rows already are, on the way in (before the key) and on the way out (after the state function).
 */
import { KeyfoldError } from "../errors.ts"
import type { RecordInfo } from "./record.ts"
import type { ForeachDefinition, TopicDefinition } from "./topic.ts"

/** An event-time declaration: `withWatermark` with its defaults filled in. Times in milliseconds. */
export interface WatermarkDeclaration {
  readonly eventTime: (value: unknown, info: RecordInfo) => unknown
  readonly delayMs: number
  readonly idleAfterMs: number
  readonly advanceWhenIdle: boolean
  readonly late: TopicDefinition | ForeachDefinition | undefined
}

export type Operator =
  | { readonly kind: "map"; readonly fn: (value: unknown) => unknown }
  | { readonly kind: "filter"; readonly fn: (value: unknown) => boolean }
  | { readonly kind: "flatMap"; readonly fn: (value: unknown) => Iterable<unknown> }
  | { readonly kind: "watermark"; readonly declaration: WatermarkDeclaration }

/** What an operator chain hands on. `stamped` is the value that the event time was read from. */
export type OperatorOutput = (value: unknown, eventTime: number, stamped: unknown) => void

/** No event time was declared so far. */
export const noEventTime = Number.NaN

/** Runs values through a list of operators. Hot path: a loop and comparisons, no object per event; only flatMap recurses. */
export class OperatorChain {
  readonly #operators: readonly Operator[]
  readonly #output: OperatorOutput
  #info: RecordInfo | undefined
  #eventTime = noEventTime
  #stamped: unknown = undefined
  /** The largest event time stamped so far, also on what a later filter takes out (W1); NaN for none. The owner may put it back. */
  newestMs = noEventTime

  constructor(operators: readonly Operator[], output: OperatorOutput) {
    this.#operators = operators
    this.#output = output
  }

  /** Before `push`: the record that the next values come from, for event-time functions that ask. */
  from(info: RecordInfo): void {
    this.#info = info
  }

  /** `eventTime` and `stamped` are what the value carries already: nothing on the way in, its call's on the way out. */
  push(value: unknown, eventTime: number, stamped: unknown): void {
    this.#eventTime = eventTime
    this.#stamped = stamped
    this.#run(value, 0)
  }

  #run(input: unknown, index: number): void {
    let value = input
    for (let next = index; next < this.#operators.length; next++) {
      const operator = this.#operators[next] as Operator
      if (operator.kind === "map") value = synchronous(operator.fn(value))
      else if (operator.kind === "filter") {
        if (!synchronous(operator.fn(value))) return
      } else if (operator.kind === "watermark") {
        this.#eventTime = usableEventTime(operator.declaration.eventTime(value, this.#info as RecordInfo))
        this.#stamped = value
        if (!(this.#eventTime <= this.newestMs)) this.newestMs = this.#eventTime
      } else {
        this.#runChildren(operator.fn(value), next + 1)
        return
      }
    }
    this.#output(value, this.#eventTime, this.#stamped)
  }

  /** A later `withWatermark` of one child must not reach its siblings. */
  #runChildren(children: Iterable<unknown>, index: number): void {
    const eventTime = this.#eventTime
    const stamped = this.#stamped
    for (const child of children) {
      this.#eventTime = eventTime
      this.#stamped = stamped
      this.#run(child, index)
    }
  }
}

/** A plain function that answers a promise is only found here. */
const synchronous = <T>(answer: T): T => {
  if (typeof answer !== "object" || answer === null || typeof (answer as { then?: unknown }).then !== "function") return answer
  throw new KeyfoldError("function-failed", "a function of map or filter answered a promise: it must be synchronous")
}

/** W8: milliseconds, fractions floored, 0 and below usable; anything but a finite number is a bad row, never a guess. */
const usableEventTime = (eventTime: unknown): number => {
  if (typeof eventTime === "number" && Number.isFinite(eventTime)) return Math.floor(eventTime)
  const got = typeof eventTime === "number" || eventTime == null ? String(eventTime) : `a ${typeof eventTime}`
  throw new KeyfoldError("event-time-invalid", `the event time must be a finite number of milliseconds, got ${got}`)
}
