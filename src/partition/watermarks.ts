/**
 * The watermarks of one partition: where its inputs put its own, and what of the outgoing one the next stage has been told. Owns which inputs
 * are idle and what was sent; what lasts is in the progress, and the partition's turns make it last.
 */
import { encodeWatermark } from "../model/envelope.ts"
import type { WatermarkDeclaration } from "../model/operator.ts"
import type { PartitionParts } from "./ports.ts"
import type { Progress } from "./progress.ts"
import { clockAfter, outgoingAfter, shownWatermark, type Taken } from "./time-keeping.ts"

type WatermarkParts = Pick<PartitionParts, "stage" | "partition" | "inputs" | "outgoing" | "downstream">

const sendMsEvery = 200

export class Watermarks {
  readonly #parts: WatermarkParts
  readonly #idle: boolean[]
  readonly #declaredBehind: WatermarkDeclaration | undefined
  #sentMs = 0
  #sentAtMs = Number.NEGATIVE_INFINITY

  constructor(parts: WatermarkParts) {
    this.#parts = parts
    this.#idle = parts.inputs.map(() => false)
    this.#declaredBehind = parts.stage.operators.find((operator) => operator.kind === "watermark")?.declaration
  }

  get isIdle(): boolean {
    return this.#idle.every((idle) => idle)
  }

  setIdle(input: number, idle: boolean): void {
    this.#idle[input] = idle
  }

  /** As the inputs alone put it now. */
  shownMs(progress: Pick<Progress, "watermarkMs" | "clocks">): number {
    return shownWatermark(progress, this.#parts.inputs, this.#idle)
  }

  /** What a turn at this clock leaves, when it has taken this from each input. */
  after(before: Progress, taken: readonly Taken[], nowMs: number): Pick<Progress, MovedByTurn> {
    const { stage, outgoing } = this.#parts
    const clocks = before.clocks.map((clock, index) => clockAfter(clock, taken[index] as Taken, nowMs))
    const watermarkMs = stage.hasWatermark ? this.shownMs({ watermarkMs: before.watermarkMs, clocks }) : 0
    return { clocks, watermarkMs, ...outgoingAfter(before, { watermarkMs, newestMs: outgoing.newestMs }, this.#declaredBehind) }
  }

  /** When a watermark that the next stage does not know yet should go out; undefined: it knows (P24). */
  unsentAtMs({ outgoingWatermarkMs }: Progress): number | undefined {
    if (this.#parts.downstream === undefined || outgoingWatermarkMs <= this.#sentMs) return undefined
    return this.#sentAtMs + sendMsEvery
  }

  /**
   * P24: after all rows of the turn and its follow-ups, to every partition of the internal topic, at most every 200 ms; what waits is sent by
   * the partition's `sendWatermark`. `always`: without waiting.
   */
  append(progress: Progress, always: boolean): void {
    const { downstream, outgoing, partition } = this.#parts
    const atMs = this.unsentAtMs(progress)
    if (downstream === undefined || atMs === undefined || progress.followUp) return
    if (!always && progress.nowMs < atMs) return
    const payload = encodeWatermark({ watermarkMs: progress.outgoingWatermarkMs, upstream: partition })
    for (let target = 0; target < downstream.partitions; target++)
      outgoing.appendOwn({ topic: downstream.topic, partition: target, payload })
    this.#sentMs = progress.outgoingWatermarkMs
    this.#sentAtMs = progress.nowMs
  }
}

type MovedByTurn = "clocks" | "watermarkMs" | "outgoingNewestMs" | "outgoingWatermarkMs"
