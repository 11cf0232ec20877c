/**
 * What ends a process from outside while the command is still loading, its own files or the job's module: a signal, or the end of the process
 * that started it as a worker. Nothing has begun, so it ends at once, drained. Whoever takes over the signals says so.
 */

/** Set for a process that `keyfold run --workers` has started. */
export const workerVariable = "KEYFOLD_WORKER"

/** A worker has a channel to its supervisor: when that closes, the supervisor is gone, however it ended. */
export const isWorker = process.env[workerVariable] !== undefined && process.send !== undefined
// What a job's module starts is no worker of ours.
delete process.env[workerVariable]

const leaveAtOnce = (): void => process.exit(0)

export const listenEarly = (): void => {
  process.on("SIGINT", leaveAtOnce)
  process.on("SIGTERM", leaveAtOnce)
  if (!isWorker) return
  process.on("disconnect", leaveAtOnce)
  if (!process.connected) leaveAtOnce()
}

export const stopListeningEarly = (): void => {
  process.off("SIGINT", leaveAtOnce)
  process.off("SIGTERM", leaveAtOnce)
  process.off("disconnect", leaveAtOnce)
}
