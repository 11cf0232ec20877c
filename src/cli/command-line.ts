/** The commands and their options, as tables: what arguments.ts accepts and what help.ts teaches. */

export interface OptionRule {
  /** What the value is called in the help; undefined: a flag. */
  readonly value?: string
  readonly repeatable?: true
  readonly short?: string
  readonly meaning: string
}

export const optionRules = {
  job: { value: "NAME", repeatable: true, meaning: "run only the job of this name; may be given again. Default: every job" },
  "until-caught-up": { meaning: "read what is there now, confirm the outputs, then exit. Default: run until stopped" },
  close: { meaning: "with --until-caught-up: also fire every event-time timeout still armed, so that open sessions close" },
  "accept-loss": { meaning: "go on from what the journal still has when it is older than its published outputs. Default: refuse" },
  workers: { value: "N", meaning: "processes to run on this machine; more than 1 with --nats and --redis only. Default: 1" },
  follow: { meaning: "stay, and print what arrives. Default: exit at the end of the topic" },
  meta: { meaning: "print { key, partition, position, publishedAt, headers, value } instead of the value" },
  data: { value: "DIR", meaning: "directory of topics and journals. Default: KEYFOLD_DATA, else ./.keyfold" },
  nats: { value: "URL", meaning: "NATS servers that carry the topics, together with --redis. Default: KEYFOLD_NATS" },
  redis: { value: "URL", meaning: "Redis that holds the journals, together with --nats. Default: KEYFOLD_REDIS" },
  help: { short: "h", meaning: "print the help of the command" },
  version: { short: "v", meaning: "print the version" }
} as const satisfies Record<string, OptionRule>

export type OptionName = keyof typeof optionRules

export interface CommandRule {
  /** `[file]` may be left out; the others must be there. */
  readonly arguments: readonly string[]
  readonly options: readonly OptionName[]
}

const runtimeOptions = ["data", "nats", "redis"] as const

export const commandRules = {
  run: { arguments: ["<module>"], options: ["job", "until-caught-up", "close", "accept-loss", "workers", ...runtimeOptions] },
  publish: { arguments: ["<module>", "<topic>", "[file]"], options: runtimeOptions },
  tail: { arguments: ["<module>", "<topic>"], options: ["follow", "meta", ...runtimeOptions] },
  explain: { arguments: ["<module>"], options: [] },
  help: { arguments: ["[command]"], options: [] }
} as const satisfies Record<string, CommandRule>

export type CommandName = keyof typeof commandRules

export const commandNames = Object.keys(commandRules) as CommandName[]

export const isCommandName = (name: string): name is CommandName => Object.hasOwn(commandRules, name)

export const isOptionName = (name: string): name is OptionName => Object.hasOwn(optionRules, name)

/** `keyfold publish <module> <topic> [file] [options]` */
export const usageOf = (name: CommandName): string => {
  const { arguments: names, options } = commandRules[name]
  return ["keyfold", name, ...names, ...(options.length === 0 ? [] : ["[options]"])].join(" ")
}
