/**
 * The sink over JetStream. A topic's partition is a stream, which the source has created; an output is a message on its writer's own
 * subject, a publisher's record one on the partition's (model/jetstream-names.ts).
 *
 * What the port asks for, and where it is kept:
 *   O1, O2  per stream a writer's outputs go one by one (jetstream-writer.ts), records without a writer in a lane (jetstream-lane.ts).
 *   O3, O4  all writers' numbers of a publish are checked before anything of it is sent.
 *   O5      the last message of the writer's subject, by a read of the leader (jetstream-look.ts).
 * During an outage `publish` waits; interrupted, it may have stored some of its records, which O3 makes harmless.
 */
import type { NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { invariant, KeyfoldError } from "../errors.ts"
import { streamOf } from "../model/jetstream-names.ts"
import type { NewRecord, TopicPartition } from "../model/record.ts"
import { payloadBytesMax } from "../options.ts"
import { Lane, type Parcel, type Traffic } from "./jetstream-lane.ts"
import type { Asking } from "./jetstream-look.ts"
import { openLink } from "./jetstream-publish.ts"
import { type Unit, WriterLine } from "./jetstream-writer.ts"
import type { Sink } from "./sink.ts"

export interface JetStreamSinkOptions {
  /** How long a message may go without an answer before its fate is looked up. Default 3 seconds. */
  readonly ackMsMax?: number
  /** How long a record without a writer is tried before its publish fails; a job's outputs are tried for ever. Default 1 minute. */
  readonly patienceMs?: number
  /** What the reply inboxes begin with. Default `_INBOX`. */
  readonly inboxPrefix?: string
  /** Where JetStream answers. Default `$JS.API`. */
  readonly apiPrefix?: string
}

/** Room for headers: keyfold's own take some 150 bytes, a trace's some 600. */
const headerBytesMax = 4_096

/** What a record's payload may have on the servers that we are connected to. */
export const payloadBytesMaxOf = (connection: NatsConnection): number =>
  Math.max(1, Math.min(payloadBytesMax, (connection.info?.max_payload ?? payloadBytesMax) - headerBytesMax))

/** A sink that works until the scope closes; the connection stays open. */
export const makeJetStreamSink = Effect.fnUntraced(function* (
  connection: NatsConnection,
  options: JetStreamSinkOptions = {}
): Effect.fn.Return<Sink["Service"], KeyfoldError, Scope.Scope> {
  const link = yield* openLink(connection, { ackMsMax: options.ackMsMax ?? 3_000, inboxPrefix: options.inboxPrefix })
  const asking: Asking = { link, apiPrefix: options.apiPrefix ?? "$JS.API" }
  const writers = new Writers(asking)
  const publishers = yield* makePublishers(asking, options.patienceMs ?? 60_000)
  return {
    publish: (records) =>
      Effect.suspend(() => {
        const runs = runsOf(records)
        const names = [...new Set(runs.map(({ writer }) => writer))].filter((writer) => writer !== undefined).toSorted()
        if (names.length === 0) return publishers(records)
        const send = Effect.forEach(runs, (run) => (run.writer === undefined ? publishers(run.records) : writers.publish(run)), {
          discard: true
        })
        const [only] = runs
        if (only !== undefined && runs.length === 1) return writers.alone(names[0] as string, writers.publishOne(only))
        return names.reduceRight((inner, name) => writers.alone(name, inner), Effect.andThen(writers.prepare(runs), send))
      }),
    lastNumber: (writer, of, least = 0) => writers.line(writer, of).lastNumber(least)
  }
})

// ---- records of writers

/** Records that follow each other in a publish and have one writer, or none. */
interface Run {
  readonly writer: string | undefined
  readonly records: NewRecord[]
}

const runsOf = (records: readonly NewRecord[]): Run[] => {
  const runs: Run[] = []
  let run: Run | undefined
  // Hot path: a job's publish is one run.
  for (const record of records) {
    const writer = record.identity?.writer
    if (run === undefined || run.writer !== writer) {
      run = { writer, records: [] }
      runs.push(run)
    }
    run.records.push(record)
  }
  return runs
}

/** Without fibers of their own when there is but one line: a turn that answers one event has one. */
const atOnce = (
  units: ReadonlyMap<WriterLine, readonly Unit[]>,
  run: (line: WriterLine, units: readonly Unit[]) => Effect.Effect<void, KeyfoldError>,
  concurrency: number | "unbounded"
): Effect.Effect<void, KeyfoldError> => {
  const [first] = units
  if (first !== undefined && units.size === 1) return run(...first)
  return Effect.forEach(units, ([line, its]) => run(line, its), { concurrency, discard: true })
}

const writerShape = /^[A-Za-z0-9_-]{1,64}$/
const linesAtOnce = 64

class Writers {
  readonly #asking: Asking
  readonly #lines = new Map<string, Map<string, WriterLine>>()
  readonly #turns = new Map<string, Semaphore.Semaphore>()

  constructor(asking: Asking) {
    this.#asking = asking
  }

  line(writer: string, of: TopicPartition): WriterLine {
    const lines = this.#lines.get(writer) ?? new Map<string, WriterLine>()
    this.#lines.set(writer, lines)
    const stream = streamOf(of)
    let line = lines.get(stream)
    if (line === undefined) {
      invariant(writerShape.test(writer), "P12: a writer is one token of a subject")
      line = new WriterLine(this.#asking, { topic: of.topic, partition: of.partition }, writer)
      lines.set(stream, line)
    }
    return line
  }

  /** Publishes of one writer go one after the other, whoever asks: their numbers do. */
  alone<A, E>(writer: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const turn = this.#turns.get(writer) ?? Semaphore.makeUnsafe(1)
    this.#turns.set(writer, turn)
    return turn.withPermits(1)(effect)
  }

  prepare(runs: readonly Run[]): Effect.Effect<void, KeyfoldError> {
    const units = new Map<WriterLine, Unit[]>()
    for (const run of runs) if (run.writer !== undefined) this.#gather(run, units)
    return atOnce(units, (line, its) => line.prepare(its), linesAtOnce)
  }

  publish(run: Run): Effect.Effect<void, KeyfoldError> {
    const units = new Map<WriterLine, Unit[]>()
    this.#gather(run, units)
    return atOnce(units, (line, its) => line.publish(its), "unbounded")
  }

  /** Both, for a run that comes alone. */
  publishOne(run: Run): Effect.Effect<void, KeyfoldError> {
    return Effect.andThen(
      Effect.suspend(() => this.prepare([run])),
      Effect.suspend(() => this.publish(run))
    )
  }

  #gather({ writer, records }: Run, into: Map<WriterLine, Unit[]>): void {
    for (const record of records) {
      const line = this.line(writer as string, record)
      const units = into.get(line)
      if (units === undefined) into.set(line, [record as Unit])
      else units.push(record as Unit)
    }
  }
}

// ---- records without a writer

const recordsMaxPerStream = 256
const recordsMax = 4_096
const bytesMax = 16 * 1_048_576

const makePublishers = Effect.fnUntraced(function* (asking: Asking, patienceMs: number) {
  const lanes = new Map<string, Lane>()
  const broken = yield* Queue.unbounded<Lane>()
  const traffic: Traffic = {
    asking,
    recordsMaxPerStream: asking.link.isClustered ? 1 : recordsMaxPerStream,
    recordsMax,
    bytesMax,
    patienceMs,
    records: 0,
    bytes: 0,
    isBlocked: false,
    unblock: () => {
      traffic.isBlocked = false
      for (const lane of lanes.values()) lane.pump()
    },
    broken: (lane) => void Queue.offerUnsafe(broken, lane)
  }
  yield* Effect.forkScoped(Effect.forever(Effect.flatMap(Queue.take(broken), (lane) => Effect.forkScoped(lane.repair()))))
  yield* Effect.addFinalizer(() => Effect.sync(() => closeAll(lanes)))
  let count = 0

  const laneOf = (of: TopicPartition): Lane => {
    const stream = streamOf(of)
    let lane = lanes.get(stream)
    if (lane === undefined) {
      lane = new Lane(traffic, { topic: of.topic, partition: of.partition })
      lanes.set(stream, lane)
    }
    return lane
  }
  return (records: readonly NewRecord[]): Effect.Effect<void, KeyfoldError> =>
    Effect.callback((resume) => {
      if (records.length === 0) return resume(Effect.void)
      const done = () => resume(parcel.failure === undefined ? Effect.void : Effect.fail(parcel.failure))
      const parcel: Parcel = { left: records.length, failure: undefined, done }
      const touched = new Set<Lane>()
      for (const record of records) {
        const lane = laneOf(record)
        lane.add({ record, id: `${asking.link.name}.${++count}`, parcel })
        touched.add(lane)
      }
      for (const lane of touched) lane.pump()
      // What is not sent yet stays so.
      return Effect.sync(() => {
        parcel.failure ??= closed("the publish was interrupted")
      })
    })
})

const closed = (reason: string): KeyfoldError =>
  new KeyfoldError(
    "unreachable",
    `${reason}: some of its records may be stored, the others are not. Publish again what must not be missing`
  )

const closeAll = (lanes: ReadonlyMap<string, Lane>): void => {
  for (const lane of lanes.values()) lane.close(closed("the sink was closed"))
}
