/** Decentralised NATS users for one test: an operator and an account made of nkeys, and credentials files for users of it. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { nkeys } from "@nats-io/transport-node"
import { serverDirectory } from "./reaper.ts"

export interface NatsOperator {
  /** Lines for a server that trusts it. */
  readonly config: string
  /** A file for a new user, with these rights: {"pub": {"allow": [...]}, "sub": ...}; with all rights without them. */
  credsFile(name: string, rights?: object): string
  /** A file for a user whose account nobody knows. */
  strangerFile(name: string): string
}

type KeyPair = ReturnType<typeof nkeys.createUser>

const unlimited = { subs: -1, data: -1, payload: -1 }
const accountLimits = { ...unlimited, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 }
const storageLimits = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 }

export const makeNatsOperator = (): NatsOperator => {
  const directory = serverDirectory("operator")
  const [operator, account, system] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createAccount()]
  const systemJwt = signed(operator, system.getPublicKey(), "SYS", { type: "account", limits: accountLimits })
  const accountJwt = signed(operator, account.getPublicKey(), "tests", { type: "account", limits: { ...accountLimits, ...storageLimits } })
  const fileFor = (name: string, issuer: KeyPair, rights: object): string => {
    const user = nkeys.createUser()
    const jwt = signed(issuer, user.getPublicKey(), name, { type: "user", ...unlimited, ...rights })
    const path = join(directory, `${name}.creds`)
    const seed = Buffer.from(user.getSeed()).toString()
    writeFileSync(path, `${framed("NATS USER JWT", jwt)}\n${framed("USER NKEY SEED", seed)}`)
    return path
  }
  return {
    config: [
      `operator: ${signed(operator, operator.getPublicKey(), "operator", { type: "operator", system_account: system.getPublicKey() })}`,
      `system_account: ${system.getPublicKey()}`,
      "resolver: MEMORY",
      `resolver_preload: { ${account.getPublicKey()}: ${accountJwt}, ${system.getPublicKey()}: ${systemJwt} }`
    ].join("\n"),
    credsFile: (name, rights = {}) => fileFor(name, account, rights),
    strangerFile: (name) => fileFor(name, nkeys.createAccount(), {})
  }
}

/** A JWT as nsc makes it. */
const signed = (issuer: KeyPair, subject: string, name: string, nats: object): string => {
  const claims = {
    jti: name,
    iat: Math.floor(Date.now() / 1_000),
    iss: issuer.getPublicKey(),
    name,
    sub: subject,
    nats: { version: 2, ...nats }
  }
  const text = [{ typ: "JWT", alg: "ed25519-nkey" }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".")
  return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString("base64url")}`
}

const framed = (what: string, text: string): string => `-----BEGIN ${what}-----\n${text}\n------END ${what}------\n`
