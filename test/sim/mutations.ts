/**
 * The safety rules, each taken out of the code by one edit: what the simulator must find. A rule without an edit that the simulator finds is
 * no rule, or the simulator is blind. And the defects that it has found in what was thought to be right: each can be put back by one edit, and
 * is found again.
 */

export interface Mutation {
  /** A rule as PROTOCOL.md and the ports name it; of a defect its number. */
  readonly rule: string
  /** What is taken out; of a defect its story. */
  readonly what: string
  readonly file: string
  /** Found once in the file, and replaced. */
  readonly find: string
  readonly replace: string
}

export const rules: readonly Mutation[] = [
  {
    rule: "F (token)",
    what: "a script writes for whoever asks",
    file: "src/simulation/redis-scripts.ts",
    find: 'if (fence.get("token") !== token) return bulk("FENCED")',
    replace: ""
  },
  {
    rule: "F (rev)",
    what: "a script writes on whatever there is",
    file: "src/simulation/redis-scripts.ts",
    find: 'if (fence.get("rev") !== revision) return bulk("MOVED")',
    replace: ""
  },
  {
    rule: "F (opId)",
    what: "a write that is sent again is not known again",
    file: "src/simulation/redis-scripts.ts",
    find: 'if (fence.get("op") === operation) {',
    replace: "if (false) {"
  },
  {
    rule: "P1",
    what: "a lease is given to whoever asks",
    file: "src/simulation/redis-scripts.ts",
    find: "if (leftMs > 0 && holder !== worker)",
    replace: "if (false)"
  },
  {
    rule: "P2",
    what: "who takes over does not take states from the log",
    file: "src/journal/recovery.ts",
    find: "dirty.put(turn.changes)",
    replace: ""
  },
  {
    rule: "P3",
    what: "a stream that was created anew is taken for the old one",
    file: "src/source/jetstream-guard.ts",
    find: "if (info.created !== created) return recreated(of, info.created)",
    replace: ""
  },
  {
    rule: "P4",
    what: "outputs that the journal does not know are not looked for",
    file: "src/partition/recovery.ts",
    find: "if (behind === undefined) continue",
    replace: "continue"
  },
  {
    rule: "P5",
    what: "what a former owner did not publish is left",
    file: "src/partition/recovery.ts",
    find: "for (const { revision, outbox } of head.unpublished) yield* publisher.publish(revision, outbox)",
    replace: ""
  },
  {
    rule: "P6",
    what: "the clock of a partition goes back with its worker's",
    file: "src/partition/partition.ts",
    find: "return { nowMs: Math.max(this.#progress.nowMs, clockMs),",
    replace: "return { nowMs: clockMs,"
  },
  {
    rule: "P8 (outbox)",
    what: "outputs are not committed with their turn",
    file: "src/journal/journal-writes.ts",
    find: 'entry.bytes, outboxEntry ?? "", fingerprint]',
    replace: 'entry.bytes, "", fingerprint]'
  },
  {
    rule: "P9 (commit first)",
    what: "outputs leave before their turn is committed",
    file: "src/partition/partition.ts",
    find: "const left = yield* this.#parts.journal.commit(",
    replace: "yield* this.#parts.publisher.publish(revision, outbox)\n    const left = yield* this.#parts.journal.commit("
  },
  {
    rule: "P9 (durability)",
    what: "outputs leave before their turn is on disk",
    file: "src/journal/journal-writes.ts",
    find: "yield* this.lasting\n",
    replace: "\n"
  },
  {
    rule: "P10",
    what: "a commit without an answer is sent again as another one",
    file: "src/storage/redis-tenure.ts",
    find: "return link.script(lua, keys.all, [...fence, ...args])",
    replace: "this.#writes += 1\n      return link.script(lua, keys.all, [...fence.with(2, String(this.#writes)), ...args])"
  },
  {
    rule: "P11",
    what: "an owner that was told that it is none goes on",
    file: "src/storage/redis-tenure.ts",
    find: "this.lose()\n      return Effect.fail(refusal(this.owner, answer))",
    replace: "return Effect.void"
  },
  {
    rule: "P12 (expected sequence)",
    what: "an output is stored wherever it arrives",
    file: "src/sink/jetstream-headers.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a piece of code
    find: "${numberHeader}: ${number}\\r\\n${expectedHeader}: ${expected}\\r\\n",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a piece of code
    replace: '${numberHeader}: ${number}\\r\\n${expected < 0 ? expectedHeader : ""}'
  },
  {
    rule: "P14 (look)",
    what: "an output without an answer is taken for stored",
    file: "src/sink/jetstream-writer.ts",
    find: 'if (typeof stored !== "number") {',
    replace: 'if (typeof stored !== "number" && stored.kind !== "look") {'
  },
  {
    rule: "P14 (silence)",
    what: "after silence nobody looks",
    file: "src/sink/jetstream-writer.ts",
    find: 'if (this.#doubt || hitch.kind === "look") yield*',
    replace: "if (false) yield*"
  },
  {
    rule: "P16",
    what: "outputs are confirmed before they are stored",
    file: "src/sink/delivery.ts",
    find: "if (turn.outbox.records.length > 0) yield* parts.publish",
    replace: "yield* parts.confirm(turn.revision)\n  if (turn.outbox.records.length > 0) yield* parts.publish"
  },
  {
    rule: "P17",
    what: "a message that is stored twice counts twice",
    file: "src/model/seen.ts",
    find: "if (last !== undefined && identity.number <= last) {",
    replace: "if (last !== undefined && identity.number < 0) {"
  },
  {
    rule: "P18",
    what: "a checkpoint forgets keys that were changed since",
    file: "src/journal/dirty-keys.ts",
    find: "if (this.#images.get(image.keyText) !== image) continue",
    replace: ""
  },
  {
    rule: "P19",
    what: "a checkpoint ends without its states",
    file: "src/journal/checkpoint.ts",
    find: "const keys = [...memory.dirty.all().map(({ keyText }) => keyText)]",
    replace: "const keys = [...memory.dirty.all().map(({ keyText }) => keyText)].slice(1)"
  },
  {
    rule: "P20",
    what: "a checkpoint trims one turn too many",
    file: "src/journal/checkpoint.ts",
    find: "const firsts = [revision + 1,",
    replace: "const firsts = [revision + 2,"
  },
  {
    rule: "P21 (self-stop)",
    what: "an owner whose lease has run out goes on",
    file: "src/storage/redis-tenure.ts",
    find: "if (sentMs >= this.#leaseEndMs) this.lose()",
    replace: ""
  },
  {
    rule: "P22",
    what: "timeouts that a turn has changed ring as they were stored",
    file: "src/journal/journal-reads.ts",
    find: "isDirty: (keyText) => memory.dirty.has(keyText)",
    replace: "isDirty: () => false"
  },
  {
    rule: "P22 (chunks)",
    what: "rows are taken between two chunks of a sweep",
    file: "src/partition/partition.ts",
    find: "followUp: turn.due.more || this.#nextDueMs < boundAfter ||",
    replace: "followUp:"
  },
  {
    rule: "P22 (flag)",
    what: "who takes over does not know of the rest of a sweep",
    file: "src/partition/partition.ts",
    find: "this.#progress = recovered.progress",
    replace: "this.#progress = { ...recovered.progress, followUp: false, sweepWatermarkMs: null }"
  },
  {
    rule: "P24",
    what: "a stage tells its watermark to one partition of the next",
    file: "src/partition/watermarks.ts",
    find: "target < downstream.partitions",
    replace: "target < 1"
  },
  {
    rule: "P26",
    what: "rows between stages go as soon as they are read",
    file: "src/partition/runner.ts",
    find: "return Math.min(safe.position, yield* source.positionBefore(place, since))",
    replace: "return yield* Effect.as(source.positionBefore(place, since), Math.max(position, safe.position))"
  }
]

export const defects: readonly Mutation[] = [
  {
    rule: "1",
    what: "an owner that was replaced while it waited for NATS took the next owner's outputs for a lost journal, and stopped the query for good",
    file: "src/partition/seat.ts",
    find: "(isPassing(fault) ? Effect.fail(fault) : Effect.andThen(confirmed, Effect.fail(fault)))",
    replace: "(isPassing(fault) || confirmed === undefined ? Effect.fail(fault) : Effect.fail(fault))"
  },
  {
    rule: "2",
    what: "a deposed leader was asked again for longer than answers are waited for: a take-over of a purged stream waited for ever instead of saying so",
    file: "src/source/jetstream.ts",
    find: "judged(asking(of, (place) => look(api, place, at)))",
    replace: "asking(of, (place) => judged(look(api, place, at)))"
  },
  {
    rule: "3",
    what: "a writer that took over believed a deposed leader that fewer outputs are stored than were confirmed, and stopped the query for good",
    file: "src/sink/jetstream-writer.ts",
    find: "this.#persistent(() => Effect.andThen(this.#look(first), this.#checkGaps(units)))",
    replace: "Effect.andThen(this.#persistent(() => this.#look(first)), this.#checkGaps(units))"
  }
]

export const mutations: readonly Mutation[] = [...rules, ...defects]
