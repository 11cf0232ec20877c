/** From the words of a command line to a request, or to a refusal that says what is wrong and what to type instead. Pure. */
import { parseArgs } from "node:util"
import {
  type CommandName,
  commandNames,
  commandRules,
  isCommandName,
  isOptionName,
  type OptionName,
  type OptionRule,
  optionRules,
  usageOf
} from "./command-line.ts"
import { misuse } from "./refusal.ts"
import { shownWord } from "./shown-url.ts"
import { didYouMean, nearest } from "./suggestion.ts"

/** A command line whose words are all known. */
export interface CommandLine {
  readonly command: CommandName
  readonly words: readonly string[]
  readonly flags: ReadonlySet<OptionName>
  readonly values: ReadonlyMap<OptionName, readonly string[]>
}

/** What is left of the command line once `--help` and `--version` are answered. */
export type Parsed =
  | { readonly kind: "help"; readonly command: CommandName | undefined }
  | { readonly kind: "version" }
  | { readonly kind: "nothing" }
  | ({ readonly kind: "command" } & CommandLine)

interface OptionToken {
  readonly name: string
  readonly rawName: string
  readonly value: string | undefined
  readonly inlineValue: boolean | undefined
}

/** Throws a Refusal. Options may stand anywhere; `--` ends them; `--data=DIR` is `--data DIR`. */
export const parseCommandLine = (args: readonly string[]): Parsed => {
  const { words, options } = tokensOf(args)
  const [name, ...rest] = words
  const command = name === undefined ? undefined : knownCommand(name)
  if (options.some((option) => option.name === "help")) return { kind: "help", command: command === "help" ? helpSubject(rest) : command }
  if (options.some((option) => option.name === "version")) return { kind: "version" }
  if (command === undefined) return nothing(options[0])
  if (command === "help") return { kind: "help", command: helpSubject(rest) }
  const { flags, values } = readOptions(command, options)
  checkWords(command, rest)
  return { kind: "command", command, words: rest, flags, values }
}

const parseable = Object.fromEntries(
  Object.entries(optionRules as Record<string, OptionRule>).map(([name, { value, short }]) => [
    name,
    { type: value === undefined ? "boolean" : "string", ...(short === undefined ? {} : { short }) } as const
  ])
)

// Not strict: what is unknown is refused here, with a hint that parseArgs does not have.
const tokensOf = (args: readonly string[]): { readonly words: readonly string[]; readonly options: readonly OptionToken[] } => {
  const { tokens } = parseArgs({ args: [...args], options: parseable, strict: false, allowPositionals: true, tokens: true })
  return {
    words: tokens.flatMap((token) => (token.kind === "positional" ? [token.value] : [])),
    options: tokens.filter((token) => token.kind === "option")
  }
}

const knownCommand = (name: string): CommandName => {
  if (isCommandName(name)) return name
  throw misuse(`there is no command ${JSON.stringify(name)}`, didYouMean(name, commandNames, "The commands are"))
}

const helpSubject = (words: readonly string[]): CommandName | undefined => {
  const [name] = words
  return name === undefined || name === "help" ? undefined : knownCommand(name)
}

const nothing = (option: OptionToken | undefined): Parsed => {
  if (option === undefined) return { kind: "nothing" }
  throw misuse(`${option.rawName} needs a command before or after it`, `The commands are: ${commandNames.join(", ")}.`)
}

const readOptions = (command: CommandName, options: readonly OptionToken[]): Pick<CommandLine, "flags" | "values"> => {
  const flags = new Set<OptionName>()
  const values = new Map<OptionName, string[]>()
  for (const option of options) {
    const name = knownOption(command, option)
    const rule: OptionRule = optionRules[name]
    if (rule.value === undefined) flags.add(checkedFlag(name, option))
    else {
      const earlier = values.get(name)
      if (earlier !== undefined && rule.repeatable === undefined) throw misuse(`--${name} is given twice`)
      values.set(name, [...(earlier ?? []), checkedValue(name, rule, option)])
    }
  }
  return { flags, values }
}

const knownOption = (command: CommandName, { name, rawName }: OptionToken): OptionName => {
  const allowed: readonly OptionName[] = commandRules[command].options
  if (isOptionName(name) && allowed.includes(name)) return name
  const elsewhere = commandNames.filter((other) => (commandRules[other].options as readonly string[]).includes(name))
  if (elsewhere.length > 0) throw misuse(`${rawName} is an option of keyfold ${elsewhere.join(" and ")}, not of ${command}`)
  const near = nearest(name, allowed)
  const hint = near === undefined ? `See keyfold help ${command}.` : `Did you mean --${near}?`
  throw misuse(`keyfold ${command} has no option ${rawName}`, hint)
}

const checkedFlag = (name: OptionName, { value }: OptionToken): OptionName => {
  if (value !== undefined) throw misuse(`--${name} takes no value, got ${shownWord(value)}`)
  return name
}

/** `--data --close` is a forgotten value, not a directory called "--close"; who means it writes `--data=--close`. */
const checkedValue = (name: OptionName, rule: OptionRule, { value, inlineValue }: OptionToken): string => {
  const forgotten = value === undefined || value === "" || (inlineValue === false && value.startsWith("-"))
  if (forgotten) throw misuse(`--${name} needs a value: --${name} ${rule.value}`)
  return value
}

const checkWords = (command: CommandName, words: readonly string[]): void => {
  const names: readonly string[] = commandRules[command].arguments
  const missing = names.slice(words.length).find((name) => name.startsWith("<"))
  if (missing !== undefined) throw misuse(`keyfold ${command} needs ${missing}`, `Usage: ${usageOf(command)}`)
  if (words.length > names.length) {
    throw misuse(
      `keyfold ${command} does not know what to do with ${shownWord(words[names.length] as string)}`,
      `Usage: ${usageOf(command)}`
    )
  }
}
