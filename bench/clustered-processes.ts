/** Processes that a bench needs besides its own: workers, and whoever publishes. All of them end with it. */
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import type { ClusteredOptions } from "keyfold/clustered"
import type { LoadOrder, LoadReport } from "./clustered-load.ts"

class Helper {
  readonly #process: ChildProcess
  readonly #ended: Promise<void>

  constructor(script: string, args: readonly string[]) {
    this.#process = fork(join(import.meta.dirname, script), args, { execArgv: ["--conditions=keyfold-source"] })
    this.#ended = new Promise((ended) => this.#process.once("exit", () => ended()))
  }

  get pid(): number {
    return this.#process.pid as number
  }

  tell(message: string | object): void {
    this.#process.send(message)
  }

  /** The next thing that it says; fails when it ends instead. */
  async heard<T>(): Promise<T> {
    const said = new Promise<T>((heard) => this.#process.once("message", (message) => heard(message as T)))
    const ended = this.#ended.then(() => Promise.reject(new Error("a process of the bench ended before it was through")))
    return Promise.race([said, ended])
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL")
    await this.#ended
  }

  async stopped(): Promise<void> {
    this.tell("stop")
    await this.#ended
  }
}

export const startWorker = async (servers: ClusteredOptions, name: string): Promise<Helper> => {
  const worker = new Helper("clustered-worker.ts", [JSON.stringify(servers), name])
  await worker.heard()
  return worker
}

export type Worker = Helper

export class Load {
  readonly #process: Helper

  private constructor(process: Helper) {
    this.#process = process
  }

  static async start(natsUrl: string, name: string): Promise<Load> {
    const load = new Helper("clustered-load.ts", [natsUrl, name])
    await load.heard()
    return new Load(load)
  }

  async fill(users: number): Promise<void> {
    await this.#order({ fill: users })
  }

  async burst(users: number, count: number): Promise<void> {
    await this.#order({ users, burst: count })
  }

  begin(users: number, rate: number): void {
    this.#process.tell({ users, rate } satisfies LoadOrder)
  }

  end(): Promise<LoadReport> {
    return this.#order({ users: 1, rate: 0 })
  }

  kill(): Promise<void> {
    return this.#process.kill()
  }

  #order(order: LoadOrder): Promise<LoadReport> {
    const report = this.#process.heard<LoadReport>()
    this.#process.tell(order)
    return report
  }
}
