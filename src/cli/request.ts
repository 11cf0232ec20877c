/** What a command is asked to do: the words and options of the command line, checked, with the environment's defaults. Pure. */
import type { CommandLine } from "./arguments.ts"
import { misuse } from "./refusal.ts"

/** The environment variables that the command reads. */
export type Environment = Readonly<Record<string, string | undefined>>

export const dataDefault = "./.keyfold"

export interface RunRequest {
  readonly kind: "run"
  readonly module: string
  readonly data: string
  /** Empty: every job of the module. */
  readonly jobs: readonly string[]
  readonly untilCaughtUp: boolean
  readonly close: boolean
}

export interface PublishRequest {
  readonly kind: "publish"
  readonly module: string
  readonly data: string
  readonly topic: string
  /** Undefined: standard input. */
  readonly file: string | undefined
}

export interface TailRequest {
  readonly kind: "tail"
  readonly module: string
  readonly data: string
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
      return { kind: "run", module, data: dataDirectory(line, environment), ...runOptions(line) }
    case "publish":
      return { kind: "publish", module, data: dataDirectory(line, environment), topic, file: file === "-" ? undefined : file }
    case "tail":
      return {
        kind: "tail",
        module,
        data: dataDirectory(line, environment),
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

const runOptions = (line: CommandLine): Pick<RunRequest, "jobs" | "untilCaughtUp" | "close"> => {
  const untilCaughtUp = line.flags.has("until-caught-up")
  const close = line.flags.has("close")
  if (close && !untilCaughtUp) {
    throw misuse("--close needs --until-caught-up: a job that runs on has no end at which to close", "Add --until-caught-up.")
  }
  checkWorkers(line.values.get("workers")?.[0])
  return { jobs: line.values.get("job") ?? [], untilCaughtUp, close }
}

const checkWorkers = (workers: string | undefined): void => {
  if (workers === undefined || workers === "1") return
  if (!/^[1-9]\d*$/.test(workers)) throw misuse(`--workers must be a whole number from 1, got ${JSON.stringify(workers)}`)
  throw misuse(
    `--workers ${workers} needs the clustered runtime, which is not in this version: the embedded runtime is one process`,
    "Leave --workers out."
  )
}

/** An option beats the environment, so `--data` works where KEYFOLD_NATS is set for something else. */
const dataDirectory = (line: CommandLine, environment: Environment): string => {
  const data = line.values.get("data")?.[0]
  const cluster = clusterNamed(line, data === undefined ? environment : {})
  if (cluster !== undefined) {
    throw misuse(
      `${cluster} asks for the clustered runtime (NATS and Redis), which is not in this version`,
      "This version runs on the embedded runtime: give --data DIR, or nothing for ./.keyfold."
    )
  }
  return data ?? (environment["KEYFOLD_DATA"] || dataDefault)
}

const clusterNamed = (line: CommandLine, environment: Environment): string | undefined => {
  if (line.values.has("nats")) return "--nats"
  if (line.values.has("redis")) return "--redis"
  return ["KEYFOLD_NATS", "KEYFOLD_REDIS"].find((name) => (environment[name] ?? "") !== "")
}
