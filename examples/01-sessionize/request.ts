/** A request as it stands in the log, one JSON object a line: `{"userId": "u-17", "at": 1767600000000, "page": "/"}`. */

interface Visit {
  /** When, in milliseconds since the epoch. */
  readonly at: number
  readonly page?: string
}

/** The user may be called `userId` or `readerId`. Other members are allowed and ignored. */
export type Request = Visit & ({ readonly userId: string } | { readonly readerId: string })

/** Whose request it is: the key. */
export const userOf = (request: Request): string => ("userId" in request ? request.userId : request.readerId)

/** The value as a request. Throws what is wrong with it: the message of the dead letter. */
export const checkRequest = (value: unknown): Request => {
  if (typeof value !== "object" || value === null) throw new TypeError(`a request is an object, got ${shown(value)}`)
  const { userId, readerId, at } = value as Record<string, unknown>
  const user = userId ?? readerId
  if (typeof user !== "string" || user === "") throw new TypeError(`userId (or readerId) must be a text, got ${shown(user)}`)
  if (typeof at !== "number" || !Number.isFinite(at) || at <= 0) {
    throw new TypeError(`at must be a time in milliseconds since 1970, as a number, got ${shown(at)}`)
  }
  return value as Request
}

const shown = (value: unknown): string => (value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80))
