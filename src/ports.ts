/** A runtime as start.ts sees it: the five ports, connected for a while. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { KeyfoldError } from "./errors.ts"
import type { Journal } from "./journal/journal.ts"
import type { Limits } from "./options.ts"
import type { Membership } from "./partition/membership.ts"
import type { Ownership } from "./partition/ownership.ts"
import type { Sink } from "./sink/sink.ts"
import type { Source } from "./source/source.ts"

/** Where jobs run: `memory()`, `embedded(dir)` or `clustered({ nats, redis })`. An opaque value; making one connects nothing. */
export interface Runtime {
  readonly name: string
}

/** What it takes to publish and to read. */
export interface TopicPorts {
  readonly source: Source["Service"]
  readonly sink: Sink["Service"]
  /** Bytes that one record may have. */
  readonly payloadBytesMax: number
  /** Why nothing comes or goes at present, when that is known; undefined when all is well. Default: all is always well. */
  readonly trouble?: () => KeyfoldError | undefined
}

export interface Ports extends TopicPorts {
  readonly journal: Journal["Service"]
  readonly ownership: Ownership["Service"]
  readonly membership: Membership["Service"]
  /** What carries the messages, as traces call it (`messaging.system`). Default "keyfold": no system of its own. */
  readonly messagingSystem?: string
  /** How long rows of an internal topic stay after they were read (P26); 0 where one commit moves the position and cannot be lost without them. */
  readonly historyKeptMs: number
  /** Whether a `stream()` source can be read; without servers only as a topic of its name, for tests. */
  readonly foreignStreams: boolean
  /** Whether a fault passes by itself, so that a partition that it stopped is taken over again (P11): outages and lost leases, with servers. */
  readonly isPassing: (error: KeyfoldError) => boolean
}

export interface Connect {
  /** With whatever lock running queries need. */
  readonly query: (limits: Limits) => Effect.Effect<Ports, KeyfoldError, Scope.Scope>
  /** Beside running queries. */
  readonly client: Effect.Effect<TopicPorts, KeyfoldError, Scope.Scope>
}

const connector = Symbol("keyfold.connect")

export const makeRuntime = (name: string, connect: Connect): Runtime => Object.freeze({ name, [connector]: connect })

/** How to connect a runtime. Throws `option-invalid` for something that is none. */
export const connectorOf = (runtime: unknown): Connect => {
  const connect = (runtime as { readonly [connector]?: Connect } | null | undefined)?.[connector]
  if (connect !== undefined) return connect
  throw new KeyfoldError("option-invalid", "`runtime` must be what memory(), embedded(dir) or clustered({ nats, redis }) made")
}
