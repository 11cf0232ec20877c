/** A server of a test: started, killed, paused and started again, on the same port and the same directory. */
import type { ChildProcess } from "node:child_process"
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { pauseProcess } from "./pause.ts"
import { releasePort, takePort } from "./ports.ts"
import { serverDirectory, spawnReaped } from "./reaper.ts"
import { running, type ServerKind, type ServerVersion } from "./versions.ts"

export interface ServerPlan {
  readonly name: string
  readonly binary: ServerVersion
  readonly port: number
  readonly directory: string
  readonly url: string
  readonly args: readonly string[]
  /** Whether the process with this id answers. */
  readonly answers: (pid: number) => Promise<boolean>
}

const startMsMax = 30_000
const endMsMax = 10_000

export interface Server extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly version: string
  /** Its files: configuration, log, data. */
  readonly directory: string
  readonly isRunning: boolean
  /** Of the process that runs now: another one after a restart. */
  readonly pid: number
  /** What it wrote since it was first started. */
  readonly log: string
  /** After a kill: on the same port and directory. Returns when it answers. */
  start(): Promise<void>
  /** SIGKILL: what it had not written is lost. Its data stays for `restart`. */
  kill(): Promise<void>
  /** SIGTERM: it ends as it wishes, in order. */
  terminate(): Promise<void>
  /** SIGSTOP: it holds its connections and answers nothing more. */
  pause(): void
  resume(): void
  /** On the same port and directory; in order when it is running, after a kill from what is on disk. */
  restart(): Promise<void>
  /** Ends it and removes what it stored. */
  stop(): Promise<void>
}

class OwnServer implements Server {
  readonly plan: ServerPlan
  private child: ChildProcess | undefined
  private ended: Promise<void> = Promise.resolve()

  constructor(plan: ServerPlan) {
    this.plan = plan
  }

  get url(): string {
    return this.plan.url
  }

  get port(): number {
    return this.plan.port
  }

  get version(): string {
    return this.plan.binary.version
  }

  get directory(): string {
    return this.plan.directory
  }

  get isRunning(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null
  }

  get pid(): number {
    if (!this.isRunning) throw new Error(`${this.plan.name} is not running`)
    return this.child?.pid as number
  }

  get log(): string {
    return existsSync(this.logPath) ? readFileSync(this.logPath, "utf8") : ""
  }

  async start(): Promise<void> {
    if (this.isRunning) throw new Error(`${this.plan.name} is running already`)
    const { name, binary, args } = this.plan
    const output = openSync(this.logPath, "a")
    const child = spawnReaped(binary.program, [...binary.args, ...args], output)
    closeSync(output)
    this.child = child
    this.ended = new Promise((done) => {
      child.once("exit", () => done())
      child.once("error", () => done()) // the program could not be started
    })
    const endMs = performance.now() + startMsMax
    while (!(child.pid !== undefined && this.isRunning && (await this.plan.answers(child.pid)) && this.isRunning)) {
      if (child.pid === undefined || !this.isRunning) throw new Error(`${name} ended before it answered: ${this.logTail}`)
      if (performance.now() > endMs) throw new Error(`${name} does not answer within ${startMsMax} ms: ${this.logTail}`)
      await sleep(5)
    }
  }

  async kill(): Promise<void> {
    if (this.isRunning) this.child?.kill("SIGKILL")
    await this.end()
  }

  async terminate(): Promise<void> {
    if (this.isRunning) this.child?.kill("SIGTERM")
    this.resume()
    const impatience = setTimeout(() => this.child?.kill("SIGKILL"), endMsMax)
    await this.end()
    clearTimeout(impatience)
  }

  pause(): void {
    pauseProcess(this.pid)
  }

  resume(): void {
    if (this.isRunning) process.kill(this.pid, "SIGCONT")
  }

  async restart(): Promise<void> {
    await this.terminate()
    await this.start()
  }

  async stop(): Promise<void> {
    await this.kill()
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 })
    releasePort(this.port)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** A server that nobody waits for does not keep this process running; one that is waited for does. */
  private async end(): Promise<void> {
    if (this.isRunning) this.child?.ref()
    await this.ended
  }

  private get logPath(): string {
    return join(this.directory, "log")
  }

  private get logTail(): string {
    return this.log.trim().split("\n").slice(-8).join("\n")
  }
}

/** Starts what `planFor` says on a free port, on another one when somebody was faster; on `port` when it is given. */
export const startServer = async (
  name: string,
  planFor: (port: number, directory: string) => ServerPlan,
  port?: number
): Promise<Server> => {
  for (let attempt = 1; ; attempt++) {
    const server = new OwnServer(planFor(port ?? (await takePort()), serverDirectory(name)))
    try {
      await server.start()
      return server
    } catch (failure) {
      const taken = /address already in use/i.test(server.log)
      await server.stop()
      if (!taken || port !== undefined || attempt === 5) throw failure
    }
  }
}

/** All of them, or none: when one cannot be started, those that could are stopped. */
export const startAll = async (starting: readonly Promise<Server>[]): Promise<readonly Server[]> => {
  const results = await Promise.allSettled(starting)
  const servers = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []))
  const failure = results.find((result) => result.status === "rejected")
  if (failure === undefined) return servers
  await Promise.all(servers.map((server) => server.stop()))
  throw failure.reason
}

/** A server that somebody else runs. It is not ours to stop, and what tests store in it stays. */
export const serverThatRuns = (kind: ServerKind, url: string): Server => {
  const refuse = (): never => {
    throw new Error(`${url} is not the tests' own: what kills, pauses or looks inside needs a ${kind}-server that tests can start`)
  }
  return {
    url,
    port: Number(new URL(url).port || (kind === "nats" ? 4222 : 6379)),
    version: running,
    isRunning: true,
    log: "",
    get directory() {
      return refuse()
    },
    get pid() {
      return refuse()
    },
    start: refuse,
    kill: refuse,
    terminate: refuse,
    pause: refuse,
    resume: refuse,
    restart: refuse,
    stop: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve()
  }
}

export const sleep = (milliseconds: number): Promise<void> => new Promise((wake) => setTimeout(wake, milliseconds))
