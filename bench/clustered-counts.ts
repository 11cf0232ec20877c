/** A job that puts out one result per event: a running count per user. For latency, take-over and hand-over. */
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"

export interface Hit {
  readonly user: string
  /** When it was published, on the machine's monotonic clock. */
  readonly sentUs: number
  /** Counted, but without a result. */
  readonly quiet?: boolean
  /** About a hundred bytes in all. */
  readonly from: string
}

export interface Count {
  readonly user: string
  readonly count: number
  readonly sentUs: number
  /** The process that has worked it out. What a function should not do: here it shows who owned the partition. */
  readonly by: number
}

export const countPartitions = 16

export const hitsName = (name: string): string => `hits-${name}`
export const countsName = (name: string): string => `counts-${name}`

export const hitsTopic = (name: string) =>
  topic(hitsName(name), { codec: json<Hit>(), key: (hit) => hit.user, partitions: countPartitions })

export const countsTopic = (name: string) =>
  topic(countsName(name), { codec: json<Count>(), key: (count) => count.user, partitions: countPartitions })

export const countsJob = (name: string) =>
  job(`count-${name}`)
    .from(hitsTopic(name))
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>() }, (user, events, state) => {
      const counts: Count[] = []
      let count = state.getOption() ?? 0
      for (const { sentUs, quiet } of events) {
        count += 1
        if (quiet !== true) counts.push({ user, count, sentUs, by: process.pid })
      }
      state.update(count)
      return counts
    })
    .to(countsTopic(name))

/** Microseconds on a clock that all processes of the machine share. */
export const machineUs = (): number => Number(process.hrtime.bigint() / 1_000n)
