/**
 * The composition root: from a plan and connected ports to the partitions of every stage, each with its runner. The only file that sees
 * all five stages; it fills what each one needs with the others.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Semaphore from "effect/Semaphore"
import { Activation } from "./activation/activation.ts"
import { Residents } from "./activation/residents.ts"
import type { KeyfoldError } from "./errors.ts"
import type { Operator } from "./model/operator.ts"
import type { TopicPartition } from "./model/record.ts"
import type { InputPlan, StagePlan } from "./model/stage.ts"
import type { ForeachDefinition, TopicDefinition } from "./model/topic.ts"
import type { JournalOwner } from "./model/turn.ts"
import { type Limits, turnTimeoutsMax } from "./options.ts"
import { Breath } from "./partition/breath.ts"
import type { Member } from "./partition/membership.ts"
import { writerOf } from "./partition/outbox.ts"
import { Partition } from "./partition/partition.ts"
import type { PartitionInput, PartitionParts, TurnObserver } from "./partition/ports.ts"
import { Runner } from "./partition/runner.ts"
import type { StageSeats } from "./partition/schedule.ts"
import { type Held, Seat, type SeatParts, truly } from "./partition/seat.ts"
import { StageClock } from "./partition/stage-clock.ts"
import { deadLetterTopicName, internalTopicName, type Plan } from "./plan.ts"
import type { Ports } from "./ports.ts"
import { makeDelivery } from "./sink/delivery.ts"
import { Outgoing } from "./sink/outgoing.ts"
import { makeIntake } from "./source/intake.ts"
import { startPosition } from "./source/start-position.ts"
import { makeContext } from "./telemetry/context.ts"
import { TurnTrace } from "./telemetry/turn-trace.ts"
import { openTopics, type QueryTopics } from "./topics.ts"

/** A query to be: what it runs, on what, and who watches. */
export interface Assembly {
  readonly plan: Plan
  readonly query: string
  readonly ports: Ports
  readonly limits: Limits
  readonly failOnDataLoss: boolean
  /** Goes on from what the outputs hold when a journal has lost its last turns (P4). */
  readonly acceptLoss: boolean
  readonly observer: TurnObserver
  /** Copies results for the observer; undefined: it does not want them. */
  readonly snapshot?: (value: unknown) => unknown
}

/** Everything of a query, its own partitions owned and recovered, ready to run. `failed` fails with what stops it. */
export interface Assembled {
  readonly topics: QueryTopics
  readonly stages: readonly StageSeats[]
  readonly failed: Effect.Effect<never, KeyfoldError>
}

export const assemble = Effect.fnUntraced(function* (assembly: Assembly) {
  const { plan, query, ports } = assembly
  const topics = yield* openTopics(plan, query, ports)
  const ids = plan.stages.flatMap((stage) =>
    Array.from({ length: topics.partitionsOf(stage) }, (_, partition) => ({ query, stage: stage.name, partition }))
  )
  const member = yield* ports.membership.join(query, ids)
  const share = shareOf(assembly, topics)
  // Servers answer many questions at once, and a store answers one at a time anyway.
  const taking = yield* Semaphore.make(takesAtOnce)
  const breath = new Breath()
  const stages = plan.stages.map((stage): StageSeats => {
    const heard = (clock: "own" | "outgoing") => (partition: number) => member.news(stage.name).get(partition)?.news[clock]
    const count = topics.partitionsOf(stage)
    const clocks = { ownClock: new StageClock(count, heard("own")), outgoingClock: new StageClock(count, heard("outgoing")) }
    const seats = Array.from({ length: count }, (_, index) =>
      makeSeat(assembly, member, { topics, stage, index, share, clocks, taking, breath })
    )
    return { name: stage.name, internal: stage.inputs.some((input) => input.kind === "internal"), seats }
  })
  const seats = stages.flatMap((stage) => stage.seats)
  for (const seat of seats) yield* Effect.forkScoped(seat.keep)
  yield* Effect.all(
    seats.map((seat) => seat.opened),
    { concurrency: "unbounded", discard: true }
  )
  return { topics, stages, failed: Effect.raceAllFirst(seats.map((seat) => seat.failed)) } satisfies Assembled
})

const takesAtOnce = 32

interface Place {
  readonly topics: QueryTopics
  readonly stage: StagePlan
  readonly index: number
  readonly share: { readonly countMax: number; readonly bytesMax: number }
  readonly clocks: { readonly ownClock: StageClock; readonly outgoingClock: StageClock }
  readonly taking: Semaphore.Semaphore
  readonly breath: Breath
}

/** What each stateful partition of the query may hold in memory. */
const shareOf = ({ plan, limits }: Assembly, topics: QueryTopics): Place["share"] => {
  const stateful = plan.stages.filter((stage) => stage.actor !== undefined)
  const partitions = Math.max(
    1,
    stateful.reduce((count, stage) => count + topics.partitionsOf(stage), 0)
  )
  return {
    countMax: Math.max(1, Math.floor(limits.residentKeysMax / partitions)),
    bytesMax: Math.max(1, Math.floor(limits.residentBytesMax / partitions))
  }
}

const makeSeat = (assembly: Assembly, member: Member, place: Place): Seat => {
  const { query, ports } = assembly
  const { stage, index, taking } = place
  const inputs = inputsOf(assembly, place)
  return new Seat({
    id: { query, stage: stage.name, partition: index },
    member,
    take: (post) => taking.withPermits(1)(takePartition(assembly, place, inputs, post)),
    ends: Effect.all(
      inputs.map(({ topic }) => ports.source.lastPosition({ topic, partition: index })),
      { concurrency: "unbounded" }
    ),
    isPassing: ports.isPassing
  })
}

/** P1 to P5: takes a partition over, recovers it, guards its sources. */
const takePartition = Effect.fnUntraced(function* (
  assembly: Assembly,
  place: Place,
  inputs: readonly PartitionInput[],
  post: Parameters<SeatParts["take"]>[0]
) {
  const { query, ports } = assembly
  const { stage, index, clocks } = place
  const owner = yield* ports.ownership.acquire({ query, stage: stage.name, partition: index })
  yield* Effect.addFinalizer(() => Effect.sync(() => forget(clocks, index)))
  const confirmed = ports.ownership.confirm(owner)
  const { runner, failed } = yield* truly(recoverPartition(assembly, { ...place, owner, inputs, post }), confirmed, ports.isPassing)
  return { runner, failed, confirmed, lost: ports.ownership.lost(owner) } satisfies Held
})

const recoverPartition = Effect.fnUntraced(function* (
  assembly: Assembly,
  place: Place & {
    readonly owner: JournalOwner
    readonly inputs: readonly PartitionInput[]
    readonly post: Parameters<SeatParts["take"]>[0]
  }
) {
  const { ports, limits, failOnDataLoss } = assembly
  const { stage, index, clocks, inputs, owner, post } = place
  const { partition, failed } = yield* assemblePartition(assembly, place, inputs, owner)
  const startedAtMs = yield* Clock.currentTimeMillis
  yield* partition.recover(startedAtMs)
  const outgoingIdleAfterMs = watermarkOf(stage.operators)?.idleAfterMs
  const runner = new Runner(
    {
      partition,
      index,
      source: ports.source,
      limits,
      historyKeptMs: ports.historyKeptMs,
      failOnDataLoss,
      ...clocks,
      outgoingIdleAfterMs,
      post
    },
    startedAtMs
  )
  yield* runner.guard(startedAtMs)
  runner.tell(startedAtMs)
  return { runner, failed }
})

const forget = ({ ownClock, outgoingClock }: Place["clocks"], index: number): void => {
  ownClock.forget(index)
  outgoingClock.forget(index)
}

const assemblePartition = Effect.fnUntraced(function* (
  assembly: Assembly,
  place: Place,
  inputs: readonly PartitionInput[],
  owner: JournalOwner
) {
  const { plan, query, ports, limits, observer } = assembly
  const { topics, stage, index, share, breath } = place
  const id = { query, stage: stage.name, partition: index }
  const { journal } = ports
  const writer = writerOf(query, stage.name, index)
  const trace = yield* makeTrace(assembly, place, inputs, writer)
  const publisher = yield* makeDelivery({
    journal: `${query}/${stage.name}/${index}`,
    partition: index,
    turnsInFlightMax: limits.turnsInFlightMax,
    sinks: new Map(plan.outputs.filter((sink): sink is ForeachDefinition => sink.kind === "foreach").map((sink) => [sink.name, sink])),
    publish: ports.sink.publish,
    lastNumber: (of, least) => ports.sink.lastNumber(writer, of, least),
    confirm: (revision) =>
      Effect.andThen(
        Effect.sync(() => trace.published(revision)),
        journal.confirm(owner, revision)
      )
  })
  const downstream = downstreamOf(stage, query, topics)
  const outgoing = new Outgoing(stage, {
    sizes: { partitionsOf: (topic) => topics.describe(topic).partitions },
    partition: index,
    internalTopic: downstream?.topic ?? "",
    keepsStamped: plan.lateTopics.size > 0,
    payloadBytesMax: ports.payloadBytesMax,
    snapshot: assembly.snapshot
  })
  const residents = new Residents(share)
  const { actor } = stage
  const parts: PartitionParts = {
    query,
    stage,
    partition: index,
    onError: plan.onError,
    failOnDataLoss: assembly.failOnDataLoss,
    deadLetterTopic: deadLetterTopicName(query),
    downstream,
    partitions: topics.partitionsOf(stage),
    inputs,
    outputs: outputsOf(assembly, place),
    acceptLoss: assembly.acceptLoss,
    turnTimeoutsMax: Math.min(turnTimeoutsMax, limits.turnEventsMax),
    payloadBytesMax: ports.payloadBytesMax,
    lateSinks: new Map(
      stage.inputs.flatMap((input) => lateSinkOf(plan, input).map((sink) => [topics.nameOf(stage, input), sink] as const))
    ),
    journal: {
      open: () => journal.open(owner, actor?.state.fingerprint ?? ""),
      load: (keys) => journal.load(id, keys),
      due: (bound) => journal.due(id, bound),
      timeouts: () => journal.timeouts(id),
      commit: (turn) =>
        Effect.suspend(() =>
          Effect.tap(journal.commit(owner, trace.stamped(turn)), (left) => Effect.sync(() => trace.stored(turn.revision, left)))
        )
    },
    publisher,
    outgoing,
    residents,
    engine: actor === undefined ? undefined : (host) => new Activation(actor, { retries: plan.retries, residents, host }),
    context: makeContext(id, (topic, value) => outgoing.emitTo(topic, value)),
    observer: { ...observer, committed: (turn) => observer.committed(trace.committed(turn)) },
    trace,
    breath
  }
  return { partition: new Partition(parts), failed: publisher.failed }
})

const makeTrace = Effect.fnUntraced(function* (assembly: Assembly, place: Place, inputs: readonly PartitionInput[], writer: string) {
  const { plan, query, ports } = assembly
  const trace = new TurnTrace({
    system: ports.messagingSystem ?? "keyfold",
    ...{ job: plan.name, query, stage: place.stage.name, partition: place.index, writer },
    inputs: inputs.map(({ topic, upstreamCount }) => ({ topic, internal: upstreamCount > 0 })),
    deadLetterTopic: deadLetterTopicName(query)
  })
  yield* Effect.addFinalizer((exit) => Effect.sync(() => trace.closed(Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined)))
  return trace
})

const downstreamOf = (stage: StagePlan, query: string, topics: QueryTopics): PartitionParts["downstream"] => {
  if (stage.output.kind !== "shuffle") return undefined
  const topic = internalTopicName(query, stage.output.stage)
  return { topic, partitions: topics.describe(topic).partitions }
}

/** Every topic that the stage may write, with all its partitions: results, side outputs, late rows, dead letters. */
const outputsOf = ({ plan, query }: Assembly, { topics, stage }: Place): TopicPartition[] => {
  const sinks = stage.output.kind === "shuffle" ? [] : stage.output.sinks
  const late = stage.inputs.flatMap((input) => lateSinkOf(plan, input))
  const written = [...sinks, ...late, ...(stage.actor?.emits ?? [])].filter((sink) => sink.kind === "topic").map(({ name }) => name)
  const internal = downstreamOf(stage, query, topics)?.topic ?? []
  return [...new Set([...written, deadLetterTopicName(query)].concat(internal))].flatMap((topic) =>
    Array.from({ length: topics.describe(topic).partitions }, (_, partition) => ({ topic, partition }))
  )
}

/** A union of topics of different sizes can only be re-keyed; partition p then reads those that have a partition p. */
const inputsOf = (assembly: Assembly, place: Pick<Place, "topics" | "stage" | "index">): PartitionInput[] => {
  const { topics, stage, index } = place
  return stage.inputs
    .filter((input) => topics.describe(topics.nameOf(stage, input)).partitions > index)
    .map((input) => {
      const { name, created } = topics.describe(topics.nameOf(stage, input))
      const declaration = input.kind === "source" ? watermarkOf(input.operators) : undefined
      return {
        topic: name,
        created: created[index] as string,
        startPosition: () =>
          input.kind === "internal"
            ? Effect.succeed(0)
            : startPosition(assembly.ports.source, input.startAt, { topic: name, partition: index }),
        intake: makeIntake(input, stage.actor !== undefined),
        time: declaration,
        upstreamCount: input.kind === "internal" ? topics.partitionsOf(writerStage(assembly.plan, input.writtenBy)) : 0
      }
    })
}

const writerStage = (plan: Plan, name: string): StagePlan => plan.stages.find((stage) => stage.name === name) as StagePlan

/** The late sink of the event time that an input's rows carry: declared on the source, or on the way between two stages. */
const lateSinkOf = (plan: Plan, input: InputPlan): (TopicDefinition | ForeachDefinition)[] => {
  if (input.kind === "source") return [watermarkOf(input.operators)?.late ?? []].flat()
  const writer = writerStage(plan, input.writtenBy)
  const between = watermarkOf(writer.operators)
  return between === undefined ? writer.inputs.flatMap((upstream) => lateSinkOf(plan, upstream)).slice(0, 1) : [between.late ?? []].flat()
}

const watermarkOf = (operators: readonly Operator[]) => operators.find((operator) => operator.kind === "watermark")?.declaration
