/** Where the topics and journals of a command are: a directory, or servers. From options and the environment. Pure. */
import type { CommandLine } from "./arguments.ts"
import type { OptionName } from "./command-line.ts"
import { misuse } from "./refusal.ts"
import { shownUrl } from "./shown-url.ts"

/** The environment variables that the command reads. */
export type Environment = Readonly<Record<string, string | undefined>>

export type Place =
  | { readonly kind: "embedded"; readonly data: string }
  | { readonly kind: "clustered"; readonly nats: string; readonly redis: string }

export const dataDefault = "./.keyfold"

/** Throws a Refusal. What options name beats what the environment names: `--data` works where KEYFOLD_NATS is set for something else. */
export const requestedPlace = (line: CommandLine, environment: Environment): Place => {
  const options = namedBy((name) => line.values.get(name)?.[0], optionOf)
  if (options.data !== undefined) return embeddedPlace(options)
  const variables = namedBy((name) => environment[variableOf(name)], variableOf)
  if (options.nats === undefined && options.redis === undefined) return embeddedPlace(variables)
  return clusteredPlace({ nats: options.nats ?? variables.nats, redis: options.redis ?? variables.redis })
}

/** For people: without user names and passwords. */
export const shownPlace = (place: Place): string =>
  place.kind === "embedded" ? place.data : `${shownUrl(place.nats)} and ${shownUrl(place.redis)}`

type PlaceName = Extract<OptionName, "data" | "nats" | "redis">

/** What somebody has named, and what it is called where it was named. */
interface Named {
  readonly value: string
  readonly source: string
}

type NamedPlaces = Readonly<Partial<Record<PlaceName, Named | undefined>>>

const optionOf = (name: PlaceName): string => `--${name}`
const variableOf = (name: PlaceName): string => `KEYFOLD_${name.toUpperCase()}`

const namedBy = (textOf: (name: PlaceName) => string | undefined, sourceOf: (name: PlaceName) => string): NamedPlaces => {
  const named = (name: PlaceName): Named | undefined => {
    const value = textOf(name) ?? ""
    return value === "" ? undefined : { value, source: sourceOf(name) }
  }
  return { data: named("data"), nats: named("nats"), redis: named("redis") }
}

const embeddedPlace = ({ data, nats, redis }: NamedPlaces): Place => {
  const server = nats ?? redis
  if (data !== undefined && server !== undefined) {
    throw misuse(
      `${data.source} and ${server.source} name two places: a directory, and servers`,
      "Give --data DIR for the embedded runtime, or --nats URL --redis URL for the clustered one."
    )
  }
  return server === undefined ? { kind: "embedded", data: data?.value ?? dataDefault } : clusteredPlace({ nats, redis })
}

const clusteredPlace = ({ nats, redis }: NamedPlaces): Place => {
  if (nats !== undefined && redis !== undefined) return { kind: "clustered", nats: nats.value, redis: redis.value }
  const [given, missing] = nats === undefined ? ([redis, "nats"] as const) : ([nats, "redis"] as const)
  throw misuse(
    `${given?.source} asks for the clustered runtime, which needs ${missing === "nats" ? "NATS" : "Redis"} too`,
    `Add --${missing} URL, or set ${variableOf(missing)}.`
  )
}
