/**
 * From records to rows: decodes payloads, runs the operators of an input, stamps event times, computes keys. A record gives all of its
 * rows or none: what cannot be decoded, keyed, timed or transformed is a bad row, with its reason, and disturbs no other.
 */
import { asKeyfoldError, InvariantError } from "../errors.ts"
import { decodeEnvelopes } from "../model/envelope.ts"
import { type KeyText, keyText } from "../model/key.ts"
import { noEventTime, OperatorChain } from "../model/operator.ts"
import type { StoredRecord } from "../model/record.ts"
import { type BadRow, Row } from "../model/row.ts"
import type { InputPlan } from "../model/stage.ts"

/** What an input's records came to. `newestMs`: the largest event time among them, NaN for none. */
export interface IntakeResult {
  readonly rows: Row[]
  readonly bad: BadRow[]
  readonly newestMs: number
  /** Of an internal topic: the watermarks that came in-band, by upstream partition. */
  readonly upstreamMs: ReadonlyMap<number, number>
}

export interface Intake {
  readonly take: (records: readonly StoredRecord[]) => IntakeResult
}

export const makeIntake = (input: InputPlan, keyed: boolean): Intake =>
  input.kind === "internal" ? { take: takeEnvelopes } : new SourceIntake(input, keyed)

const noUpstream: ReadonlyMap<number, number> = new Map()
const unkeyed: KeyText = ""

class SourceIntake implements Intake {
  readonly #input: Extract<InputPlan, { kind: "source" }>
  readonly #key: ((value: unknown) => unknown) | undefined
  readonly #chain: OperatorChain
  #rows: Row[] = []
  #record: StoredRecord | undefined
  #keyText: KeyText = unkeyed

  constructor(input: Extract<InputPlan, { kind: "source" }>, keyed: boolean) {
    this.#input = input
    this.#key = keyed && input.source.kind === "topic" ? input.source.key : undefined
    this.#chain = new OperatorChain(input.operators, (value, eventTime, stamped) => {
      this.#rows.push(new Row(value, eventTime, stamped, this.#keyText, this.#record as StoredRecord))
    })
  }

  /** Hot path: one loop, one try. */
  take(records: readonly StoredRecord[]): IntakeResult {
    const rows: Row[] = []
    const bad: BadRow[] = []
    this.#rows = rows
    const chain = this.#chain
    chain.newestMs = noEventTime
    for (const record of records) {
      const before = rows.length
      const newestBefore = chain.newestMs
      this.#record = record
      this.#keyText = unkeyed
      let value: unknown
      try {
        value = this.#decode(record)
        if (this.#key !== undefined) this.#keyText = keyText(this.#keyOf(value))
        chain.from(record)
        chain.push(value, noEventTime, undefined)
      } catch (thrown) {
        if (thrown instanceof InvariantError) throw thrown
        rows.length = before
        chain.newestMs = newestBefore
        bad.push({
          record,
          thrown: asKeyfoldError(thrown, "function-failed", "a function of the job threw"),
          value,
          keyText: this.#knownKey()
        })
      }
    }
    return { rows, bad, newestMs: chain.newestMs, upstreamMs: noUpstream }
  }

  #decode(record: StoredRecord): unknown {
    try {
      return this.#input.source.codec.decode(record.payload)
    } catch (thrown) {
      throw asKeyfoldError(thrown, "decode-failed", `the codec of ${record.topic} refuses the record`)
    }
  }

  #keyOf(value: unknown): unknown {
    try {
      return this.#key?.(value)
    } catch (thrown) {
      throw asKeyfoldError(thrown, "key-invalid", "the topic's key function threw")
    }
  }

  #knownKey(): KeyText | undefined {
    return this.#keyText === unkeyed ? undefined : this.#keyText
  }
}

/** Rows of an internal topic come with key and event time; watermarks take effect after the rows before them, which is after the turn (P24). */
const takeEnvelopes = (records: readonly StoredRecord[]): IntakeResult => {
  const rows: Row[] = []
  const bad: BadRow[] = []
  const upstreamMs = new Map<number, number>()
  for (const record of records) {
    try {
      for (const envelope of decodeEnvelopes(record.payload)) {
        if (envelope.kind === "watermark") upstreamMs.set(envelope.upstream, envelope.watermarkMs)
        else {
          const row = new Row(envelope.value, envelope.eventTime, envelope.stamped, envelope.keyText, record)
          row.origin = envelope.origin
          rows.push(row)
        }
      }
    } catch (thrown) {
      bad.push({ record, thrown, value: undefined, keyText: undefined })
    }
  }
  return { rows, bad, newestMs: Number.NaN, upstreamMs }
}
