/** Where reading of a partition begins: right behind the position that this answers. */
import type * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { TopicPartition } from "../model/record.ts"
import type { StartAt } from "../model/stage.ts"
import type { Source } from "./source.ts"

export const startPosition = (
  source: Pick<Source["Service"], "lastPosition" | "positionBefore" | "resumeAfter">,
  startAt: StartAt,
  of: TopicPartition
): Effect.Effect<number, KeyfoldError> => {
  if (startAt === "latest") return source.lastPosition(of)
  return startAt === "earliest" ? source.resumeAfter(of, 0) : source.positionBefore(of, startAt.time)
}
