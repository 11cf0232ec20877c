/** What a server binary says of itself. */
import { execFile } from "node:child_process"

/** "2.9.10" of "nats-server: v2.9.10" and "7.0.15" of "Redis server v=7.0.15 sha=..."; undefined when it does not run here. */
export const versionOf = (program: string, args: readonly string[]): Promise<string | undefined> =>
  new Promise((answer) => {
    execFile(program, [...args, "--version"], { timeout: 20_000 }, (failure, stdout, stderr) => {
      answer(failure === null ? /\bv=?(\d+\.\d+\.\d+)/.exec(stdout + stderr)?.[1] : undefined)
    })
  })
