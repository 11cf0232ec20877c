/**
 * The numbers of today's formats, and the fixtures of all that there have been: fixtures/embedded-<file>/ and
 * fixtures/clustered-<journal>-<entry>-<topic>/. Whoever raises a number here adds a fixture (make-fixtures.ts) and leaves the others: a
 * format that was released once is opened for ever.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import { formatVersion as entryFormat } from "../../src/journal/entry.ts"
import { formatNewest as topicFormat } from "../../src/source/jetstream-topics.ts"
import { journalFormat } from "../../src/storage/redis-fence.ts"
import { formatVersion as fileFormat } from "../../src/storage/schema.ts"

export const formatsToday = { file: fileFormat, journal: journalFormat, entry: entryFormat, topic: topicFormat }

export type FormatKind = keyof typeof formatsToday

const root = join(import.meta.dirname, "fixtures")

export const embeddedToday = `embedded-${fileFormat}`
export const clusteredToday = `clustered-${journalFormat}-${entryFormat}-${topicFormat}`

export const fixtureFolder = (name: string): string => join(root, name)

export const fixturesOf = (kind: "embedded" | "clustered"): readonly string[] =>
  existsSync(root)
    ? readdirSync(root)
        .filter((name) => name.startsWith(`${kind}-`))
        .toSorted()
    : []

/** A file of a fixture; they are packed. */
export const fixtureFile = (fixture: string, name: string): Buffer => gunzipSync(readFileSync(join(root, fixture, `${name}.gz`)))

/** What a stopped job comes to when it goes on: every line, in an order of its own. */
export const expectedLines = (fixture: string): readonly string[] =>
  readFileSync(join(root, fixture, "expected.jsonl"), "utf8")
    .trim()
    .split("\n")
