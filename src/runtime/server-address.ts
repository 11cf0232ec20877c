/** Addresses of servers as they stand in settings. Pure. Faults are told without the address itself: it may hold a password. */
import { KeyfoldError } from "../errors.ts"

export type ServerKind = "NATS" | "Redis"

export interface Place {
  readonly host: string
  readonly port: number
}

/** "host", "host:1" or "[::1]:1". */
export const placeIn = (server: ServerKind, text: string, portDefault: number): Place => {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text)
  const port = Number(found?.[3] ?? portDefault)
  const host = found?.[1] ?? found?.[2]
  if (host === undefined || port > 65_535) {
    throw invalidAddress(server, `has a host that is none; a host looks like ${server.toLowerCase()}.example.com:${portDefault}`)
  }
  return { host, port }
}

export const placeText = ({ host, port }: Place): string => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`)

/** What stands before an @, without its escapes; nothing is undefined. */
export const unescaped = (server: ServerKind, text: string | undefined): string | undefined => {
  try {
    return text ? decodeURIComponent(text) : undefined
  } catch {
    throw invalidAddress(server, "has a user or password with a % that escapes nothing: write it as %25")
  }
}

export const invalidAddress = (server: ServerKind, fault: string): KeyfoldError =>
  new KeyfoldError("option-invalid", `the address of ${server} ${fault}`)
