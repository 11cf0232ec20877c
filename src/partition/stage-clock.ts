/**
 * What the partitions of one stage tell each other about event time, within this process: an idle partition adopts the minimum of the
 * active ones (W6). One for the stage's own watermarks, one for those of a `withWatermark` behind it.
 */
import { adoptedWatermark, type SiblingClock } from "../model/event-clock.ts"

export class StageClock {
  readonly #siblings = new Map<number, SiblingClock>()

  tell(partition: number, clock: SiblingClock): void {
    this.#siblings.set(partition, clock)
  }

  /** Whether others have anything to say at all. */
  get hasActive(): boolean {
    for (const sibling of this.#siblings.values()) if (!sibling.idle) return true
    return false
  }

  /** What an idle partition takes over; undefined for nothing. */
  adoptable(): number | undefined {
    return adoptedWatermark([...this.#siblings.values()])
  }
}
