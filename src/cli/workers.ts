/**
 * `keyfold run --workers N`: N processes of the same command, each a worker of the cluster. Runs no job itself: starts them, hands signals on,
 * starts again what has crashed, and ends when all have ended.
 *
 *   started ──exits with 0──────────────────────────────▶ ended
 *    │    ▲ ──fails or is refused (1, 2)────────────────▶ ended, and the others are drained
 *    │    └──after a pause── any other end: a signal, a crash
 *    └──a signal came, or another worker failed──▶ draining ──▶ ended
 */
import { type ChildProcess, spawn } from "node:child_process"
import { workerVariable } from "./early-signals.ts"
import { LineSplitter } from "./lines.ts"
import type { ExitCode } from "./refusal.ts"
import { type EndSignal, onEverySignal, pause, type Terminal } from "./terminal.ts"

/** What a worker runs: a program and its arguments. */
export type Program = readonly [path: string, ...args: string[]]

/** `args`: of the command, as they were typed. */
export const runWorkers = async (
  count: number,
  args: readonly string[],
  terminal: Terminal,
  program: Program = ownProgram()
): Promise<ExitCode> => {
  const workers = new Workers([...program, ...withoutWorkers(args)], terminal)
  const forget = onEverySignal((signal, times) => workers.signal(signal, times))
  terminal.say(`starting ${count} workers`)
  try {
    return worstOf(await Promise.all(Array.from({ length: count }, (_, index) => workers.keep(index + 1))))
  } finally {
    forget()
  }
}

/** The same words but for `--workers N`. What stands after `--` is no option. */
export const withoutWorkers = (args: readonly string[]): readonly string[] => {
  const end = args.includes("--") ? args.indexOf("--") : args.length
  return args.filter((word, index) => index >= end || !(isWorkersOption(word) || args[index - 1] === "--workers"))
}

/** 0 is better than left early, that better than failed, that better than refused. */
export const worstOf = (codes: readonly ExitCode[]): ExitCode => {
  const worst = Math.max(0, ...codes.map((code) => severity.indexOf(code)))
  return severity[worst] ?? 0
}

/** How long to wait before a worker that has crashed starts again: twice as long each time that it did not live long. */
export const restartMsAfter = (crashes: number): number => Math.min(restartMsMax, restartMsMin * 2 ** Math.max(0, crashes - 1))

const severity: readonly ExitCode[] = [0, 130, 143, 1, 2]
const restartMsMin = 500
const restartMsMax = 30_000
/** Who has lived so long starts again as if for the first time. */
const calmMs = 60_000
/** For what a worker has said last, when somebody else keeps its stderr open. */
const lastWordsMsMax = 1_000

const isWorkersOption = (word: string): boolean => word === "--workers" || word.startsWith("--workers=")

/** This process's own: node, its options, and the command's file. */
const ownProgram = (): Program => [process.execPath, ...process.execArgv, process.argv[1] as string]

/** How a process has ended; neither: it could not be started. */
interface End {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

class Workers {
  readonly #program: Program
  readonly #terminal: Terminal
  readonly #alive = new Set<ChildProcess>()
  readonly #draining = Promise.withResolvers<void>()
  #isDraining = false

  constructor(program: readonly string[], terminal: Terminal) {
    this.#program = program as Program
    this.#terminal = terminal
  }

  /** Hands a signal on. The first drains; the second leaves at once; nobody waits for what hears neither. */
  signal(signal: EndSignal, times: number): void {
    if (times === 1) this.#terminal.say(`${signal}: draining the workers; a second signal leaves at once and loses nothing`)
    this.#drain(times > 2 ? "SIGKILL" : signal)
  }

  /** Keeps one worker running until it has ended for good; answers its exit code. */
  async keep(number: number): Promise<ExitCode> {
    let crashes = 0
    while (!this.#isDraining) {
      const startedMs = this.#terminal.nowMs()
      const end = await this.#run(number)
      const exitCode = severity.find((code) => code === end.code)
      if (exitCode === 1 || exitCode === 2) this.#failed(number, exitCode)
      if (exitCode !== undefined) return exitCode
      // Ended by our own signal: it had not begun.
      if (this.#isDraining) return end.signal === "SIGINT" || end.signal === "SIGTERM" ? 0 : 1
      crashes = this.#terminal.nowMs() - startedMs > calmMs ? 1 : crashes + 1
      const waitMs = restartMsAfter(crashes)
      this.#terminal.say(`[worker ${number}] ${told(end)}: it starts again in ${waitMs / 1_000} s`)
      await Promise.race([pause(waitMs), this.#draining.promise])
    }
    return 0
  }

  /** Once: a second signal would make the others leave at once. */
  #failed(number: number, exitCode: ExitCode): void {
    if (this.#isDraining) return
    this.#terminal.say(`[worker ${number}] ended with ${exitCode}: draining the others`)
    this.#drain("SIGTERM")
  }

  #drain(signal: NodeJS.Signals): void {
    this.#isDraining = true
    this.#draining.resolve()
    for (const child of this.#alive) child.kill(signal)
  }

  async #run(number: number): Promise<End> {
    const [path, ...args] = this.#program
    // In a group of its own: Ctrl-C at the terminal reaches the supervisor alone, which hands it on once.
    const child = spawn(path, args, {
      stdio: ["ignore", "inherit", "pipe", "ipc"],
      detached: true,
      env: { ...process.env, [workerVariable]: String(number) }
    })
    this.#alive.add(child)
    const said = this.#repeat(child, number)
    const end = await endOf(child)
    this.#alive.delete(child)
    await Promise.race([said, pause(lastWordsMsMax)])
    return end
  }

  /** Says what a worker says, line by line; completes when it has closed its stderr. */
  #repeat(child: ChildProcess, number: number): Promise<void> {
    const lines = new LineSplitter()
    const say = ({ bytes }: { readonly bytes: Uint8Array }): void =>
      this.#terminal.say(`[worker ${number}] ${Buffer.from(bytes).toString("utf8")}`)
    child.stderr?.on("data", (chunk: Uint8Array) => lines.push(chunk).forEach(say))
    return new Promise((resolve) => {
      child.once("close", () => {
        lines.end().forEach(say)
        resolve()
      })
    })
  }
}

const endOf = (child: ChildProcess): Promise<End> =>
  new Promise((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }))
    child.on("error", () => child.pid === undefined && resolve({ code: null, signal: null }))
  })

const told = ({ code, signal }: End): string => {
  if (signal !== null) return `was ended by ${signal}`
  return code === null ? "could not be started" : `ended with ${code}`
}
