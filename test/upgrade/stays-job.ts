/**
 * The job of the upgrade fixtures: pages that users look at become stays, stays become totals of a group. Two hops, keys that are objects,
 * states of two codecs, timeouts in both stages, and besides the topic a sink of its own.
 *
 * It never changes: fixtures of every format were written by it, and must go on with it. Its results do not depend on how events are cut
 * into turns, nor on the order in which the partitions of the first stage are heard.
 */
import { foreachTurn, type Job, job, topic } from "keyfold"
import { avro } from "keyfold/codecs/avro"
import { json } from "keyfold/codecs/json"

export interface Visit {
  readonly user: string
  readonly site: string
  readonly at: number
}

interface Stay {
  readonly user: string
  readonly site: string
  readonly start: number
  readonly end: number
  readonly pages: number
}

interface Group {
  readonly stays: number
  readonly pages: number
  readonly users: readonly string[]
  readonly lastMs: number
}

/** A stay by itself, or what a group has come to when it was quiet for long enough. */
export type Line = (Stay & { readonly kind: "stay" }) | (Omit<Group, "lastMs"> & { readonly kind: "group"; readonly group: string })

export const visits = topic("visits", { codec: json<Visit>(), key: (visit) => visit.user, partitions: 2 })
export const lines = topic("lines", { codec: json<Line>(), key: groupOfLine, partitions: 2 })

function groupOfLine(line: Line): string {
  return line.kind === "group" ? line.group : line.site
}

const gapMs = 10_000
const quietMs = 100_000

const groupCodec = avro<Group>({
  type: "record",
  name: "Group",
  fields: [
    { name: "stays", type: "int" },
    { name: "pages", type: "long" },
    { name: "users", type: { type: "array", items: "string" } },
    { name: "lastMs", type: "double" }
  ]
})

/** `mail` gets every line as well. */
export const staysJob = (mail: (lines: readonly Line[]) => Promise<void>): Job =>
  job("stays")
    .from(visits)
    .withWatermark((visit) => visit.at, "1 second")
    .groupByKey(({ user, site }) => ({ user, site }))
    .flatMapGroupsWithState({ name: "stay", state: json<Stay>(), timeout: "event-time" }, function* (key, found, state) {
      let stay = state.getOption()
      for (const { at } of found) {
        if (stay !== undefined && at - stay.end >= gapMs) {
          yield stay
          stay = undefined
        }
        stay = { ...key, start: stay?.start ?? at, end: at, pages: (stay?.pages ?? 0) + 1 }
      }
      if (stay === undefined) return
      if (state.hasTimedOut) {
        yield stay
        state.remove()
        return
      }
      state.update(stay)
      state.setTimeoutTimestamp(stay.end, gapMs)
    })
    .withWatermark((stay) => stay.end, "1 hour")
    .groupByKey((stay) => stay.site)
    .flatMapGroupsWithState({ name: "total", state: groupCodec, timeout: "event-time" }, function* (group, found, state) {
      let open = state.getOption()
      for (const stay of found) {
        yield { kind: "stay", ...stay } as Line
        if (open !== undefined && stay.start - open.lastMs >= quietMs) {
          yield closed(group, open)
          open = undefined
        }
        open = withStay(open, stay)
      }
      if (open === undefined) return
      if (state.hasTimedOut) {
        yield closed(group, open)
        state.remove()
        return
      }
      state.update(open)
      state.setTimeoutTimestamp(Math.max(open.lastMs + quietMs, state.getCurrentWatermarkMs()))
    })
    .to(
      lines,
      foreachTurn<Line>("mail", (values) => mail(values))
    )

const withStay = (open: Group | undefined, { user, end, pages }: Stay): Group => ({
  stays: (open?.stays ?? 0) + 1,
  pages: (open?.pages ?? 0) + pages,
  users: [...new Set([...(open?.users ?? []), user])].toSorted(),
  lastMs: Math.max(open?.lastMs ?? 0, end)
})

const closed = (group: string, { stays, pages, users }: Group): Line => ({ kind: "group", group, stays, pages, users })

// ---- the events: what the fixtures have, and what comes after the upgrade

const users = ["ann", "bob", "c\u00e9line", "d\u{1f600}", "eve", "fay"]
const sites = ["docs", "shop"]
const startMs = 1_700_000_000_000

/** One page of each user on each site, every few seconds; a user who leaves is back after `awayMs`. */
const pages = (fromMs: number, rounds: number, awayMs: number): readonly Visit[] =>
  Array.from({ length: rounds }, (_, round) =>
    users.flatMap((user, index) =>
      sites.map((site, place) => ({ user, site, at: fromMs + round * 3_000 + index * 100 + place + (round >= index + 2 ? awayMs : 0) }))
    )
  ).flat()

/** Until the first checkpoint, and until the kill: stays end, groups are open. */
export const visitsBefore: readonly (readonly Visit[])[] = [pages(startMs, 5, 15_000), pages(startMs + 60_000, 3, 0)]

/** Long after: what was open ends with them. */
export const visitsAfter: readonly Visit[] = pages(startMs + 900_000, 6, 0)

/** In an order of their own. */
export const lineTexts = (found: readonly Line[]): readonly string[] =>
  found
    .map((line) => JSON.stringify(Object.fromEntries(Object.entries(line).toSorted(([left], [right]) => (left < right ? -1 : 1)))))
    .toSorted()
