/** Topics in SQLite: a row for each, and a table for each of its partitions. */
import { invariant, KeyfoldError } from "../errors.ts"
import { partitionsMax } from "../model/topic.ts"
import type { Connection } from "./connection.ts"
import { RecordTable } from "./record-table.ts"
import { createRecordTable, recordTableName, topicHash } from "./schema.ts"
import { sound } from "./storage-errors.ts"
import type { RecordLog, StoredTopic, Topics } from "./store.ts"

type TopicRow = readonly [id: number, partitions: number, hash: string, created: string]

interface KnownTopic extends StoredTopic {
  readonly id: number
  readonly logs: (RecordTable | undefined)[]
}

export class TopicTables implements Topics {
  readonly #connection: Connection
  readonly #touch: (channel: string) => void
  readonly #known = new Map<string, KnownTopic>()

  constructor(connection: Connection, touch: (channel: string) => void) {
    this.#connection = connection
    this.#touch = touch
  }

  find(name: string): StoredTopic | undefined {
    return this.#find(name)
  }

  create(name: string, partitions: number): void {
    if (this.#find(name) !== undefined) return
    const row = this.#connection
      .prepare<readonly [id: number]>(
        "INSERT INTO topic(name, partitions, hash, created) VALUES(?, ?, ?, lower(hex(randomblob(8)))) RETURNING id"
      )
      .get(name, partitions, topicHash)
    invariant(row !== undefined, "I4: a topic that was inserted has an id")
    for (let partition = 0; partition < partitions; partition++)
      this.#connection.exec(createRecordTable(recordTableName(row[0], partition)))
  }

  log(name: string, partition: number): RecordLog {
    const topic = this.#known.get(name) ?? this.#find(name)
    invariant(topic !== undefined && partition >= 0 && partition < topic.partitions, `I4: ${name}/${partition} is opened before it is used`)
    const known = topic.logs[partition]
    if (known !== undefined) return known
    const log = new RecordTable(this.#connection, { topic: name, topicId: topic.id, partition }, this.#touch)
    topic.logs[partition] = log
    return log
  }

  #find(name: string): KnownTopic | undefined {
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const row = this.#connection.prepare<TopicRow>("SELECT id, partitions, hash, created FROM topic WHERE name = ?").get(name)
    if (row === undefined) return undefined
    const [id, partitions, hash, created] = row
    const isTopic = Number.isInteger(partitions) && partitions >= 1 && partitions <= partitionsMax && typeof created === "string"
    sound(isTopic, `what it has of the topic ${name} is none`)
    if (hash !== topicHash) {
      throw new KeyfoldError(
        "topic-mismatch",
        `the topic ${name} is partitioned by ${hash}, which this keyfold does not know: use a newer keyfold`
      )
    }
    const topic: KnownTopic = { id, name, partitions, created, logs: [] }
    // A topic is never changed or removed, so it may be remembered; but not while its creation can still be rolled back.
    if (!this.#connection.inTransaction) this.#known.set(name, topic)
    return topic
  }
}
