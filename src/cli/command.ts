/** From a command line to an exit code. A command's own code is loaded when it is asked for, so help is quick. */
import { createRequire } from "node:module"
import { parseCommandLine } from "./arguments.ts"
import { failureReport } from "./failure.ts"
import { helpOf } from "./help.ts"
import type { ExitCode } from "./refusal.ts"
import { type Request, requestOf } from "./request.ts"
import type { Environment } from "./request-place.ts"
import { print, StderrTerminal, type Terminal } from "./terminal.ts"

/** Never throws: what goes wrong is said on stderr. */
export const command = async (args: readonly string[], environment: Environment): Promise<ExitCode> => {
  const terminal = new StderrTerminal()
  try {
    return await answer(args, environment, terminal)
  } catch (thrown) {
    terminal.clear()
    const { lines, exitCode } = failureReport(thrown)
    for (const line of lines) terminal.say(line)
    return exitCode
  }
}

const answer = async (args: readonly string[], environment: Environment, terminal: Terminal): Promise<ExitCode> => {
  const parsed = parseCommandLine(args)
  switch (parsed.kind) {
    case "help":
      await print(helpOf(parsed.command))
      return 0
    case "version":
      await print(`${versionOf()}\n`)
      return 0
    case "nothing":
      terminal.say(helpOf(undefined).trimEnd())
      return 2
    case "command":
      return perform(requestOf(parsed, environment), args, terminal)
    default:
      return parsed satisfies never
  }
}

const perform = async (request: Request, args: readonly string[], terminal: Terminal): Promise<ExitCode> => {
  switch (request.kind) {
    case "run":
      if (request.workers > 1) return (await import("./workers.ts")).runWorkers(request.workers, args, terminal)
      return (await import("./run.ts")).runJobs(request, terminal)
    case "publish":
      return (await import("./publish.ts")).publishLines(request, terminal)
    case "tail":
      return (await import("./tail.ts")).tailTopic(request, terminal)
    case "explain":
      return (await import("./explain.ts")).explainJobs(request)
    default:
      return request satisfies never
  }
}

/** The package knows itself by name, from the sources and from dist alike. */
const versionOf = (): string => (createRequire(import.meta.url)("keyfold/package.json") as { readonly version: string }).version
