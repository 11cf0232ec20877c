/** Lets faults happen to a simulated cluster, and what is wrong for a while be right again. */
import type { Machine, SimulatedCluster } from "./cluster.ts"
import type { Fault, FaultKind } from "./faults.ts"

/** Whoever has workers and events come and go. */
export interface Crew {
  /** The streams that events come from. */
  readonly inputs: readonly string[]
  readonly join: () => void
  /** In order; answers false when it cannot. */
  readonly leave: (machine: Machine) => boolean
}

type FaultOf<Kind extends FaultKind> = Fault & { readonly kind: Kind }

/** Whoever has not left by then is gone anyway. */
const leaveMsMax = 30_000

type Undo = () => void

export class Mischief {
  readonly #cluster: SimulatedCluster
  readonly #crew: Crew
  readonly #counts = new Map<FaultKind, number>()
  readonly #lost = new Set<FaultKind>()
  #endMs = 0

  constructor(cluster: SimulatedCluster, crew: Crew) {
    this.#cluster = cluster
    this.#crew = crew
  }

  /** When all that is wrong is right again. */
  get endMs(): number {
    return this.#endMs
  }

  /** How many of each kind have met somebody. */
  get counts(): Readonly<Partial<Record<FaultKind, number>>> {
    return Object.fromEntries(this.#counts)
  }

  /** Kinds that have lost something for good. */
  get lost(): ReadonlySet<FaultKind> {
    return this.#lost
  }

  commit(fault: Fault): void {
    const { machines, world } = this.#cluster
    const machine = "worker" in fault ? machines[fault.worker % machines.length] : undefined
    if ("worker" in fault && machine === undefined) return
    if (fault.kind === "deposed" && !this.#cluster.nats.isCluster) return
    this.#counts.set(fault.kind, (this.#counts.get(fault.kind) ?? 0) + 1)
    world.history.add(machine?.process.name ?? "all", `suffers ${fault.kind}`)
    const undo = this.#begin(fault, machine as Machine)
    if (undo !== undefined && "forMs" in fault) this.#later(fault.forMs, undo)
  }

  #begin(fault: Fault, machine: Machine): Undo | undefined {
    const { nats } = this.#cluster
    switch (fault.kind) {
      case "crash":
        return this.#crash(machine, fault)
      case "pause":
        machine.process.pause()
        return () => machine.process.resume()
      case "join":
        this.#crew.join()
        return undefined
      case "leave":
        if (this.#crew.leave(machine)) this.#later(leaveMsMax, () => machine.process.kill())
        return undefined
      case "clock":
        return set(machine.process, "skewMs", fault.byMs, 0)
      case "cut":
        machine.weather[fault.server].cut()
        return undefined
      case "partition":
        return machine.weather[fault.server].worsen(fault.ways, { isDeaf: true })
      case "delay":
        return machine.weather[fault.server].worsen(fault.ways, { slowestMs: fault.toMs })
      case "restart":
        return this.#restart(fault)
      case "power-loss":
        return this.#losePower()
      case "full":
        return set(this.#cluster[fault.server], "isFull", true, false)
      case "reorder":
        return set(nats, "straggling", fault.part, 0)
      case "forget-ids":
        for (const stream of nats.streams) stream.forgetIds()
        return undefined
      case "copy":
        return set(nats, "copying", fault.part, 0)
      case "twice":
        return set(nats, "doubling", fault.part, 0)
      case "deposed":
        nats.depose(fault.part)
        return () => nats.depose(0)
      case "server-clock":
        return set(this.#cluster[fault.server], "skewMs", fault.byMs, 0)
      case "purge":
        if (nats.purge(this.#input(fault.input), fault.part) > 0) this.#lost.add("purge")
        return undefined
      case "delete":
        if (nats.delete(this.#input(fault.input))) this.#lost.add("delete")
        return undefined
      case "recreate":
        if (nats.recreate(this.#input(fault.input))) this.#lost.add("recreate")
        return undefined
      case "lost-tail":
        return this.#loseTail(fault)
    }
  }

  #crash({ process }: Machine, { sends, replacedMs }: FaultOf<"crash">): undefined {
    if (sends === 0) process.kill()
    else process.killAfterSends(sends)
    this.#later(replacedMs, this.#crew.join)
  }

  #restart({ server, startsMs }: FaultOf<"restart">): Undo {
    const { nats } = this.#cluster
    this.#cluster.takeDown(server)
    return () => {
      this.#cluster.bringUp(server)
      if (server === "redis") return
      nats.isStarting = true
      this.#later(startsMs, () => {
        nats.isStarting = false
      })
    }
  }

  #losePower(): Undo {
    this.#cluster.takeDown("redis")
    const count = this.#cluster.redis.losePower()
    if (count > 0) this.#lost.add("power-loss")
    this.#cluster.world.history.add("redis", `loses ${count} scripts`)
    return () => this.#cluster.bringUp("redis")
  }

  /** Not of the inputs: what nobody has read yet, nobody misses. */
  #loseTail({ count }: FaultOf<"lost-tail">): Undo {
    const { nats, world } = this.#cluster
    this.#cluster.takeDown("nats")
    const streams = nats.streams.filter(({ config }) => !this.#crew.inputs.includes(config.name))
    const lost = streams.reduce((sum, stream) => sum + stream.loseTail(world.dice.whole(0, count)), 0)
    if (lost > 0) this.#lost.add("lost-tail")
    world.history.add("nats", `loses ${lost} messages`)
    return () => this.#cluster.bringUp("nats")
  }

  #input(number: number): string {
    return this.#crew.inputs[number % this.#crew.inputs.length] as string
  }

  #later(ms: number, act: () => void): void {
    const { world } = this.#cluster
    this.#endMs = Math.max(this.#endMs, world.nowMs + ms)
    world.after(ms, act)
  }
}

const set = <T, Name extends keyof T>(of: T, name: Name, wrong: T[Name], right: T[Name]): Undo => {
  of[name] = wrong
  return () => {
    of[name] = right
  }
}
