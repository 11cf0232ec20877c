/** Where a run spends its processor time, by the folders of what runs: V8's sampling profiler over this process. */
import { type Profiler, Session } from "node:inspector/promises"

export interface Share {
  readonly name: string
  /** Self time, of what was not idle. */
  readonly ms: number
}

export interface Profile {
  readonly groups: readonly Share[]
  readonly functions: readonly Share[]
}

const sampleUs = 200

export const profiled = async <T>(run: () => Promise<T>): Promise<{ readonly result: T; readonly profile: Profile }> => {
  const session = new Session()
  session.connect()
  try {
    await session.post("Profiler.enable")
    await session.post("Profiler.setSamplingInterval", { interval: sampleUs })
    await session.post("Profiler.start")
    const result = await run()
    const { profile } = await session.post("Profiler.stop")
    return { result, profile: summary(profile) }
  } finally {
    session.disconnect()
  }
}

/** In this order: the first that matches. */
const groupRules: readonly (readonly [RegExp, string])[] = [
  [/^$/, "garbage collection and V8"],
  [/^node:/, "Node: sockets, streams, timers"],
  [/node_modules\/@nats-io\//, "NATS client"],
  [/node_modules\/(ioredis|redis-parser|denque|@ioredis|standard-as-callback|cluster-key-slot)\//, "Redis client"],
  [/node_modules\/effect\//, "Effect"],
  [/node_modules\/avsc\//, "journal: commit, checkpoint, load"],
  [/\/src\/(journal|storage|runtime)\//, "journal: commit, checkpoint, load"],
  [/\/src\/source\/intake|\/codecs\//, "decode and encode"],
  [/\/src\/source\//, "source"],
  [/\/src\/sink\/outgoing/, "engine"],
  [/\/src\/sink\//, "sink"],
  [/\/src\/(activation|partition|model|telemetry)\//, "engine"],
  [/\/bench\//, "the job's own functions"],
  [/\/src\//, "the rest of keyfold"]
]

const summary = ({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Profile => {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const groups = new Map<string, number>()
  const functions = new Map<string, number>()
  const add = (to: Map<string, number>, name: string, ms: number) => to.set(name, (to.get(name) ?? 0) + ms)
  for (const [index, id] of samples.entries()) {
    const frame = frames.get(id)
    // Our own talk with the profiler is none of the run's.
    if (frame === undefined || frame.functionName === "(idle)" || frame.url === "node:inspector") continue
    const ms = (timeDeltas[index] ?? 0) / 1_000
    const group = groupRules.find(([path]) => path.test(frame.url))?.[1] ?? "others"
    add(groups, group, ms)
    const file = frame.url.split("/").slice(-2).join("/")
    add(functions, `${frame.functionName || "(a closure)"} ${file === "" ? "" : `${file}:${frame.lineNumber + 1}`}`, ms)
  }
  const sorted = (shares: Map<string, number>): Share[] =>
    [...shares].map(([name, ms]) => ({ name, ms })).toSorted((left, right) => right.ms - left.ms)
  return { groups: sorted(groups), functions: sorted(functions) }
}
