/**
 * keyfold for Effect programs: queries as scoped effects, and the ports of a runtime as layers. Everything here is the same machinery that
 * the promises of "keyfold" run on.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { KeyfoldError } from "../errors.ts"
import type { Job } from "../job.ts"
import { Journal } from "../journal/journal.ts"
import { resolveLimits } from "../options.ts"
import { Ownership } from "../partition/ownership.ts"
import { connectorOf, type Runtime as RuntimeValue } from "../ports.ts"
import type { Query } from "../query.ts"
import { Sink } from "../sink/sink.ts"
import { Source } from "../source/source.ts"
import { type StartOptions, startQuery } from "../start.ts"

/** The runtime that queries of this program run on. */
export class Runtime extends Context.Service<Runtime, RuntimeValue>()("keyfold/Runtime") {
  static readonly layer = (runtime: RuntimeValue): Layer.Layer<Runtime> => Layer.succeed(Runtime, runtime)
}

/** Starts a job on the runtime of the context; the query stops with the scope. Fails as `start` rejects. */
export const query = (job: Job, options: Omit<StartOptions, "runtime"> = {}) =>
  Effect.acquireRelease(
    Effect.flatMap(Runtime, (runtime) => startQuery(job, { ...options, runtime })),
    (running) => Effect.promise(() => running.stop())
  )

/** Waits for a query's end; fails with what stopped it. */
export const awaitTermination = (running: Query): Effect.Effect<void, KeyfoldError> =>
  Effect.asVoid(Effect.tryPromise({ try: () => running.awaitTermination(), catch: (thrown) => thrown as KeyfoldError }))

/** The four ports of a runtime, connected as for a query, for as long as the layer lives. */
export const ports = (runtime: RuntimeValue): Layer.Layer<Source | Sink | Journal | Ownership, KeyfoldError> =>
  Layer.effectContext(
    Effect.map(connectorOf(runtime).query(resolveLimits()), ({ source, sink, journal, ownership }) =>
      Context.make(Source, source).pipe(Context.add(Sink, sink), Context.add(Journal, journal), Context.add(Ownership, ownership))
    )
  )

export { Journal, Ownership, Sink, Source }
