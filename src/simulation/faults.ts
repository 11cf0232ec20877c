/** What goes wrong in a simulation, and when: a list, so that a failure can be tried again with less of it. */
import type { ServerName } from "./cluster.ts"
import { Dice } from "./dice.ts"
import { type Ways, ways } from "./line.ts"

/**
 * What can go wrong. `worker` is any number: the worker is the one with that remainder among those that are alive.
 *
 *   crash        a worker dies, at once or between two of its next messages, and another one comes
 *   pause        a worker stands still, and goes on as if nothing had been
 *   join, leave  a worker more, a worker less, in order
 *   clock        a worker's clock is wrong
 *   cut          a connection ends; what was under way arrives in part
 *   partition    a worker's connection swallows everything, or what goes one way, and nobody is told
 *   delay        a worker's messages take long, or those of one way
 *   restart      a server is killed and started again; nothing that it has answered is lost
 *   power-loss   Redis loses what it had not synced to disk
 *   full         a server takes no writes: it is full, or too busy
 *   reorder      messages to NATS arrive late, behind others: a change of leaders
 *   forget-ids   NATS forgets which messages it has seen
 *   copy         NATS stores messages between stages twice, as clusters before 2.9.21 sometimes did
 *   twice        what is sent to NATS, and what it answers, arrives twice
 *   deposed      a leader of the NATS cluster leads no more and does not know it: it answers what was, and what it takes is lost
 *   server-clock the clock of a server is wrong
 *   purge        an input loses what it holds, or the older part of it   } whoever has not read it yet must say so
 *   delete       an input is deleted                                     }
 *   recreate     an input is deleted and created again                   }
 *   lost-tail    NATS is killed and comes back without the last messages between stages and of outputs: made good, or said
 */
export type Fault = { readonly atMs: number } & (
  | { readonly kind: "crash"; readonly worker: number; readonly sends: number; readonly replacedMs: number }
  | { readonly kind: "pause"; readonly worker: number; readonly forMs: number }
  | { readonly kind: "join" }
  | { readonly kind: "leave"; readonly worker: number }
  | { readonly kind: "clock"; readonly worker: number; readonly byMs: number; readonly forMs: number }
  | { readonly kind: "cut"; readonly worker: number; readonly server: ServerName }
  | { readonly kind: "partition"; readonly worker: number; readonly server: ServerName; readonly ways: Ways; readonly forMs: number }
  | {
      readonly kind: "delay"
      readonly worker: number
      readonly server: ServerName
      readonly ways: Ways
      readonly toMs: number
      readonly forMs: number
    }
  | { readonly kind: "restart"; readonly server: ServerName; readonly forMs: number; readonly startsMs: number }
  | { readonly kind: "power-loss"; readonly forMs: number }
  | { readonly kind: "full"; readonly server: ServerName; readonly forMs: number }
  | { readonly kind: "reorder"; readonly part: number; readonly forMs: number }
  | { readonly kind: "forget-ids" }
  | { readonly kind: "copy"; readonly part: number; readonly forMs: number }
  | { readonly kind: "twice"; readonly part: number; readonly forMs: number }
  | { readonly kind: "deposed"; readonly part: number; readonly forMs: number }
  | { readonly kind: "server-clock"; readonly server: ServerName; readonly byMs: number; readonly forMs: number }
  | { readonly kind: "purge"; readonly input: number; readonly part: number }
  | { readonly kind: "delete"; readonly input: number }
  | { readonly kind: "recreate"; readonly input: number }
  | { readonly kind: "lost-tail"; readonly count: number; readonly forMs: number }
)

export type FaultKind = Fault["kind"]

/** What nobody can make good. */
export type LossyKind = (typeof lossyKinds)[number]

export interface FaultOptions {
  /** Until when faults begin, milliseconds from the start. */
  readonly untilMs: number
  readonly leaseMs: number
  /** What may go wrong; default all that the runtime promises to survive. */
  readonly kinds?: readonly FaultKind[]
}

/** How wrong a clock is at most. */
export const skewMsMax = 5_000

/** For so long a leader that was deposed is believed at most: who asks again and again (P4, P14, P3) outlasts it. */
const believedMsMax = 3_500

export const faultKinds: readonly FaultKind[] = [
  "crash",
  "pause",
  "join",
  "leave",
  "clock",
  "cut",
  "partition",
  "delay",
  "restart",
  "power-loss",
  "full",
  "reorder",
  "forget-ids",
  "copy",
  "twice",
  "deposed",
  "server-clock"
]

/** What loses events for good, so that a query may, or must, stop and say so. */
export const lossyKinds = ["purge", "delete", "recreate", "lost-tail"] as const satisfies readonly FaultKind[]

/**
 * Faults of one seed. Each seed has some kinds only, so that what one kind does is not always hidden behind another ("swarm testing", Groce
 * et al., ISSTA 2012).
 */
export const faultsOf = (seed: number, { untilMs, leaseMs, kinds = faultKinds }: FaultOptions): readonly Fault[] => {
  const dice = new Dice(seed, 1_000_003)
  const some = kinds.filter(() => dice.chance(0.4))
  if (some.length === 0) return []
  const count = dice.whole(1, 12)
  const faults: Fault[] = []
  while (faults.length < count) {
    const before = faults.at(-1)
    const fault = faultOf(dice.pick(some), dice, { untilMs, leaseMs })
    // Half of them come while the one before goes on, or just behind it: most histories that go wrong need two things at once.
    const isLinked = before !== undefined && dice.chance(0.5)
    faults.push(isLinked ? { ...fault, atMs: before.atMs + dice.whole(0, "forMs" in before ? before.forMs : leaseMs) } : fault)
  }
  return faults.sort((one, other) => one.atMs - other.atMs)
}

const faultOf = (kind: FaultKind, dice: Dice, { untilMs, leaseMs }: { readonly untilMs: number; readonly leaseMs: number }): Fault => {
  const at = { atMs: dice.whole(0, untilMs) }
  const worker = dice.whole(0, 11)
  const server = dice.pick(["nats", "redis"] as const)
  const forMs = Math.floor(leaseMs * dice.pick([0.1, 0.5, 1.1, 2.5]) * (0.5 + dice.fraction()))
  switch (kind) {
    case "crash":
      return { ...at, kind, worker, sends: dice.whole(0, 60), replacedMs: dice.whole(10, 2 * leaseMs) }
    case "pause":
      return { ...at, kind, worker, forMs }
    case "join":
      return { ...at, kind }
    case "leave":
      return { ...at, kind, worker }
    case "clock":
      return { ...at, kind, worker, byMs: dice.pick([1, -1]) * dice.whole(1, dice.chance(0.8) ? 450 : skewMsMax), forMs }
    case "cut":
      return { ...at, kind, worker, server }
    case "partition":
      return { ...at, kind, worker, server, ways: dice.pick(ways), forMs }
    case "delay":
      return { ...at, kind, worker, server, ways: dice.pick(ways), toMs: dice.pick([10, 100, 1_000, 3_000]), forMs }
    case "restart":
      return { ...at, kind, server, forMs, startsMs: dice.whole(0, 400) }
    case "power-loss":
      return { ...at, kind, forMs }
    case "full":
      return { ...at, kind, server, forMs }
    case "reorder":
      return { ...at, kind, part: dice.pick([0.05, 0.3, 1]), forMs }
    case "forget-ids":
      return { ...at, kind }
    case "copy":
      return { ...at, kind, part: dice.pick([0.1, 0.5]), forMs }
    case "twice":
      return { ...at, kind, part: dice.pick([0.05, 0.5]), forMs }
    case "deposed":
      return { ...at, kind, part: dice.pick([0.3, 1]), forMs: Math.min(forMs, believedMsMax) }
    case "server-clock":
      return { ...at, kind, server, byMs: dice.pick([1, -1]) * dice.whole(1, skewMsMax), forMs }
    case "purge":
      return { ...at, kind, input: dice.whole(0, 11), part: dice.pick([0.5, 1]) }
    case "delete":
    case "recreate":
      return { ...at, kind, input: dice.whole(0, 11) }
    case "lost-tail":
      return { ...at, kind, count: dice.whole(1, 5), forMs }
  }
}

/** For people, one line. */
export const faultText = ({ atMs, kind, ...more }: Fault): string =>
  `${atMs} ms: ${kind}${Object.entries(more)
    .map(([name, value]) => ` ${name} ${value}`)
    .join("")}`
