/** Help that teaches: what a command does, an example, its options with their defaults, the environment, the exit codes. Pure. */
import { type CommandName, commandNames, commandRules, type OptionName, type OptionRule, optionRules, usageOf } from "./command-line.ts"

interface Lesson {
  /** One line, for the list of commands. */
  readonly promise: string
  readonly more: readonly string[]
  readonly examples: readonly (readonly [line: string, says: string])[]
  readonly exits: readonly string[]
}

const failedOrRefused = [
  "1  failed: the line on stderr says why",
  "2  wrong usage, or a job that is refused (each fault on a line of its own)"
]

const lessons: Record<CommandName, Lesson> = {
  run: {
    promise: "run the jobs of a module",
    more: [
      "Runs the default export and every exported job of <module>, a TypeScript or JavaScript file that Node runs as it is.",
      "Status goes to stderr: a live line on a terminal, a line every 10 seconds elsewhere.",
      "SIGINT (Ctrl-C) and SIGTERM drain: the turn under way is finished. A second one leaves at once. Neither loses anything:",
      "the next run goes on from the journal. When one of several jobs fails, the others are drained.",
      "With --nats and --redis the process is one worker of a cluster: start the same command on more machines, or with --workers N here,",
      "and they share the partitions out among them. A worker of --workers that dies is started again."
    ],
    examples: [
      ["keyfold run sessionize.ts", "until stopped"],
      ["keyfold run sessionize.ts --until-caught-up --close", "what is there now, every session closed"],
      ["keyfold run jobs.ts --job fraud --data /var/lib/fraud", "one of several jobs"],
      ["keyfold run jobs.ts --nats nats://n1 --redis redis://r1 --workers 4", "four workers of a cluster"]
    ],
    exits: ["0  done, or drained after a signal", ...failedOrRefused, "130, 143  left by a second SIGINT or SIGTERM"]
  },
  publish: {
    promise: "publish lines of JSON to a topic",
    more: [
      "Publishes one JSON value a line to <topic>, which <module> exports or one of its jobs mentions. Without [file], or with -, reads stdin.",
      "Blank lines, CRLF and a byte order mark are fine. A line that is not JSON, or whose value the topic's key or codec refuses, goes to",
      "partition 0 byte for byte and is counted: the job puts it among its dead letters.",
      "A line beyond 8 MiB cannot be a record: it is left out, and the exit code is 1. SIGINT and SIGTERM publish what was read and say how much."
    ],
    examples: [
      ["keyfold publish sessionize.ts clicks clicks.jsonl", "a file, with a progress bar"],
      ["zcat clicks.jsonl.gz | keyfold publish sessionize.ts clicks", "a pipe"]
    ],
    exits: ["0  every line is stored", ...failedOrRefused, "130, 143  stopped by SIGINT or SIGTERM before the end of the input"]
  },
  tail: {
    promise: "print the values of a topic as lines of JSON",
    more: [
      "Prints <topic> from its start, partition by partition, then exits. Any topic that <module> exports or its jobs mention, and the dead",
      "letters of each job: <job>-dead. Bytes are printed as base64.",
      "A record that cannot be decoded is named on stderr, the rest is printed, and the exit code is 1.",
      "A topic that nobody has created yet is an error, with --follow too: start its job or publish to it first."
    ],
    examples: [
      ["keyfold tail sessionize.ts sessions", "all sessions so far"],
      ["keyfold tail sessionize.ts sessions --follow | jq .userId", "and those to come"],
      ["keyfold tail sessionize.ts sessionize-dead --meta", "what could not be processed, and why"]
    ],
    exits: ["0  printed (with --follow: until SIGINT or SIGTERM); also when the reader of stdout leaves early", ...failedOrRefused]
  },
  explain: {
    promise: "print what the jobs of a module do",
    more: ["Prints each job of <module>: what it reads, its stages, their timeouts and watermarks, what it writes. Runs nothing."],
    examples: [["keyfold explain sessionize.ts", "its plan"]],
    exits: ["0  printed", ...failedOrRefused]
  },
  help: {
    promise: "print the help of a command",
    more: [],
    examples: [["keyfold help run", "how to run jobs"]],
    exits: ["0  printed", "2  no such command"]
  }
}

const environmentHelp: readonly (readonly [name: string, meaning: string])[] = [
  ["KEYFOLD_DATA", "directory of topics and journals; options beat it"],
  ["KEYFOLD_NATS", "NATS of the clustered runtime, nats://user:password@host:4222; options beat it, and others cannot read it"],
  ["KEYFOLD_REDIS", "Redis of the clustered runtime, redis://user:password@host:6379; options beat it"],
  ["NO_COLOR", "set: no colours"]
]

/** The help of one command, or of all. */
export const helpOf = (command: CommandName | undefined): string =>
  `${(command === undefined ? overview() : lessonText(command)).join("\n")}\n`

const overview = (): string[] => [
  "keyfold: each key folds its events into state.",
  "",
  "Usage: keyfold <command> [options]",
  "",
  "Commands:",
  ...table(commandNames.map((name) => [usageOf(name).slice("keyfold ".length), lessons[name].promise])),
  "",
  "A first round:",
  ...table([
    ["keyfold publish sessionize.ts clicks clicks.jsonl", "events in"],
    ["keyfold run sessionize.ts --until-caught-up --close", "the job"],
    ["keyfold tail sessionize.ts sessions", "results out"]
  ]),
  "",
  "Options:",
  ...optionTable(["help", "version"]),
  "",
  "Values go to stdout, everything else to stderr. keyfold help <command> says more."
]

const lessonText = (command: CommandName): string[] => {
  const { more, examples, exits } = lessons[command]
  const options: readonly OptionName[] = [...commandRules[command].options, "help"]
  return [
    `keyfold ${command}: ${lessons[command].promise}.`,
    "",
    `Usage: ${usageOf(command)}`,
    ...(more.length === 0 ? [] : ["", ...more]),
    ...section("Examples", table(examples)),
    ...section("Options", optionTable(options)),
    ...(options.includes("data") ? section("Environment", table(environmentHelp)) : []),
    ...section("Exit codes", exits.map(indented))
  ]
}

const section = (title: string, lines: readonly string[]): string[] => ["", `${title}:`, ...lines]

const optionTable = (names: readonly OptionName[]): string[] =>
  table(
    names.map((name) => {
      const { value, short, meaning }: OptionRule = optionRules[name]
      return [`${short === undefined ? "" : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`, meaning]
    })
  )

const table = (rows: readonly (readonly [left: string, right: string])[]): string[] => {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => indented(`${left.padEnd(width)}  ${right}`))
}

const indented = (line: string): string => `  ${line}`
