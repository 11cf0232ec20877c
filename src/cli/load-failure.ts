/** Why a module could not be loaded, in words that say what to do. Pure: from what was thrown to a Refusal, or to undefined. */
import { isKeyfoldError } from "./failure.ts"
import { placeOf } from "./place.ts"
import { Refusal } from "./refusal.ts"

/** What is no fault of loading (a refused job, a bug of keyfold's) is answered as it was. */
export const loadFailure = (thrown: unknown, path: string): unknown => {
  if (!(thrown instanceof Error)) return new Refusal(1, `${path} threw while it was loaded: ${String(thrown)}`)
  if (isKeyfoldError(thrown) || (thrown as { readonly _tag?: unknown })._tag === "InvariantError") return thrown
  const place = placeOf(thrown) ?? path
  return codeFailure(thrown, place) ?? syntaxFailure(thrown, place) ?? threwWhileLoaded(thrown, path, place)
}

const codeFailure = (thrown: Error, place: string): Refusal | undefined => {
  switch ((thrown as NodeJS.ErrnoException).code) {
    case "ERR_MODULE_NOT_FOUND":
    case "ERR_UNSUPPORTED_DIR_IMPORT":
      return missingImport(thrown.message, place)
    case "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX":
      return new Refusal(
        2,
        `${place}: ${firstLine(thrown.message)}`,
        "Node runs TypeScript by removing its types: use constants for enums, plain fields for parameter properties, or compile to JavaScript."
      )
    case "ERR_INVALID_TYPESCRIPT_SYNTAX":
      return new Refusal(2, `${place}: a syntax error: ${firstLine(thrown.message)}`)
    case "ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING":
      return new Refusal(
        2,
        `${place}: Node runs no TypeScript inside node_modules`,
        "Compile that package to JavaScript, or name a module of your own."
      )
    case "ERR_UNKNOWN_FILE_EXTENSION":
      return new Refusal(2, firstLine(thrown.message), "Node runs .ts, .mts, .js and .mjs files.")
    case "ERR_PACKAGE_PATH_NOT_EXPORTED":
      return new Refusal(2, firstLine(thrown.message), "Import only what the package exports.")
    default:
      return undefined
  }
}

/** `Cannot find package 'x' imported from /a/b.ts`, `Cannot find module '/a/topics' imported from /a/b.ts` */
const missingImport = (message: string, place: string): Refusal => {
  const what = firstLine(message)
  const name = /^Cannot find package '([^']+)'/.exec(what)?.[1]
  if (name !== undefined) return new Refusal(2, what, `Install it: npm install ${name}`)
  const from = / imported from (.+)$/.exec(what)?.[1] ?? place
  return new Refusal(2, what, `Look at the imports of ${from}: Node wants the whole file name, such as "./topics.ts".`)
}

const syntaxFailure = (thrown: Error, place: string): Refusal | undefined => {
  if (!(thrown instanceof SyntaxError)) return undefined
  const name = /does not provide an export named '([^']+)'/.exec(thrown.message)?.[1]
  if (name === undefined) return new Refusal(2, `${place}: a syntax error: ${firstLine(thrown.message)}`)
  return new Refusal(
    2,
    `${place}: ${firstLine(thrown.message)}`,
    `If ${name} is a type, import it as one: import { type ${name} } from ...`
  )
}

/** The world may be to blame (a service that is down), so this is a failure, not a wrong usage. */
const threwWhileLoaded = (thrown: Error, path: string, place: string): Refusal => {
  const at = place === path ? "" : ` (${place})`
  return new Refusal(1, `${path} threw while it was loaded: ${firstLine(thrown.message === "" ? thrown.name : thrown.message)}${at}`)
}

const firstLine = (text: string): string => text.split("\n", 1)[0] ?? ""
