/** The runtime of a place: the one point where the command makes one. What it is made of is loaded when it is asked for. */
import type { Runtime } from "../index.ts"
import type { Place } from "./request-place.ts"

export const runtimeOf = async (place: Place): Promise<Runtime> => {
  if (place.kind === "embedded") return (await import("../runtime/embedded.ts")).embedded(place.data)
  return (await import("../runtime/clustered.ts")).clustered({ nats: place.nats, redis: place.redis })
}
