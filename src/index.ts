/** The public surface of keyfold. */
export { type ErrorCode, type Fault, KeyfoldError } from "./errors.ts"
export { explain } from "./explain.ts"
export { type Flow, type FromOptions, type Groups, type Job, type JobOptions, job, type Sources, type WatermarkOptions } from "./job.ts"
export {
  type Actor,
  type Context,
  defineActor,
  type FlatMapOptions,
  type MapOptions,
  type StateFunction,
  type Synchronous
} from "./model/actor.ts"
export type { Codec } from "./model/codec.ts"
export type { DeadLetter } from "./model/dead-letter.ts"
export { type Duration, toDurationMs } from "./model/duration.ts"
export type { GroupState, TimeoutKind } from "./model/group-state.ts"
export type { KeyOf } from "./model/key.ts"
export type { RecordInfo } from "./model/record.ts"
export { type Frozen, foreachTurn, type Sink, type Source, stream, type Topic, topic, type Unkeyed } from "./model/topic.ts"
export type { Limits } from "./options.ts"
export type { Runtime } from "./ports.ts"
export { type Publisher, publisher } from "./publisher.ts"
export type { Query } from "./query.ts"
export { type ReadOptions, type ReadRecord, read } from "./read.ts"
export { type StartOptions, start, type Trigger } from "./start.ts"
export type { Progress } from "./telemetry/progress.ts"
