/** One job with one seed's events, and what workloads are made with. */
import type { Job } from "keyfold"
import { definitionOf, type TopicDefinition } from "../../src/model/topic.ts"
import type { SimulatedCluster } from "../../src/simulation/cluster.ts"
import type { Dice } from "../../src/simulation/dice.ts"
import { eventOf } from "../../src/simulation/outputs.ts"
import type { TrialEvent } from "../../src/simulation/trial.ts"

export interface Work {
  readonly job: Job
  readonly events: readonly TrialEvent[]
  /** How long clocks go on after everything was read, milliseconds. */
  readonly restMs: number
  /**
   * What is wrong with what came out; undefined when nothing is. `isPartial`: the query has stopped, because something was lost for good, so
   * much may be missing, but nothing may be wrong with what is there.
   */
  readonly judge: (cluster: SimulatedCluster, isPartial: boolean) => string | undefined
  /** What should be out by then, before what is open is closed, and is not. */
  readonly judgeOpen?: (cluster: SimulatedCluster) => string | undefined
}

const eventsMax = 80
const eventMsEvery = 80

/** Some events of a seed. */
export const someOf = <T>(dice: Dice, make: (index: number) => T): T[] =>
  Array.from({ length: dice.whole(5, eventsMax) }, (_, index) => make(index))

/** The events as publishers would send them to a topic with so many partitions, one after the other. */
export const eventsFor = (topic: unknown, partitions: number, values: readonly unknown[]): readonly TrialEvent[] =>
  values.map((value, index) => ({ atMs: index * eventMsEvery, ...eventOf(defined(topic), partitions, value) }))

export const defined = (declared: unknown): TopicDefinition => definitionOf(declared) as TopicDefinition
