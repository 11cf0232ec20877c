// The adapters of the laws over simulated servers: what keeps the laws of the real ones may stand in for them.
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../../src/errors.ts"
import { type Machine, SimulatedCluster } from "../../src/simulation/cluster.ts"
import { World } from "../../src/simulation/world.ts"
import { openOver as openOverNats } from "./jetstream-store.ts"
import { openOver as openOverRedis } from "./redis-store.ts"
import type { Adapter, Law } from "./stores.ts"

export const seed = Number(process.env["SEED"] ?? 1)

/** Runs in a process of simulated servers, by simulated time. */
export const inSimulation = async (
  run: (machine: Machine, cluster: SimulatedCluster) => Effect.Effect<void, KeyfoldError, Scope.Scope>
): Promise<void> => {
  const world = new World(seed)
  const cluster = new SimulatedCluster(world, { leaseMs: 1_000, isLasting: false })
  const machine = cluster.machine()
  let isOver = false
  const held = machine.process.run(Effect.scoped(run(machine, cluster))).finally(() => {
    isOver = true
  })
  await Promise.all([held, world.run(() => isOver, Number.POSITIVE_INFINITY)])
}

/** Holds a law in a simulated process. */
export const simulated = (law: Law, open: (machine: Machine) => Effect.Effect<Adapter, KeyfoldError, Scope.Scope>): Promise<void> =>
  inSimulation((machine) => Effect.flatMap(open(machine), law))

export const openSimulatedRedis = (machine: Machine, limits: Parameters<typeof openOverRedis>[1]) =>
  Effect.flatMap(machine.redis, (link) => openOverRedis(link, limits))

export const openSimulatedNats = (machine: Machine) => openOverNats(machine.nats)
