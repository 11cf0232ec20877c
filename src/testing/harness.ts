/**
 * A job in a test: the real partitions, engine, journal and operators, in memory, one partition a topic, on a clock that only the test
 * moves. A turn here is a turn anywhere.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { type Assembled, assemble } from "../assembly.ts"
import { KeyfoldError, reasonOf } from "../errors.ts"
import { type Job, planOf } from "../job.ts"
import type { DeadLetter } from "../model/dead-letter.ts"
import { keyOfText, keyText } from "../model/key.ts"
import { noHeaders, type StoredRecord } from "../model/record.ts"
import type { ActorPlan, InitialState, StagePlan } from "../model/stage.ts"
import { definitionOf, type Source, type StreamDefinition, type Topic, type TopicDefinition } from "../model/topic.ts"
import { type Limits, resolveLimits } from "../options.ts"
import type { CommittedTurn } from "../partition/ports.ts"
import { encodeProgress, freshProgress } from "../partition/progress.ts"
import { runnersOf } from "../partition/schedule.ts"
import { deadLetterTopicName, type Plan } from "../plan.ts"
import { FaultList, planInitialState } from "../plan-parts.ts"
import { connectorOf, type Ports } from "../ports.ts"
import { memory } from "../runtime/memory.ts"
import { openTopics } from "../topics.ts"
import { frozenClock } from "./frozen-clock.ts"

/** What a turn and its follow-ups came to, over all stages. */
export interface TurnResult<Out, K> {
  /** What reached `.to`, once however many sinks. */
  readonly outputs: readonly Out[]
  /** What was written to a topic: results, side outputs, late rows. */
  outputsOf<T>(topic: Topic<T>): readonly T[]
  /** Rows that were dropped as late. */
  readonly late: readonly unknown[]
  readonly dead: readonly DeadLetter[]
  /** Keys of the last stage whose state was updated, also with an equal value, and not removed after it. */
  readonly updated: readonly K[]
  /** Keys of the last stage that lost their state. */
  readonly removed: readonly K[]
  /** Of the last stage, after the follow-ups; undefined without a watermark. */
  readonly watermark: number | undefined
}

export interface Harness<In, Out, K, S> extends AsyncDisposable {
  /**
   * Runs one turn over `events` and its follow-ups, and every stage to rest. `now` (ms, default: the clock stays) must not go back
   * (`illegal-argument`); `from` names the source that the events come from (default: the first). Under onError "stop" it rejects with
   * `function-failed` until `restart()`; the failed rows come first in the next turn.
   */
  turn(events: Iterable<In>, options?: { readonly now?: number; readonly from?: Source<In, unknown> }): Promise<TurnResult<Out, K>>
  /** One turn at `now`, without events. */
  advanceTo(now: number): Promise<TurnResult<Out, K>>
  /** Loses all memory and recovers from the journal. */
  restart(): Promise<void>
  /** A key's state as of the last turn; of the last stage, or the one named. */
  state(key: K, stage?: string): S | undefined
  /** Keys with a state or an armed timeout, in key-byte order. */
  keys(stage?: string): readonly K[]
  readonly watermark: number | undefined
}

export interface HarnessOptions<K, S> {
  /** The clock to begin with, ms. Default 0. */
  readonly now?: number
  /** Prior states of the last stage, as if committed earlier: nothing is called for them. */
  readonly initialState?: Iterable<readonly [key: K, state: S]>
}

/** Prepares a job for testing. Runs no stage: an initial state of the job's own (G20) is called in the first turn. */
export async function harness<In, Out, K, S>(job: Job<In, Out, K, S>, options: HarnessOptions<K, S> = {}): Promise<Harness<In, Out, K, S>> {
  const plan = planOf(job)
  if (plan === undefined) throw new KeyfoldError("illegal-argument", "harness takes a job that .to() has ended")
  const bench = new TestBench<In, Out, K, S>(plan, options.now ?? 0)
  await bench.open(options.initialState)
  return bench
}

/** A turn takes everything that is there: the test decides where the cuts are. */
const testLimits: Limits = { ...resolveLimits(), turnEventsMax: Number.MAX_SAFE_INTEGER, turnBytesMax: Number.MAX_SAFE_INTEGER }

class TestBench<In, Out, K, S> implements Harness<In, Out, K, S> {
  readonly #plan: Plan
  readonly #scope = Scope.makeUnsafe()
  #now: number
  #ports!: Ports
  #assembled: Assembled | undefined
  #run: Scope.Closeable | undefined
  #committed: CommittedTurn[] = []
  #failure: KeyfoldError | undefined

  constructor(plan: Plan, now: number) {
    this.#plan = plan
    this.#now = checkedTime(now, 0)
  }

  async open(initialState: Iterable<readonly [K, S]> | undefined): Promise<void> {
    const ports = await Effect.runPromise(Scope.provide(connectorOf(memory()).query(testLimits), this.#scope))
    this.#ports = {
      ...ports,
      source: { ...ports.source, open: (name) => ports.source.open(name, { partitions: 1, partitionsDefault: 1 }) }
    }
    if (initialState !== undefined) await this.#effect(this.#commitPrior(initialState))
    await this.restart()
  }

  async turn(
    events: Iterable<In>,
    options: { readonly now?: number; readonly from?: Source<In, unknown> } = {}
  ): Promise<TurnResult<Out, K>> {
    if (this.#failure !== undefined) throw this.#failure
    const now = checkedTime(options.now ?? this.#now, this.#now)
    const records = this.#encode(events, options.from, now)
    this.#now = now
    this.#committed = []
    const before = await this.#effect(this.#ends())
    try {
      await this.#effect(Effect.andThen(this.#ports.sink.publish(records), this.#toRest()))
    } catch (thrown) {
      if (thrown instanceof KeyfoldError) this.#failure = thrown
      throw thrown
    }
    return this.#result(await this.#effect(this.#since(before)))
  }

  advanceTo(now: number): Promise<TurnResult<Out, K>> {
    return this.turn([], { now })
  }

  async restart(): Promise<void> {
    await this.#stop()
    this.#failure = undefined
    this.#run = Scope.makeUnsafe()
    const observer = { committed: (turn: CommittedTurn) => this.#committed.push(turn), skipped: () => undefined }
    const { name } = this.#plan
    const assembling = assemble({
      plan: this.#plan,
      query: name,
      ports: this.#ports,
      limits: testLimits,
      failOnDataLoss: true,
      acceptLoss: false,
      observer,
      snapshot
    })
    this.#assembled = await this.#effect(Scope.provide(assembling, this.#run))
  }

  state(key: K, stage?: string): S | undefined {
    const { name, actor } = this.#stageOf(stage)
    const [image] = Effect.runSync(this.#ports.journal.load({ query: this.#plan.name, stage: name, partition: 0 }, [keyText(key)]))
    return image?.bytes === undefined ? undefined : (actor.state.decode(image.bytes) as S)
  }

  keys(stage?: string): readonly K[] {
    const { name } = this.#stageOf(stage)
    return Effect.runSync(this.#ports.journal.keys({ query: this.#plan.name, stage: name, partition: 0 })).map(
      (image) => keyOfText(image.keyText) as K
    )
  }

  get watermark(): number | undefined {
    return this.#assembled?.stages.at(-1)?.seats[0]?.runner?.partition.watermarkMs
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop()
    await Effect.runPromise(Scope.close(this.#scope, Exit.void))
  }

  // ---- inside

  async #stop(): Promise<void> {
    if (this.#run !== undefined) await Effect.runPromise(Scope.close(this.#run, Exit.void))
    this.#run = undefined
  }

  /** On the test's clock. */
  #effect<A>(effect: Effect.Effect<A, KeyfoldError>): Promise<A> {
    return Effect.runPromise(Effect.provideService(effect, Clock.Clock, frozenClock(this.#now)))
  }

  #encode(events: Iterable<In>, from: Source<In, unknown> | undefined, publishedAt: number) {
    const sources = this.#plan.stages.flatMap(({ inputs }) => inputs.flatMap((input) => (input.kind === "source" ? [input.source] : [])))
    const source = from === undefined ? sources[0] : sources.find((candidate) => candidate === definitionOf(from))
    if (source === undefined) throw new KeyfoldError("illegal-argument", `the job does not read ${from?.name ?? "anything"}`)
    return Array.from(events, (event) => ({
      topic: source.name,
      partition: 0,
      publishedAt,
      headers: noHeaders,
      payload: payloadOf(source, event),
      identity: undefined
    }))
  }

  /** Every stage, in order, until nothing is left to do at this clock. */
  readonly #toRest = Effect.fnUntraced(function* (this: TestBench<In, Out, K, S>) {
    for (const stage of this.#assembled?.stages ?? []) {
      for (const runner of runnersOf(stage)) {
        while (yield* runner.step()) {
          // The first step takes all that is there; what follows are timeouts that fell due meanwhile.
        }
        yield* runner.idle({ atOnce: false, lazily: false })
        yield* runner.partition.settled()
      }
    }
  })

  /** The last position of every topic that the job writes. */
  readonly #ends = Effect.fnUntraced(function* (this: TestBench<In, Out, K, S>) {
    const ends = new Map<string, number>()
    const topics = this.#plan.outputs.filter((sink) => sink.kind === "topic").map(({ name }) => name)
    for (const topic of [...topics, deadLetterTopicName(this.#plan.name)]) {
      ends.set(topic, yield* this.#ports.source.lastPosition({ topic, partition: 0 }))
    }
    return ends
  })

  readonly #since = Effect.fnUntraced(function* (this: TestBench<In, Out, K, S>, ends: ReadonlyMap<string, number>) {
    const records = new Map<string, readonly StoredRecord[]>()
    for (const [topic, after] of ends) {
      const request = { topic, partition: 0, after, countMax: Number.MAX_SAFE_INTEGER, bytesMax: Number.MAX_SAFE_INTEGER }
      records.set(topic, yield* this.#ports.source.read(request))
    }
    return records
  })

  #result(written: ReadonlyMap<string, readonly StoredRecord[]>): TurnResult<Out, K> {
    const last = this.#committed.filter((turn) => turn.stage === this.#plan.stages.at(-1)?.name)
    const dead = written.get(deadLetterTopicName(this.#plan.name)) ?? []
    return {
      outputs: last.flatMap((turn) => turn.results as readonly Out[]),
      outputsOf: <T>(topic: Topic<T>) => (written.get(topic.name) ?? []).map((record) => topic.codec.decode(record.payload)),
      late: this.#committed.flatMap((turn) => turn.late),
      dead: dead.map((record) => JSON.parse(Buffer.from(record.payload).toString("utf8")) as DeadLetter),
      ...netKeys<K>(last),
      watermark: this.watermark
    }
  }

  #stageOf(name: string | undefined): { readonly name: string; readonly actor: ActorPlan } {
    const stateful = this.#plan.stages.filter((stage): stage is StagePlan & { actor: ActorPlan } => stage.actor !== undefined)
    const stage = name === undefined ? stateful.at(-1) : stateful.find((candidate) => candidate.name === name)
    if (stage !== undefined) return stage
    const known = stateful.map((candidate) => candidate.name).join(", ")
    throw new KeyfoldError(
      "illegal-argument",
      `the job has no stage ${name ?? "with state"}: it has ${known === "" ? "none with state" : known}`
    )
  }

  /** Writes a journal as an earlier run would have left it. */
  readonly #commitPrior = Effect.fnUntraced(function* (this: TestBench<In, Out, K, S>, initialState: Iterable<readonly [K, S]>) {
    const { name: stage, actor } = this.#stageOf(undefined)
    const states = priorStates(initialState, actor)
    const topics = yield* openTopics(this.#plan, this.#plan.name, this.#ports)
    const planned = this.#plan.stages.find((candidate) => candidate.name === stage) as StagePlan
    const inputs = planned.inputs.map((input) => {
      const { name: topic, created } = topics.describe(topics.nameOf(planned, input))
      return { topic, created: created[0] as string, position: 0, upstreamCount: input.kind === "internal" ? 1 : 0 }
    })
    const id = { query: this.#plan.name, stage, partition: 0 }
    const { journal, ownership } = this.#ports
    const prior = Effect.gen(function* () {
      const owner = yield* ownership.acquire(id)
      yield* journal.open(owner, actor.state.fingerprint)
      const changes = states.map(({ keyText: text, bytes }) => ({ keyText: text, bytes, timeoutAt: undefined }))
      const outbox = { records: [], deliveries: [] }
      yield* journal.commit(owner, { revision: 1, progress: encodeProgress(freshProgress(inputs)), changes, outbox })
    })
    yield* Effect.scoped(prior)
  })
}

const priorStates = (initialState: Iterable<readonly [unknown, unknown]>, actor: ActorPlan): readonly InitialState[] => {
  const faults = new FaultList()
  const states = planInitialState(initialState, actor.state, "the harness", faults)
  const [fault] = faults.all
  if (fault !== undefined) throw new KeyfoldError("illegal-argument", fault.message)
  return states
}

/** The last word on each key: a key is in one of the lists, or in none. */
const netKeys = <K>(turns: readonly CommittedTurn[]): { readonly updated: readonly K[]; readonly removed: readonly K[] } => {
  const updated = new Map<string, unknown>()
  const removed = new Map<string, unknown>()
  for (const change of turns.flatMap((turn) => turn.changes)) {
    const { keyText: text, key } = change.resident
    if (change.updated || change.removed) {
      updated.delete(text)
      removed.delete(text)
    }
    if (change.updated) updated.set(text, key)
    if (change.removed) removed.set(text, key)
  }
  return { updated: [...updated.values()] as K[], removed: [...removed.values()] as K[] }
}

/**
 * Events pass through the codec. What JSON cannot hold (an event time of NaN) is written as JSON would write it, so that a test can send
 * the bad row that a foreign publisher would.
 */
const payloadOf = (source: TopicDefinition | StreamDefinition, event: unknown): Uint8Array => {
  try {
    return source.codec.encode(event)
  } catch (thrown) {
    const text = source.codec.contentType === "application/json" ? jsonText(event) : undefined
    if (text !== undefined) return Buffer.from(text, "utf8")
    throw new KeyfoldError("encode-failed", `the codec of ${source.name} refuses the event: ${reasonOf(thrown)}`, { cause: thrown })
  }
}

const jsonText = (event: unknown): string | undefined => {
  try {
    return JSON.stringify(event)
  } catch {
    return undefined
  }
}

/** A function may use the object of a result again. What cannot be cloned is handed over as it is. */
const snapshot = (value: unknown): unknown => {
  try {
    return structuredClone(value)
  } catch {
    return value
  }
}

const checkedTime = (now: number, least: number): number => {
  if (Number.isInteger(now) && now >= least) return now
  const why = Number.isInteger(now) ? `the clock is at ${least} and never goes back` : "it must be a whole number of milliseconds"
  throw new KeyfoldError("illegal-argument", `now: ${String(now)}: ${why}`)
}
