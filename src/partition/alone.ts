/** Membership where one process runs the whole query: everything is its own, and there is nobody to tell. */
import * as Effect from "effect/Effect"
import type { Member, Membership } from "./membership.ts"

export const alone: Membership["Service"] = { join: () => Effect.succeed(onlyMember) }

const onlyMember: Member = {
  isOurs: () => true,
  changed: Effect.never,
  post: () => undefined,
  gone: () => undefined,
  news: () => new Map()
}
