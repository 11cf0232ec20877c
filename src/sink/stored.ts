/** The sink over a store, and the outlet through which a journal of the same store writes records inside of its own commit. */
import type { NewRecord } from "../model/record.ts"
import { appendRecords } from "../storage/append.ts"
import type { Store } from "../storage/store.ts"
import type { Sink } from "./sink.ts"

export const makeStoredSink = (store: Store): Sink["Service"] => ({
  publish: (records) => store.write(() => appendRecords(store.topics, records)),
  lastNumber: (writer, of) => store.read(() => store.topics.log(of.topic, of.partition).lastNumber(writer))
})

/** Stores records under O1, O3 and O4 as part of a write that is under way. */
export const makeStoredOutlet = (store: Store): { readonly append: (records: readonly NewRecord[]) => void } => ({
  append: (records) => appendRecords(store.topics, records)
})
