/**
 * Compares what lies in an output topic with what the model expects, message by message while both go on. Either may be ahead: the engine
 * closes a session when the watermark says so, the model when the reader comes back.
 */
import type { Session } from "keyfold/actors/sessionize"
import type { TrueSession } from "../reference/sessions.ts"
import type { Violated } from "./verdict.ts"

/** One message of an output stream, as any foreign reader finds it. */
export interface StoredResult {
  readonly stream: string
  readonly position: number
  readonly writer: string
  /** The writer's own, `kf-n`. */
  readonly number: number
  /** The last two of the chained job only. */
  readonly value: Session<string> & { readonly group?: string; readonly number?: number }
}

/** Of one reader, by the start of the session. */
interface Account {
  readonly due: Map<number, TrueSession>
  readonly early: Map<number, TrueSession>
  lastStart: number
}

export class Checker {
  readonly #violated: Violated
  readonly #accounts = new Map<string, Account>()
  readonly #numbers = new Map<string, number>()
  readonly #counts = new Map<string, number>()
  #due = 0
  #found = 0

  constructor(violated: Violated) {
    this.#violated = violated
  }

  /** Sessions that the model has and the topic has not yet. */
  get due(): number {
    return this.#due
  }

  /** Results in the topic, copies excepted. */
  get found(): number {
    return this.#found
  }

  expect(session: TrueSession): void {
    const { due, early } = this.#accountOf(session.key)
    const found = early.get(session.start)
    if (found === undefined) {
      due.set(session.start, session)
      this.#due += 1
    } else {
      early.delete(session.start)
      this.#compare(session, found)
    }
  }

  /** `result` is the next message of its stream. */
  see(result: StoredResult): void {
    if (!this.#isNew(result)) return
    this.#found += 1
    this.#check(result)
    const { group, number } = result.value
    if (group === undefined || number === undefined) return
    const last = this.#counts.get(group) ?? 0
    if (number !== last + 1) this.#violated("miscounted", `${textOf(result)}: number ${number} of the group ${group} comes after ${last}`)
    this.#counts.set(group, number)
  }

  /** Nothing more will come. */
  end(): void {
    for (const { due, early } of this.#accounts.values()) {
      for (const session of due.values()) this.#violated("lost", sessionText(session))
      for (const session of early.values()) this.#violated("altered", `the model has no ${sessionText(session)}`)
    }
  }

  /** P17: the numbers of a writer in a stream are dense. */
  #isNew(result: StoredResult): boolean {
    const writer = `${result.stream} ${result.writer}`
    const last = this.#numbers.get(writer) ?? 0
    if (result.number <= last) {
      this.#violated("copied", `${textOf(result)}: number ${result.number} of the writer comes after ${last}`)
      return false
    }
    if (result.number > last + 1) this.#violated("skipped", `${textOf(result)}: number ${result.number} of the writer comes after ${last}`)
    this.#numbers.set(writer, result.number)
    return true
  }

  #check(result: StoredResult): void {
    const { value } = result
    const account = this.#accountOf(value.key)
    const { due, early, lastStart } = account
    const expected = due.get(value.start)
    if (expected !== undefined) {
      due.delete(value.start)
      this.#due -= 1
      this.#compare(expected, value)
      if (value.start < lastStart) this.#violated("disordered", `${textOf(result)} comes after the one from ${lastStart}`)
    } else if (value.start <= lastStart) this.#violated("doubled", textOf(result))
    else early.set(value.start, value)
    account.lastStart = Math.max(lastStart, value.start)
    const [overtaken] = due.keys()
    if (overtaken !== undefined && overtaken < value.start && value.start > lastStart) {
      this.#violated("disordered", `${textOf(result)} comes before the one from ${overtaken}, which is missing as yet`)
    }
  }

  #compare(expected: TrueSession, found: TrueSession): void {
    if (expected.end === found.end && expected.count === found.count) return
    this.#violated("altered", `expected ${sessionText(expected)}, found ${sessionText(found)}`)
  }

  #accountOf(key: string): Account {
    let account = this.#accounts.get(key)
    if (account === undefined) {
      account = { due: new Map(), early: new Map(), lastStart: Number.NEGATIVE_INFINITY }
      this.#accounts.set(key, account)
    }
    return account
  }
}

const sessionText = ({ key, start, end, count }: TrueSession): string => `session of ${key} from ${start} to ${end} with ${count} requests`

const textOf = ({ stream, position, writer, value }: StoredResult): string =>
  `${stream} at ${position}, by ${writer}: the ${sessionText(value)}`
