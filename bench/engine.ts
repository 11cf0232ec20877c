/**
 * The engine alone: grouping, calls, timeouts, change tracking, over rows that are already decoded and a journal that forgets.
 * Baseline: the same fold, written by hand over a Map of objects, which keeps nothing, encodes nothing and can lose everything.
 */
import * as Effect from "effect/Effect"
import { json } from "keyfold/codecs/json"
import { Activation } from "../src/activation/activation.ts"
import { Residents } from "../src/activation/residents.ts"
import type { Codec } from "../src/model/codec.ts"
import type { StoredRecord } from "../src/model/record.ts"
import { Row } from "../src/model/row.ts"
import type { StagePlan } from "../src/model/stage.ts"
import { emptyOutbox } from "../src/model/turn.ts"
import { payloadBytesMax } from "../src/options.ts"
import { Breath } from "../src/partition/breath.ts"
import { Partition } from "../src/partition/partition.ts"
import { Outgoing } from "../src/sink/outgoing.ts"
import { makeContext } from "../src/telemetry/context.ts"
import { TurnTrace } from "../src/telemetry/turn-trace.ts"
import { fixed, measure, row } from "./measure.ts"

interface Open {
  start: number
  end: number
  count: number
}
interface Click {
  readonly key: string
  readonly at: number
}

/** A codec that costs nothing, to see the engine by itself: every state is the same bytes, and decodes to a fresh object. */
const free: Codec<Open> = {
  contentType: "",
  fingerprint: "free/1",
  encode: () => freeBytes,
  decode: () => ({ start: 0, end: 0, count: 1 })
}
const freeBytes = new Uint8Array(1)

const fold = (open: Open | undefined, at: number): Open =>
  open === undefined ? { start: at, end: at, count: 1 } : { start: open.start, end: Math.max(open.end, at), count: open.count + 1 }

const stageOf = (state: Codec<Open>): StagePlan => ({
  name: "bench",
  inputs: [],
  hasWatermark: false,
  operators: [],
  output: { kind: "sinks", sinks: [] },
  actor: {
    mode: "flatMap",
    run: (_key, events, handle) => {
      let open = handle.getOption() as Open | undefined
      for (const event of events as readonly Click[]) open = fold(open, event.at)
      handle.update(open)
      return []
    },
    state: state as Codec<unknown>,
    timeout: "none",
    late: "keep",
    outputMode: "append",
    initialState: [],
    emits: []
  }
})

/** A partition whose journal forgets: `rows` is the next turn. */
export const benchPartition = (
  state: Codec<Open>,
  feed: { rows: readonly Row[] },
  residentKeysMax = 10_000_000
): { partition: Partition; residents: Residents } => {
  const stage = stageOf(state)
  const residents = new Residents({ countMax: residentKeysMax, bytesMax: Number.MAX_SAFE_INTEGER })
  const outgoing = new Outgoing(stage, {
    sizes: { partitionsOf: () => 1 },
    partition: 0,
    internalTopic: "",
    keepsStamped: false,
    payloadBytesMax,
    snapshot: undefined
  })
  const id = { query: "bench", stage: "bench", partition: 0 }
  const partition = new Partition({
    ...id,
    stage,
    onError: "dead-letter",
    failOnDataLoss: true,
    deadLetterTopic: "dead",
    downstream: undefined,
    partitions: 1,
    inputs: [
      {
        topic: "clicks",
        created: "",
        startPosition: () => Effect.succeed(0),
        intake: { take: () => ({ rows: feed.rows, bad: [], newestMs: Number.NaN, upstreamMs: new Map() }) },
        time: undefined,
        upstreamCount: 0
      }
    ],
    outputs: [],
    payloadBytesMax,
    acceptLoss: false,
    turnTimeoutsMax: 4_096,
    lateSinks: new Map(),
    journal: {
      open: () => Effect.succeed({ revision: 0, progress: undefined, unpublished: [] }),
      load: (keys) => Effect.succeed(keys.map(() => undefined)),
      due: () => Effect.succeed([]),
      timeouts: () => Effect.succeed(undefined),
      commit: () => Effect.succeed(emptyOutbox)
    },
    publisher: {
      publish: () => Effect.void,
      room: () => Effect.void,
      settled: () => Effect.void,
      isSettled: () => true,
      whenSettled: () => () => undefined,
      hasRoom: () => true,
      lastNumber: () => Effect.succeed(0)
    },
    outgoing,
    residents,
    engine: (host) => new Activation(stage.actor as NonNullable<StagePlan["actor"]>, { retries: 0, residents, host }),
    context: makeContext(id, () => undefined),
    observer: { committed: () => undefined, skipped: () => undefined },
    trace: new TurnTrace({
      system: "keyfold",
      job: "bench",
      ...id,
      inputs: [{ topic: "clicks", internal: false }],
      writer: "bench",
      deadLetterTopic: "bench-dead"
    }),
    breath: new Breath()
  })
  Effect.runSync(partition.recover(0))
  return { partition, residents }
}

const record = {
  topic: "clicks",
  partition: 0,
  position: 1,
  index: 0,
  publishedAt: 0,
  headers: new Map(),
  payload: new Uint8Array(),
  identity: undefined
} satisfies StoredRecord

const clicksOf = (count: number, keys: number): Click[] => {
  let seed = 12_345
  return Array.from({ length: count }, (_, index) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    return { key: `user-${seed % keys}`, at: 1_389_052_815_000 + index }
  })
}

export const engineBench = async (): Promise<void> => {
  const widths = [34, 12, 12, 14, 12, 14]
  process.stdout.write("\nEngine alone, microseconds per event (median of 7 rounds)\n")
  process.stdout.write(`${row(["", "Map loop", "engine", "overhead", "with json()", "overhead"], widths)}\n`)
  for (const keys of [1, 10_000, 1_000_000]) {
    for (const size of [1, 100, 4_096]) {
      const clicks = clicksOf(size === 1 ? 20_000 : 400_000, keys)
      const turns = Array.from({ length: Math.ceil(clicks.length / size) }, (_, index) => clicks.slice(index * size, (index + 1) * size))
      const rowTurns = turns.map((turn) => turn.map((click) => new Row(click, click.at, undefined, click.key, record)))
      const states = new Map<string, Open>()
      const byHand = () => {
        for (const turn of turns) for (const click of turn) states.set(click.key, fold(states.get(click.key), click.at))
        return clicks.length
      }
      const withCodec = (codec: Codec<Open>) => {
        const feed: { rows: readonly Row[] } = { rows: [] }
        const { partition } = benchPartition(codec, feed)
        const batch = [[record]]
        return () =>
          Effect.runPromise(
            Effect.gen(function* () {
              for (const rows of rowTurns) {
                feed.rows = rows
                yield* partition.turn(batch, 1)
              }
              return clicks.length
            })
          )
      }
      const [hand, alone, withJson] = await measure([
        { name: "map", run: byHand },
        { name: "engine", run: withCodec(free) },
        { name: "json", run: withCodec(json<Open>()) }
      ])
      if (hand === undefined || alone === undefined || withJson === undefined) return
      const label = `${keys.toLocaleString("en")} keys, turns of ${size.toLocaleString("en")}`
      const cells = [
        label,
        fixed(hand.us, 3),
        fixed(alone.us, 3),
        `+${fixed(alone.us - hand.us, 3)}`,
        fixed(withJson.us, 3),
        `+${fixed(withJson.us - hand.us, 3)}`
      ]
      process.stdout.write(`${row(cells, widths)}\n`)
    }
  }
}

/** Heap per idle resident: a state of three numbers, after gc, minus a plain Map of the same keys and objects. */
export const memoryBench = async (): Promise<void> => {
  const count = 1_000_000
  const collect = globalThis.gc
  if (collect === undefined) throw new Error("run with --expose-gc")
  const used = (): number => {
    collect()
    collect()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const keys = Array.from({ length: count }, (_, index) => `user-${index}`)
  const before = used()
  const plain = new Map<string, Open>(
    keys.map((key, index) => [key, { start: 1.5e12 + index, end: 1.5e12 + index + 0.5, count: index + 0.25 }])
  )
  const plainBytes = used() - before
  process.stdout.write(`\nMemory per idle resident, ${plain.size.toLocaleString("en")} keys, heap and external after gc\n`)
  process.stdout.write(`  plain Map of objects   ${fixed(plainBytes / count, 0)} bytes\n`)
  plain.clear()
  const cleared = used()
  const feed: { rows: readonly Row[] } = { rows: [] }
  const { partition, residents } = benchPartition(json<Open>(), feed)
  for (let from = 0; from < count; from += 4_096) {
    feed.rows = keys.slice(from, from + 4_096).map((key, index) => new Row({ key, at: 1.5e12 + from + index }, 0, undefined, key, record))
    await Effect.runPromise(partition.turn([[record]], 1))
  }
  feed.rows = []
  await Effect.runPromise(partition.turn([[record]], 1))
  const bytes = used() - cleared
  process.stdout.write(
    `  keyfold, json() state  ${fixed(bytes / count, 0)} bytes, ${fixed((bytes - plainBytes) / count, 0)} above the Map (${residents.size.toLocaleString("en")} residents)\n`
  )
}
