/**
 * Signals that come while the command is still loading, its own files or the job's module: nothing has begun, so it ends at once, drained.
 * Whoever takes over the signals says so.
 */
const leaveAtOnce = (): void => process.exit(0)

export const listenEarly = (): void => {
  process.on("SIGINT", leaveAtOnce)
  process.on("SIGTERM", leaveAtOnce)
}

export const stopListeningEarly = (): void => {
  process.off("SIGINT", leaveAtOnce)
  process.off("SIGTERM", leaveAtOnce)
}
