/** Stops a process without ending it. SIGSTOP alone returns while threads still run: they may answer once more. */
import { existsSync, readdirSync, readFileSync } from "node:fs"

/** Returns when no thread of it runs any more. `process.kill(pid, "SIGCONT")` lets it go on. */
export const pauseProcess = (pid: number): void => {
  process.kill(pid, "SIGSTOP")
  const endMs = performance.now() + pauseMsMax
  while (!isPaused(pid)) {
    if (performance.now() > endMs) throw new Error(`process ${pid} does not stop within ${pauseMsMax} ms`)
    Atomics.wait(clock, 0, 0, 1)
  }
}

const pauseMsMax = 10_000
const clock = new Int32Array(new SharedArrayBuffer(4))

/** Every thread is stopped; one that has just ended counts as well. Where there is no /proc we take the system's word. */
const isPaused = (pid: number): boolean =>
  !existsSync("/proc/self/task") || readdirSync(`/proc/${pid}/task`).every((thread) => /\) [TtZX]/.test(stateOf(pid, thread)))

const stateOf = (pid: number, thread: string): string => {
  try {
    return readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8")
  } catch {
    return ") X"
  }
}
