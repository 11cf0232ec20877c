/**
 * How many partitions of each stage each member has, so that nothing moves without need. Pure.
 *
 * With P partitions and M members everybody has floor(P / M) of a stage, and P mod M members have one more. Who does is chosen over all
 * stages at once: nobody has more than one "one more" above anybody else in total, and within that as many owners as possible keep what
 * they have. That is a flow of least cost from members to stages, built up path by path.
 */

export interface ShareWish {
  /** Partitions of each stage. */
  readonly counts: readonly number[]
  /** What each member owns of each stage: `owned[member][stage]`. */
  readonly owned: readonly (readonly number[])[]
  /** Decides between equals: 32 bits. The same for the same member and stage, so that a hand-over under way does not change its aim. */
  readonly tie: (member: number, stage: number) => number
}

/** `shares[member][stage]`. */
export const sharesOf = ({ counts, owned, tie }: ShareWish): readonly (readonly number[])[] => {
  const memberCount = owned.length
  const floors = counts.map((count) => Math.floor(count / memberCount))
  const over = counts.map((count) => count % memberCount)
  // One owner that can stay outweighs every tie.
  const worth = owned.map((row, member) =>
    counts.map((_, stage) => ((row[stage] as number) > (floors[stage] as number) ? stays : 0) + tie(member, stage))
  )
  const flow = new Flow(worth, over)
  const total = over.reduce((sum, count) => sum + count, 0)
  flow.fill(Math.floor(total / memberCount))
  flow.fill(Math.ceil(total / memberCount))
  return owned.map((_, member) => counts.map((_, stage) => (floors[stage] as number) + (flow.has(member, stage) ? 1 : 0)))
}

const stays = 2 ** 40

/** Which member has one more of which stage. Whoever has a unit keeps as many as it has; which of them may change. */
class Flow {
  readonly #worth: readonly (readonly number[])[]
  readonly #stageCount: number
  /** Units that each stage still has to give. */
  readonly #left: number[]
  readonly #taken: number[]
  readonly #has: Uint8Array
  /** By node, members first: what it costs to bring a unit there, and where from. */
  readonly #costs: Float64Array
  readonly #from: Int32Array

  constructor(worth: readonly (readonly number[])[], over: readonly number[]) {
    this.#worth = worth
    this.#stageCount = over.length
    this.#left = [...over]
    this.#taken = worth.map(() => 0)
    this.#has = new Uint8Array(worth.length * over.length)
    this.#costs = new Float64Array(worth.length + over.length)
    this.#from = new Int32Array(worth.length + over.length)
  }

  has(member: number, stage: number): boolean {
    return this.#has[member * this.#stageCount + stage] === 1
  }

  /** Gives units, the cheapest next, until every member has `unitsMax` or no stage has one left. */
  fill(unitsMax: number): void {
    for (;;) {
      this.#price(unitsMax)
      const stage = this.#nearest()
      if (stage === undefined) return
      this.#give(stage)
    }
  }

  /** Bellman-Ford over what is left: a member may take a unit of a stage, or leave it to another member and take another one. */
  #price(unitsMax: number): void {
    const members = this.#worth.length
    this.#costs.fill(Number.POSITIVE_INFINITY)
    let next: number[] = []
    for (let member = 0; member < members; member++) {
      if ((this.#taken[member] as number) >= unitsMax) continue
      this.#costs[member] = 0
      this.#from[member] = -1
      next.push(member)
    }
    while (next.length > 0) {
      const stages = this.#toStages(next)
      next = this.#toMembers(stages)
    }
  }

  /** What members could take; answers the stages that have become cheaper. Plain loops: this is where the time goes. */
  #toStages(members: readonly number[]): readonly number[] {
    const count = this.#stageCount
    const cheaper = new Set<number>()
    for (const member of members) {
      const worth = this.#worth[member] as readonly number[]
      const cost = this.#costs[member] as number
      for (let stage = 0; stage < count; stage++) {
        const node = this.#worth.length + stage
        const through = cost - (worth[stage] as number)
        if (through >= (this.#costs[node] as number) || this.#has[member * count + stage] === 1) continue
        this.#costs[node] = through
        this.#from[node] = member
        cheaper.add(stage)
      }
    }
    return [...cheaper]
  }

  /** Who could leave a unit of these stages to another member; answers the members that have become cheaper. */
  #toMembers(stages: readonly number[]): number[] {
    const count = this.#stageCount
    const cheaper = new Set<number>()
    for (const stage of stages) {
      const node = this.#worth.length + stage
      const cost = this.#costs[node] as number
      for (let member = 0; member < this.#worth.length; member++) {
        if (this.#has[member * count + stage] === 0) continue
        const through = cost + (this.#worth[member]?.[stage] as number)
        if (through >= (this.#costs[member] as number)) continue
        this.#costs[member] = through
        this.#from[member] = node
        cheaper.add(member)
      }
    }
    return [...cheaper]
  }

  #nearest(): number | undefined {
    let nearest: number | undefined
    let least = Number.POSITIVE_INFINITY
    for (let stage = 0; stage < this.#stageCount; stage++) {
      const cost = this.#costs[this.#worth.length + stage] as number
      if ((this.#left[stage] as number) === 0 || cost >= least) continue
      nearest = stage
      least = cost
    }
    return nearest
  }

  #give(stage: number): void {
    const members = this.#worth.length
    this.#left[stage] = (this.#left[stage] as number) - 1
    let node = members + stage
    for (;;) {
      const source = this.#from[node] as number
      if (source === -1) break
      const [member, other] = node < members ? [node, source] : [source, node]
      this.#has[member * this.#stageCount + other - members] = node < members ? 0 : 1
      node = source
    }
    this.#taken[node] = (this.#taken[node] as number) + 1
  }
}
