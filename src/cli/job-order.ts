/** Which jobs run together. Pure. */
import type { Plan } from "../plan.ts"

interface Planned {
  readonly plan: Plan
}

/**
 * Jobs that run to an end run after those whose outputs they read, or they would miss them: what is there counts at a job's start. Jobs
 * that read each other's outputs in a circle run together.
 */
export const wavesOf = <J extends Planned>(jobs: readonly J[]): readonly (readonly J[])[] => {
  const waves: J[][] = []
  let left = [...jobs]
  while (left.length > 0) {
    const ready = left.filter((job) => !left.some((other) => other !== job && feeds(other.plan, job.plan)))
    const wave = ready.length === 0 ? left : ready
    waves.push(wave)
    left = left.filter((job) => !wave.includes(job))
  }
  return waves
}

const feeds = (writer: Plan, reader: Plan): boolean => {
  const read = reader.stages.flatMap((stage) => stage.inputs.flatMap((input) => (input.kind === "source" ? [input.source.name] : [])))
  return writer.outputs.some((output) => output.kind === "topic" && read.includes(output.name))
}
