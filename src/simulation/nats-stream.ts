/**
 * One stream of a simulated JetStream: what it stores, what it refuses, and what it says of itself, as nats-server 2.9 to 2.15 have been seen
 * to do it (P12 to P15).
 */

export interface StoredMessage {
  readonly sequence: number
  readonly subject: string
  /** Their block as it was sent; empty for none. */
  readonly headers: Uint8Array
  readonly data: Uint8Array
  readonly storedNanos: bigint
}

export interface StreamConfig {
  readonly name: string
  readonly subjects: readonly string[]
  /** Nanoseconds. */
  readonly duplicate_window?: number
}

/** What a message asks for besides being stored. */
export interface Conditions {
  readonly id: string | undefined
  /** Of its subject, 0 for none. */
  readonly lastSequence: number | undefined
}

export type Outcome =
  | { readonly kind: "stored"; readonly message: StoredMessage }
  | { readonly kind: "duplicate"; readonly sequence: number }
  | { readonly kind: "wrong last sequence"; readonly sequence: number }

const duplicateNanosDefault = 120_000_000_000

export class SimulatedStream {
  readonly config: StreamConfig
  readonly createdNanos: bigint
  /** From 2.11 on the expected sequence is looked at before the message id. */
  readonly #looksAtSequenceFirst: boolean
  #messages: StoredMessage[] = []
  /** The sequences of what it was made to store once more. */
  readonly copies = new Set<number>()
  /** Whether anything was ever removed. */
  isPurged = false
  #firstSequence = 0
  #lastSequence = 0
  #lastNanos = 0n
  readonly #lastOf = new Map<string, number>()
  readonly #ids = new Map<string, { readonly sequence: number; readonly nanos: bigint }>()

  constructor(config: StreamConfig, createdNanos: bigint, looksAtSequenceFirst: boolean) {
    this.config = config
    this.createdNanos = createdNanos
    this.#looksAtSequenceFirst = looksAtSequenceFirst
  }

  get messages(): readonly StoredMessage[] {
    return this.#messages
  }

  get lastSequence(): number {
    return this.#lastSequence
  }

  takes(subject: string): boolean {
    return this.config.subjects.some((pattern) => isMatch(pattern, subject))
  }

  store(subject: string, parts: Pick<StoredMessage, "headers" | "data">, conditions: Conditions, nowNanos: bigint): Outcome {
    const duplicate = this.#duplicateOf(conditions.id, nowNanos)
    const last = this.#lastOf.get(subject) ?? 0
    const isWrong = conditions.lastSequence !== undefined && conditions.lastSequence !== last
    if (isWrong && (duplicate === undefined || this.#looksAtSequenceFirst)) return { kind: "wrong last sequence", sequence: last }
    if (duplicate !== undefined) return { kind: "duplicate", sequence: duplicate }
    const message = this.#append({ subject, ...parts }, nowNanos)
    if (conditions.id !== undefined) this.#ids.set(conditions.id, { sequence: message.sequence, nanos: nowNanos })
    return { kind: "stored", message }
  }

  /** Stores a message that is stored once more. */
  copy({ subject, headers, data }: StoredMessage, nowNanos: bigint): void {
    this.copies.add(this.#append({ subject, headers, data }, nowNanos).sequence)
  }

  /** The message at a sequence, or the next one there is. */
  from(sequence: number): StoredMessage | undefined {
    return this.#messages[this.#indexFrom(sequence)]
  }

  lastOf(subject: string): StoredMessage | undefined {
    const sequence = this.#lastOf.get(subject)
    return sequence === undefined ? undefined : this.from(sequence)
  }

  /** Removes what is before a sequence, by default all, of one subject or of all. A sequence beyond the end moves the end. */
  purge(before = this.#lastSequence + 1, subject?: string): number {
    const count = this.#messages.length
    this.#messages = this.#messages.filter(
      (message) => message.sequence >= before || (subject !== undefined && message.subject !== subject)
    )
    if (subject === undefined && before > this.#lastSequence + 1) this.#lastSequence = before - 1
    this.#firstSequence = this.#messages[0]?.sequence ?? this.#lastSequence + 1
    this.isPurged = true
    for (const [of, sequence] of this.#lastOf) if (this.from(sequence)?.sequence !== sequence) this.#lastOf.delete(of)
    return count - this.#messages.length
  }

  /** The last messages are lost, with all that was known of them. Answers how many. */
  loseTail(count: number): number {
    const lost = count === 0 ? [] : this.#messages.splice(-count)
    for (const { sequence } of lost) this.copies.delete(sequence)
    const [first] = lost
    if (first === undefined) return 0
    this.#lastSequence = first.sequence - 1
    this.#firstSequence = this.#messages[0]?.sequence ?? this.#lastSequence + 1
    this.#lastNanos = this.#messages.at(-1)?.storedNanos ?? 0n
    this.#lastOf.clear()
    for (const { subject, sequence } of this.#messages) this.#lastOf.set(subject, sequence)
    for (const [id, { sequence }] of this.#ids) if (sequence > this.#lastSequence) this.#ids.delete(id)
    return lost.length
  }

  /** As it is now, for one who takes it for what it will be. */
  snapshot(): SimulatedStream {
    const copy = new SimulatedStream(this.config, this.createdNanos, this.#looksAtSequenceFirst)
    copy.#messages = [...this.#messages]
    copy.#firstSequence = this.#firstSequence
    copy.#lastSequence = this.#lastSequence
    copy.#lastNanos = this.#lastNanos
    for (const [subject, sequence] of this.#lastOf) copy.#lastOf.set(subject, sequence)
    return copy
  }

  /** The server forgets the ids that it has seen: after a restart with an empty window, or when the window is over. */
  forgetIds(): void {
    this.#ids.clear()
  }

  /** Its state, as STREAM.INFO tells it. */
  state(withSubjects: boolean): object {
    const subjects: Record<string, number> = {}
    if (withSubjects) for (const { subject } of this.#messages) subjects[subject] = (subjects[subject] ?? 0) + 1
    const first = this.#messages[0]?.storedNanos
    return {
      messages: this.#messages.length,
      bytes: this.#messages.reduce((sum, { data }) => sum + data.byteLength, 0),
      first_seq: this.#firstSequence,
      first_ts: first === undefined ? neverText : timeText(first),
      last_seq: this.#lastSequence,
      last_ts: this.#lastNanos === 0n ? neverText : timeText(this.#lastNanos),
      ...(withSubjects && { subjects })
    }
  }

  #append(parts: Pick<StoredMessage, "subject" | "headers" | "data">, nowNanos: bigint): StoredMessage {
    this.#lastSequence += 1
    if (this.#messages.length === 0) this.#firstSequence = this.#lastSequence
    // Two messages never have one time.
    this.#lastNanos = nowNanos > this.#lastNanos ? nowNanos : this.#lastNanos + 1n
    const message = { sequence: this.#lastSequence, ...parts, storedNanos: this.#lastNanos }
    this.#messages.push(message)
    this.#lastOf.set(parts.subject, message.sequence)
    return message
  }

  #duplicateOf(id: string | undefined, nowNanos: bigint): number | undefined {
    const known = id === undefined ? undefined : this.#ids.get(id)
    const window = BigInt(this.config.duplicate_window ?? duplicateNanosDefault)
    return known === undefined || nowNanos - known.nanos > window ? undefined : known.sequence
  }

  #indexFrom(sequence: number): number {
    let low = 0
    let high = this.#messages.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#messages[middle] as StoredMessage).sequence < sequence) low = middle + 1
      else high = middle
    }
    return low
  }
}

const neverText = "0001-01-01T00:00:00Z"

/** RFC 3339 with nanoseconds. */
export const timeText = (nanos: bigint): string => {
  const seconds = new Date(Number(nanos / 1_000_000n)).toISOString().slice(0, 19)
  return `${seconds}.${String(nanos % 1_000_000_000n).padStart(9, "0")}Z`
}

/** Patterns have `*` for one token and `>` for all that follow. */
export const isMatch = (pattern: string, subject: string): boolean => {
  const wanted = pattern.split(".")
  const tokens = subject.split(".")
  for (const [index, token] of wanted.entries()) {
    if (token === ">") return tokens.length > index
    if (tokens[index] === undefined || (token !== "*" && token !== tokens[index])) return false
  }
  return tokens.length === wanted.length
}
