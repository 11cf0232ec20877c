/**
 * What becomes of rows that cannot be processed, and of rows that are late: the job's error policy (G23), dead letters, the late topic.
 * Nothing here disturbs other rows, but for the policy "stop", which gives the turn up.
 */
import { asKeyfoldError, type ErrorCode, KeyfoldError } from "../errors.ts"
import { type DeadLetterParts, deadLetterOf, encodeDeadLetter } from "../model/dead-letter.ts"
import type { KeyText } from "../model/key.ts"
import type { Resident } from "../model/resident.ts"
import type { BadRow, Row } from "../model/row.ts"
import type { PartitionParts } from "./ports.ts"

/** What the dead letters of one turn may weigh with all they carry; further ones say where the record is, without its content. */
const letterBytesMax = 8 * 1_048_576

/** Gives a turn up: onError "stop". Carries what the query stops with. */
export class TurnStopped extends Error {
  readonly error: KeyfoldError

  constructor(error: KeyfoldError) {
    super(error.message)
    this.error = error
  }
}

export class Mishaps {
  readonly #parts: Pick<PartitionParts, "stage" | "onError" | "outgoing" | "deadLetterTopic" | "payloadBytesMax" | "lateSinks">
  #rows: readonly Row[] = []
  /** By key; made when the first call of a turn fails. */
  #rowsByKey: Map<KeyText, Row[]> | undefined
  #letterBytes = 0
  #bad = 0
  #dropped = 0

  constructor(parts: Pick<PartitionParts, "stage" | "onError" | "outgoing" | "deadLetterTopic" | "payloadBytesMax" | "lateSinks">) {
    this.#parts = parts
  }

  /** Rows and timeouts of the turn that failed. */
  get bad(): number {
    return this.#bad
  }

  /** Rows of the turn that were dropped as late. */
  get dropped(): number {
    return this.#dropped
  }

  /** `rows` are those that reach the state function in this turn. */
  startTurn(rows: readonly Row[]): void {
    this.#rows = rows
    this.#rowsByKey = undefined
    this.#letterBytes = 0
    this.#bad = 0
    this.#dropped = 0
  }

  /** A record that gave no row, or a row that a stage without state could not hand on. */
  badRow(bad: BadRow): void {
    const { code } = asKeyfoldError(bad.thrown, "function-failed", "a function of the job threw")
    this.#bury({ ...bad, stage: this.#parts.stage.name }, code)
  }

  /** G23: the key's rows of this turn, one dead letter each; a timeout call leaves one without rows. */
  callFailed(resident: Resident, thrown: unknown): void {
    const parts = { thrown, stage: this.#parts.stage.name, keyText: resident.keyText }
    if (resident.events === undefined) {
      this.#bury({ ...parts, value: undefined, record: undefined }, "function-failed")
      return
    }
    this.#rowsByKey ??= Map.groupBy(this.#rows, (row) => row.keyText)
    for (const row of this.#rowsByKey.get(resident.keyText) ?? []) {
      this.#bury({ ...parts, value: row.value, record: row.record, origin: row.origin }, "function-failed")
    }
  }

  /** W3: dropped and counted; a late topic gets what the event time was read from. */
  late(row: Row): void {
    this.#dropped += 1
    const sink = this.#parts.lateSinks.get(row.record.topic)
    if (sink === undefined || row.stamped === undefined) return
    try {
      this.#parts.outgoing.write(sink, row.stamped)
    } catch (thrown) {
      if (thrown instanceof KeyfoldError)
        this.badRow({ record: row.record, origin: row.origin, thrown, value: row.value, keyText: row.keyText })
      else throw thrown
    }
  }

  /** `stopCode` is what the query stops with under "stop". */
  #bury(parts: DeadLetterParts, stopCode: ErrorCode): void {
    const { onError, outgoing, deadLetterTopic, payloadBytesMax } = this.#parts
    this.#bad += 1
    if (onError === "drop") return
    const letter = deadLetterOf(parts)
    if (onError === "stop") {
      const at = parts.origin ?? parts.record
      const where = at === undefined ? "" : ` (${at.topic}, partition ${at.partition}, position ${at.position})`
      const message = `the stage ${letter.stage} failed${where}: ${letter.message}`
      throw new TurnStopped(new KeyfoldError(stopCode, message, { cause: parts.thrown }))
    }
    const payload = encodeDeadLetter(letter, { brief: this.#letterBytes > letterBytesMax, bytesMax: payloadBytesMax })
    this.#letterBytes += payload.byteLength
    outgoing.appendOwn({ topic: deadLetterTopic, partition: 0, payload })
  }
}
