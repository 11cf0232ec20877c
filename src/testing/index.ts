/** The testing kit: unit tests of state functions, whole jobs on a virtual clock, and the runtime that needs nothing. */
export type { DeadLetter } from "../model/dead-letter.ts"
export { memory } from "../runtime/memory.ts"
export { type GroupStateOptions, groupState, type TestState } from "./group-state.ts"
export { type Harness, type HarnessOptions, harness, type TurnResult } from "./harness.ts"
export { type SimulateReport, simulate } from "./simulate.ts"
export type { SimulatedFault, SimulateOptions } from "./simulate-options.ts"
