/** What the settings of all servers have in common: names that are checked, files that hold secrets, certificates. */
import { readFileSync } from "node:fs"
import { KeyfoldError } from "../errors.ts"
import type { ServerKind } from "./server-address.ts"

export interface TlsOptions {
  /** Certificates of the authorities to trust; the system's by default. */
  readonly caFile?: string
  /** Our own certificate and its key, for a server that asks for one. */
  readonly certFile?: string
  readonly keyFile?: string
  /** The name that the server's certificate must have, where it is not its address. */
  readonly serverName?: string
}

/** As Node's tls takes it. */
export interface TlsSettings {
  readonly ca?: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
  readonly servername?: string
}

export type Environment = Readonly<Record<string, string | undefined>>

const tlsNames = ["caFile", "certFile", "keyFile", "serverName"]

/** Throws `option-invalid`. Undefined: without TLS. */
export const tlsSettings = (server: ServerKind, tls: boolean | TlsOptions, environment: Environment): TlsSettings | undefined => {
  if (tls === false) return undefined
  const own = tls === true ? {} : tls
  checkNames(`clustered({ ${server.toLowerCase()}: { tls } })`, own, tlsNames)
  const bytesOf = (file: string | undefined, variable: string): Buffer | undefined => {
    const path = file ?? set(environment[`KEYFOLD_${server.toUpperCase()}_${variable}`])
    return path === undefined ? undefined : bytesIn(server, path)
  }
  const ca = bytesOf(own.caFile, "CA_FILE")
  const cert = bytesOf(own.certFile, "CERT_FILE")
  const key = bytesOf(own.keyFile, "KEY_FILE")
  const { serverName } = own
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), ...(serverName && { servername: serverName }) }
}

/** Without the end of its line. Throws `option-invalid`. */
export const textIn = (server: ServerKind, path: string): string =>
  bytesIn(server, path)
    .toString("utf8")
    .replace(/\r?\n$/, "")

const bytesIn = (server: ServerKind, path: string): Buffer => {
  try {
    return readFileSync(path)
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code ?? "unknown"
    throw new KeyfoldError("option-invalid", `the file ${path}, which the settings of ${server} name, cannot be read (${code})`)
  }
}

/** An empty variable is none. */
export const set = (value: string | undefined): string | undefined => value || undefined

export const checkNames = (what: string, options: object, names: readonly string[]): void => {
  const unknown = Object.keys(options).filter((name) => !names.includes(name))
  if (unknown.length === 0) return
  throw new KeyfoldError("option-invalid", `${what} has no option ${unknown.join(", ")}: the options are ${names.join(", ")}`)
}
