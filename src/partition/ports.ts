/** What a partition needs of its neighbours, and no more (R4); start.ts fills it in from the ports and the other stages. */
import type * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { Context } from "../model/actor.ts"
import type { KeyText } from "../model/key.ts"
import type { PendingDelivery, PendingRecord } from "../model/outgoing.ts"
import type { RecordOrigin, StoredRecord, TopicPartition } from "../model/record.ts"
import type { Change, Resident } from "../model/resident.ts"
import type { BadRow, Row } from "../model/row.ts"
import type { ErrorPolicy, InitialState, StagePlan } from "../model/stage.ts"
import type { ForeachDefinition, TopicDefinition } from "../model/topic.ts"
import type { JournalHead, KeyImage, Outbox, TurnClock, TurnRecord } from "../model/turn.ts"

/** One partition's journal, already owned. */
export interface PartitionJournal {
  readonly open: () => Effect.Effect<JournalHead, KeyfoldError>
  readonly load: (keys: readonly KeyText[]) => Effect.Effect<readonly (KeyImage | undefined)[], KeyfoldError>
  readonly due: (bound: { readonly before: number; readonly countMax: number }) => Effect.Effect<readonly KeyImage[], KeyfoldError>
  readonly timeouts: () => Effect.Effect<{ readonly first: number; readonly last: number } | undefined, KeyfoldError>
  readonly commit: (turn: TurnRecord) => Effect.Effect<Outbox, KeyfoldError>
}

/** Takes what a commit left unpublished. */
export interface PartitionPublisher {
  readonly publish: (revision: number, outbox: Outbox) => Effect.Effect<void, KeyfoldError>
  /** Completes when less is on its way than may be (P15): to be awaited before a turn begins, where waiting can be interrupted. */
  readonly room: () => Effect.Effect<void, KeyfoldError>
  readonly hasRoom: () => boolean
  /** Completes when everything handed over so far is confirmed. */
  readonly settled: () => Effect.Effect<void, KeyfoldError>
  /** Calls back once, then; at once when it is so. Answers how to stop waiting. */
  readonly whenSettled: (call: () => void) => () => void
  readonly isSettled: () => boolean
  readonly lastNumber: (of: TopicPartition, least: number) => Effect.Effect<number, KeyfoldError>
}

export interface PartitionIntake {
  readonly take: (records: readonly StoredRecord[]) => {
    readonly rows: readonly Row[]
    readonly bad: readonly BadRow[]
    readonly newestMs: number
    readonly upstreamMs: ReadonlyMap<number, number>
  }
}

export interface PartitionOutgoing {
  readonly records: readonly PendingRecord[]
  readonly deliveries: readonly PendingDelivery[]
  readonly results: readonly unknown[]
  readonly bytes: number
  readonly newestMs: number
  /** `smallest`: the turn cannot be made smaller, so what puts out too much fails its call. */
  readonly startTurn: (nowMs: number, smallest: boolean) => void
  readonly startCall: (key: KeyText, eventTime: number, from?: RecordOrigin) => void
  readonly endCall: () => void
  readonly undo: () => void
  readonly tooLarge: boolean
  readonly result: (value: unknown, stamped?: unknown) => void
  readonly emitTo: (topic: unknown, value: unknown) => void
  readonly write: (sink: TopicDefinition | ForeachDefinition, value: unknown) => void
  /** A record of keyfold's own: a dead letter, a watermark. Small, and not counted against what a turn may put out. */
  readonly appendOwn: (record: PendingRecord) => void
}

/** The engine and the keys that it has in memory. */
export interface PartitionEngine {
  readonly run: (calls: {
    readonly turn: number
    readonly clock: TurnClock
    readonly called: readonly Resident[]
    readonly initial: ReadonlyMap<Resident, InitialState>
    readonly due: readonly Resident[]
  }) => readonly Change[]
  readonly undo: () => void
}

/** What the engine needs while it runs; the partition provides it. */
export interface CallHost {
  readonly context: Context
  readonly callStarted: (resident: Resident, eventTime: number) => void
  readonly result: (value: unknown) => void
  readonly callEnded: () => void
  readonly callUndone: () => void
  readonly callFailed: (resident: Resident, thrown: unknown) => void
}

export interface ResidentKeys {
  readonly get: (keyText: KeyText) => Resident | undefined
  readonly admit: (keyText: KeyText, bytes: Uint8Array | undefined, timeoutAt: number) => Resident
  readonly change: (resident: Resident, image: { readonly bytes: Uint8Array | undefined; readonly timeoutAt: number | undefined }) => void
  readonly evict: (turn: number, touched: readonly Resident[]) => void
  readonly size: number
}

/** Who wants to see each committed turn: progress, tests. */
export interface TurnObserver {
  readonly committed: (turn: CommittedTurn) => void
  /** Records that were gone before they were read, and that the job was told to go on without. */
  readonly skipped: (records: number) => void
}

export interface CommittedTurn {
  readonly stage: string
  readonly partition: number
  readonly clock: TurnClock
  readonly rows: number
  readonly bad: number
  readonly dropped: number
  readonly late: readonly unknown[]
  readonly changes: readonly Change[]
  readonly results: readonly unknown[]
  readonly outputRecords: number
  readonly residentKeys: number
}

/** Who traces each turn; without an SDK nothing comes of it. */
export interface TurnTracer {
  readonly begin: (turn: {
    readonly revision: number
    readonly batch: readonly (readonly StoredRecord[])[]
    readonly followUp: boolean
  }) => void
  /** Runs the synchronous heart of the turn. */
  readonly calls: <A>(
    called: { readonly data: readonly Resident[]; readonly initial: number; readonly due: readonly Resident[] },
    run: () => A
  ) => A
  /** The turn was given up, and runs again with less (P7). */
  readonly discarded: () => void
  readonly failed: (thrown: unknown) => void
}

/** Everything that makes one partition of one stage. */
export interface PartitionParts {
  readonly query: string
  readonly stage: StagePlan
  readonly partition: number
  readonly onError: ErrorPolicy
  readonly failOnDataLoss: boolean
  readonly deadLetterTopic: string
  /** The internal topic that the stage writes, with its partition count; undefined for a stage that ends in sinks. */
  readonly downstream: { readonly topic: string; readonly partitions: number } | undefined
  /** The partitions of the stage's topics; initial states go by it. */
  readonly partitions: number
  readonly inputs: readonly PartitionInput[]
  /** Every partition of every topic that the stage may write: recovery looks at them all (P4). */
  readonly outputs: readonly TopicPartition[]
  /** What one record may hold at most (P7). */
  readonly payloadBytesMax: number
  /** Go on from what the outputs hold when the journal has lost its last turns (P4). */
  readonly acceptLoss: boolean
  /** P22. */
  readonly turnTimeoutsMax: number
  /** Where late rows go that are dropped here, by input topic. */
  readonly lateSinks: ReadonlyMap<string, TopicDefinition | ForeachDefinition>
  readonly journal: PartitionJournal
  readonly publisher: PartitionPublisher
  readonly outgoing: PartitionOutgoing
  readonly residents: ResidentKeys
  readonly engine: ((host: CallHost) => PartitionEngine) | undefined
  readonly context: Context
  readonly observer: TurnObserver
  readonly trace: TurnTracer
  /** Runs the synchronous heart of a turn, once the process has breathed after those of other partitions. */
  readonly breath: { readonly run: <A>(calls: () => A) => Effect.Effect<A> }
}

export interface PartitionInput {
  readonly topic: string
  /** Tells a topic from a later one of the same name (P3). */
  readonly created: string
  /** Where to begin when the journal knows nothing. */
  readonly startPosition: () => Effect.Effect<number, KeyfoldError>
  readonly intake: PartitionIntake
  /** Of a source with a watermark. */
  readonly time: { readonly delayMs: number; readonly idleAfterMs: number; readonly advanceWhenIdle: boolean } | undefined
  /** Of an internal topic: how many partitions write it. */
  readonly upstreamCount: number
}
