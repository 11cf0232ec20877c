/** The ports over one store: what the memory and the embedded runtime have in common. */
import { makeStoredJournal } from "../journal/stored.ts"
import { payloadBytesMax } from "../options.ts"
import { alone } from "../partition/alone.ts"
import { makeStoredOwnership } from "../partition/ownership-stored.ts"
import type { Ports } from "../ports.ts"
import { makeStoredOutlet, makeStoredSink } from "../sink/stored.ts"
import { makeStoredSource } from "../source/stored.ts"
import type { Store } from "../storage/store.ts"

export const storedPorts = (store: Store, options: { readonly foreignStreams: boolean }): Ports => ({
  source: makeStoredSource(store),
  sink: makeStoredSink(store),
  journal: makeStoredJournal(store, makeStoredOutlet(store)),
  ownership: makeStoredOwnership(store),
  membership: alone,
  historyKeptMs: 0,
  foreignStreams: options.foreignStreams,
  payloadBytesMax,
  isPassing: () => false
})
