/** Time and processor time from a moment that somebody else names. */

export interface Timed {
  readonly seconds: number
  /** Of this process, all of its threads: not the servers'. */
  readonly cpuSeconds: number
}

export class Stopwatch {
  #beganMs: number | undefined
  #cpu: NodeJS.CpuUsage | undefined

  /** The first call counts. */
  readonly begin = (): void => {
    if (this.#beganMs !== undefined) return
    this.#beganMs = performance.now()
    this.#cpu = process.cpuUsage()
  }

  end(): Timed {
    if (this.#beganMs === undefined) throw new Error("nothing has begun: there was nothing to do")
    const { user, system } = process.cpuUsage(this.#cpu)
    return { seconds: (performance.now() - this.#beganMs) / 1_000, cpuSeconds: (user + system) / 1_000_000 }
  }
}
