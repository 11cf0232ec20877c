/** The store of the memory runtime: the same laws as SQLite's (store.ts), for as long as the process lives. Bytes are copied in and out. */
import * as Effect from "effect/Effect"
import { invariant, type KeyfoldError } from "../errors.ts"
import type { JournalId } from "../model/turn.ts"
import { ChangeNotice } from "./change-notice.ts"
import { MemoryJournal } from "./memory-journal.ts"
import { MemoryLog } from "./memory-log.ts"
import { attempt, failureOf } from "./storage-errors.ts"
import { type Journals, journalName, type RecordLog, type Store, type StoredJournal, type StoredTopic, type Topics } from "./store.ts"

const name = "memory"

/** A store of its own: what one runtime writes, no other sees. */
export const makeMemoryStore = (): Store => {
  const touched = new Set<string>()
  const notice = new ChangeNotice()
  const write = <A>(work: () => A): Effect.Effect<A, KeyfoldError> =>
    attempt(name, () => {
      try {
        return work()
      } finally {
        notice.changed(touched)
        touched.clear()
      }
    })
  const until = (channels: readonly string[], ready: () => boolean): Effect.Effect<void, KeyfoldError> =>
    notice.until(channels, () => {
      try {
        return ready() ? Effect.void : undefined
      } catch (thrown) {
        return failureOf(thrown, name)
      }
    })
  const topics = new MemoryTopics((channel) => touched.add(channel))
  return { name, topics, journals: new MemoryJournals(), claims: new Set(), read: (query) => attempt(name, query), write, until }
}

class MemoryTopics implements Topics {
  readonly #touch: (channel: string) => void
  readonly #topics = new Map<string, { readonly topic: StoredTopic; readonly logs: readonly MemoryLog[] }>()

  constructor(touch: (channel: string) => void) {
    this.#touch = touch
  }

  find(topic: string): StoredTopic | undefined {
    return this.#topics.get(topic)?.topic
  }

  create(topic: string, partitions: number): void {
    if (this.#topics.has(topic)) return
    const logs = Array.from({ length: partitions }, (_, partition) => new MemoryLog({ topic, partition }, this.#touch))
    this.#topics.set(topic, { topic: { name: topic, partitions, created: `memory-${this.#topics.size + 1}` }, logs })
  }

  log(topic: string, partition: number): RecordLog {
    const log = this.#topics.get(topic)?.logs[partition]
    invariant(log !== undefined, `I4: ${topic}/${partition} is opened before it is used`)
    return log
  }
}

class MemoryJournals implements Journals {
  readonly #journals = new Map<string, MemoryJournal>()

  find(id: JournalId): StoredJournal | undefined {
    return this.#journals.get(journalName(id))
  }

  nextEpoch(id: JournalId): number {
    const known = this.#journals.get(journalName(id)) ?? new MemoryJournal()
    this.#journals.set(journalName(id), known)
    return known.nextEpoch()
  }
}
