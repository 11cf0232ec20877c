/** The runtime of a place: the one point where the command makes one. What it is made of is loaded when it is asked for. */
import type { Runtime } from "../index.ts"
import { misuse } from "./refusal.ts"
import type { Place } from "./request-place.ts"

export const runtimeOf = async (place: Place): Promise<Runtime> => {
  if (place.kind === "embedded") return (await import("../runtime/embedded.ts")).embedded(place.data)
  // TO SWITCH ON, once src/runtime/clustered.ts is there:  return (await import("../runtime/clustered.ts")).clustered(place)
  throw misuse("the clustered runtime is not in this version", "Give --data DIR, or nothing for ./.keyfold.")
}
