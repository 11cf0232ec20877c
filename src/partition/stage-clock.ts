/**
 * What the partitions of one stage tell each other about event time: an idle partition adopts the minimum of the active ones (W6). One for
 * the stage's own watermarks, one for those of a `withWatermark` behind it. Partitions of this process tell it themselves, those of others
 * through `heard`; one that nobody has spoken for yet counts as active, and holds the others where they are.
 */
import { adoptedWatermark, type SiblingClock } from "../model/event-clock.ts"

export class StageClock {
  readonly #count: number
  readonly #heard: (partition: number) => SiblingClock | undefined
  readonly #own = new Map<number, SiblingClock>()

  constructor(count: number, heard: (partition: number) => SiblingClock | undefined) {
    this.#count = count
    this.#heard = heard
  }

  tell(partition: number, clock: SiblingClock): void {
    this.#own.set(partition, clock)
  }

  /** It is no longer this process's to tell. */
  forget(partition: number): void {
    this.#own.delete(partition)
  }

  /** Whether others have anything to say at all. */
  get hasActive(): boolean {
    return this.#siblings().some((sibling) => !sibling.idle)
  }

  /** What an idle partition takes over; undefined for nothing. */
  adoptable(): number | undefined {
    return adoptedWatermark(this.#siblings())
  }

  #siblings(): readonly SiblingClock[] {
    return Array.from({ length: this.#count }, (_, partition) => this.#own.get(partition) ?? this.#heard(partition) ?? unknown)
  }
}

const unknown: SiblingClock = Object.freeze({ watermarkMs: 0, idle: false, shown: false })
