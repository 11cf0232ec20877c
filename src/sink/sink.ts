/**
 * Where records go: the port. Its adapters are stored.ts (SQLite and memory, see storage/store.ts) and jetstream.ts.
 *
 * O1. Records are stored in the order given, per partition, each at the next position.
 * O2. When `publish` completes, every record is durable and can be read by the source.
 * O3. A record whose number its writer has already stored in that partition is not stored again: publishing twice stores once.
 * O4. A writer's numbers in a partition are dense: a number beyond the next one fails with `output-fate-unknown` and stores nothing of it.
 * O5. `lastNumber` answers the last number that a writer has stored in a partition, 0 for none. Where a server may answer from the past, an
 *     answer below `least`, which the asker knows to be stored, is asked for again before it is believed.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { NewRecord, TopicPartition } from "../model/record.ts"

export class Sink extends Context.Service<
  Sink,
  {
    readonly publish: (records: readonly NewRecord[]) => Effect.Effect<void, KeyfoldError>
    readonly lastNumber: (writer: string, of: TopicPartition, least?: number) => Effect.Effect<number, KeyfoldError>
  }
>()("keyfold/Sink") {}
