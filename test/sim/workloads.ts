/**
 * The jobs that the simulator runs, each with events of a seed and a plain sequential model that says what must come out, and in which order
 * per key. Functions that are called at a wrong time, with a wrong state or in a wrong order say so in what they put out: a call whose turn
 * is never committed, because Redis has gone back meanwhile, may see anything.
 */
import type { Dice } from "../../src/simulation/dice.ts"
import type { Work } from "./work.ts"
import { counting } from "./workloads/counting.ts"
import { deadlines } from "./workloads/deadlines.ts"
import { reminders } from "./workloads/reminders.ts"
import { sessionsInTwoHops } from "./workloads/sessions-in-two-hops.ts"

export const workloads: Readonly<Record<string, (dice: Dice) => Work>> = {
  counting,
  "sessions in two hops": sessionsInTwoHops,
  reminders,
  deadlines
}
