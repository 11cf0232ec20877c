/** What a command is asked to do: the words and options of the command line, checked, with the environment's defaults. Pure. */
import type { CommandLine } from "./arguments.ts"
import { misuse } from "./refusal.ts"
import { type Environment, type Place, requestedPlace } from "./request-place.ts"

export interface RunRequest {
  readonly kind: "run"
  readonly module: string
  readonly place: Place
  /** Empty: every job of the module. */
  readonly jobs: readonly string[]
  readonly untilCaughtUp: boolean
  readonly close: boolean
  /** Whether to go on where the journal has lost what was already published (P4). */
  readonly acceptLoss: boolean
  /** Processes; more than one on the clustered runtime only. */
  readonly workers: number
}

export interface PublishRequest {
  readonly kind: "publish"
  readonly module: string
  readonly place: Place
  readonly topic: string
  /** Undefined: standard input. */
  readonly file: string | undefined
}

export interface TailRequest {
  readonly kind: "tail"
  readonly module: string
  readonly place: Place
  readonly topic: string
  readonly follow: boolean
  readonly meta: boolean
}

export interface ExplainRequest {
  readonly kind: "explain"
  readonly module: string
}

export type Request = RunRequest | PublishRequest | TailRequest | ExplainRequest

/** Throws a Refusal. */
export const requestOf = (line: CommandLine, environment: Environment): Request => {
  const [module = "", topic = "", file] = line.words
  switch (line.command) {
    case "run":
      return { kind: "run", module, ...runOptions(line, requestedPlace(line, environment)) }
    case "publish":
      return { kind: "publish", module, place: requestedPlace(line, environment), topic, file: file === "-" ? undefined : file }
    case "tail":
      return {
        kind: "tail",
        module,
        place: requestedPlace(line, environment),
        topic,
        follow: line.flags.has("follow"),
        meta: line.flags.has("meta")
      }
    case "explain":
      return { kind: "explain", module }
    case "help":
      throw misuse("help is answered before")
    default:
      return line.command satisfies never
  }
}

const runOptions = (line: CommandLine, place: Place): Omit<RunRequest, "kind" | "module"> => {
  const untilCaughtUp = line.flags.has("until-caught-up")
  const close = line.flags.has("close")
  if (close && !untilCaughtUp) {
    throw misuse("--close needs --until-caught-up: a job that runs on has no end at which to close", "Add --until-caught-up.")
  }
  const workers = workerCount(line.values.get("workers")?.[0] ?? "1")
  if (workers > 1 && place.kind === "embedded") {
    throw misuse(
      `--workers ${workers} needs the clustered runtime: a directory has one process that runs jobs`,
      "Add --nats URL --redis URL, or leave --workers out."
    )
  }
  return { place, jobs: line.values.get("job") ?? [], untilCaughtUp, close, acceptLoss: line.flags.has("accept-loss"), workers }
}

/** More than a machine can use is a slip. */
const workersMax = 1_024

const workerCount = (text: string): number => {
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < 1 || count > workersMax) {
    throw misuse(`--workers must be a whole number from 1 to ${workersMax}, got ${JSON.stringify(text)}`)
  }
  return count
}
