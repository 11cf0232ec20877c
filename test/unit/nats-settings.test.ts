// Goal: every way to say where NATS is and who we are is understood, what makes no sense is refused, and no secret is ever said.
// Method: addresses, options and environments in, settings out; what an authenticator answers to a nonce is what a server would see.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { nkeys } from "@nats-io/transport-node"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { KeyfoldError } from "../../src/errors.ts"
import { natsSettings } from "../../src/runtime/nats-settings.ts"

const secret = "p@ss,w:rd%s3cret"
const escaped = encodeURIComponent(secret)

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "keyfold-nats-"))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const fileWith = (name: string, text: string): string => {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

/** What a server would see of us. */
const seen = (nats: string | object, environment: Record<string, string> = {}): unknown =>
  natsSettings(nats, environment).authenticator?.("nonce")

const refusalOf = (nats: string | object, environment: Record<string, string> = {}): string => {
  try {
    natsSettings(nats, environment)
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(KeyfoldError)
    const { code, message, stack, faults } = thrown as KeyfoldError
    expect(code).toBe("option-invalid")
    for (const piece of ["s3cret", secret, escaped]) expect(JSON.stringify([message, stack, faults])).not.toContain(piece)
    return message
  }
  throw new Error("it was accepted")
}

describe("addresses", () => {
  test.each([
    ["nats://a", "NATS at a:4222", false],
    ["nats://a:1/", "NATS at a:1", false],
    ["tls://a:1", "NATS at a:1", true],
    ["nats://a,b:2", "NATS at a:4222, b:2", false],
    ["nats://a:1,nats://b:2", "NATS at a:1, b:2", false],
    ["nats://a:1,tls://b:2", "NATS at a:1, b:2", true],
    ["nats://[::1]:7,10.0.0.1", "NATS at [::1]:7, 10.0.0.1:4222", false]
  ])("%s", (address, name, hasTls) => {
    const settings = natsSettings(address, {})
    expect([settings.name, settings.tls !== undefined, settings.authenticator]).toEqual([name, hasTls, undefined])
  })

  test("several, as a list", () => {
    expect(natsSettings({ servers: ["nats://a", "nats://b:2"] }, {}).name).toBe("NATS at a:4222, b:2")
  })

  test("without one it is this machine", () => {
    expect(natsSettings({}, {}).name).toBe("NATS at localhost:4222")
  })

  test.each([
    ["", /^the address of NATS is none of nats:\/\/ and tls:\/\//],
    ["a:4222", /none of nats/],
    ["redis://a", /none of nats/],
    [`redis://${secret}@a`, /none of nats/],
    ["nats://", /none of nats/],
    ["nats://a:70000", /has a host that is none; a host looks like nats.example.com:4222/],
    [`nats://user:${secret}@a`, /./],
    ["nats://us%er:s3cret@a", /a % that escapes nothing/],
    [{ servers: [] }, /names no server/],
    [{ servers: 7 }, /none of nats/],
    [{ server: "nats://a" }, /clustered\(\{ nats \}\) has no option server: the options are servers, user, password/],
    [{ tls: { ca: "x" } }, /clustered\(\{ nats: \{ tls \} \}\) has no option ca: the options are caFile/],
    [{ inboxPrefix: "_INBOX.*" }, /inboxPrefix.* must be a subject without wildcards/]
  ])("refused: %j", (address, message) => {
    expect(refusalOf(address)).toMatch(message)
  })
})

describe("who we are", () => {
  const password = { user: "us@er", pass: secret }
  test("a user with a password", () => {
    const passwordFile = fileWith("password", `${secret}\n`)
    expect(seen(`nats://us%40er:${escaped}@a`)).toEqual(password)
    expect(seen({ servers: "nats://a", user: "us@er", password: secret })).toEqual(password)
    expect(seen({ servers: "nats://us%40er@a", passwordFile })).toEqual(password)
    expect(seen("nats://us%40er@a", { KEYFOLD_NATS_PASSWORD: secret })).toEqual(password)
    expect(seen("nats://a", { KEYFOLD_NATS_USER: "us@er", KEYFOLD_NATS_PASSWORD: secret })).toEqual(password)
    expect(seen("nats://a", { KEYFOLD_NATS_USER: "us@er", KEYFOLD_NATS_PASSWORD_FILE: passwordFile })).toEqual(password)
    expect(seen(`nats://a,nats://us%40er:${escaped}@b`)).toEqual(password)
  })

  test("a token", () => {
    const tokenFile = fileWith("token", `${secret}\n`)
    const token = { auth_token: secret }
    expect(seen(`nats://${escaped}@a`)).toEqual(token)
    expect(seen({ servers: "nats://a", token: secret })).toEqual(token)
    expect(seen({ servers: "nats://a", tokenFile })).toEqual(token)
    expect(seen("nats://a", { KEYFOLD_NATS_TOKEN: secret })).toEqual(token)
    expect(seen("nats://a", { KEYFOLD_NATS_TOKEN_FILE: tokenFile })).toEqual(token)
  })

  test("an nkey, and credentials", () => {
    const user = nkeys.createUser()
    const seed = Buffer.from(user.getSeed()).toString()
    const nkeySeedFile = fileWith("seed", `${seed}\n`)
    const credsFile = fileWith("creds", `-----BEGIN A-----\nthe.jwt\n------END A------\n\n-----BEGIN B-----\n${seed}\n------END B------\n`)
    const nkey = { nkey: user.getPublicKey(), sig: nkeys.encode(user.sign(Buffer.from("nonce"))) }
    expect(seen({ nkeySeedFile })).toEqual(nkey)
    expect(seen("nats://a", { KEYFOLD_NATS_NKEY_SEED_FILE: nkeySeedFile })).toEqual(nkey)
    expect(seen({ credsFile })).toEqual({ ...nkey, jwt: "the.jwt" })
    expect(seen("nats://a", { KEYFOLD_NATS_CREDS_FILE: credsFile })).toEqual({ ...nkey, jwt: "the.jwt" })
    const bare = `-----BEGIN A-----\r\nthe.jwt\r\n------END A------\r\n-----BEGIN B-----\r\n${seed}\r\n------END B------`
    expect(seen({ credsFile: fileWith("creds", bare) })).toEqual({ ...nkey, jwt: "the.jwt" })
  })

  test("options come before the address, the address before the environment", () => {
    const environment = { KEYFOLD_NATS_TOKEN: "of the environment" }
    expect(seen({ servers: "nats://user:address@a", token: "of the options" }, environment)).toEqual({ auth_token: "of the options" })
    expect(seen("nats://user:address@a", environment)).toEqual({ user: "user", pass: "address" })
    expect(seen({ servers: "nats://user:address@a", password: "options" }, environment)).toEqual({ user: "user", pass: "options" })
    expect(seen("nats://a", environment)).toEqual({ auth_token: "of the environment" })
    expect(seen("nats://a", { KEYFOLD_NATS_TOKEN: "" })).toBeUndefined()
  })

  test("a file is read again at each connection; one that is being replaced counts as before", () => {
    const tokenFile = fileWith("renewed", "first")
    const settings = natsSettings({ tokenFile }, {})
    expect(settings.authenticator?.("")).toEqual({ auth_token: "first" })
    writeFileSync(tokenFile, "second\n")
    expect(settings.authenticator?.("")).toEqual({ auth_token: "second" })
    rmSync(tokenFile)
    expect(settings.authenticator?.("")).toEqual({ auth_token: "second" })
    const seed = Buffer.from(nkeys.createUser().getSeed()).toString()
    const nkeySeedFile = fileWith("renewed-seed", seed)
    const nkey = natsSettings({ nkeySeedFile }, {}).authenticator
    const before = nkey?.("nonce")
    writeFileSync(nkeySeedFile, "half a se")
    expect(nkey?.("nonce")).toEqual(before)
  })

  test("refused: what cannot be right", () => {
    const wrong = fileWith("wrong", `not ${secret}`)
    const several = { KEYFOLD_NATS_TOKEN: secret, KEYFOLD_NATS_CREDS_FILE: "f" }
    expect(refusalOf("nats://a", several)).toBe("the settings of NATS name several ways in (token, credentials): give one of them")
    expect(refusalOf({ password: secret })).toBe("the settings of NATS have a password but no user")
    expect(refusalOf({ user: "u" })).toBe("the settings of NATS have a user but no password")
    expect(refusalOf({ credsFile: wrong })).toContain(`${wrong}, which the settings of NATS name, holds no credentials: a JWT and the seed`)
    expect(refusalOf({ nkeySeedFile: wrong })).toContain(`${wrong}, which the settings of NATS name, holds no seed of an nkey`)
    expect(refusalOf({ tokenFile: "/nowhere" })).toBe("the file /nowhere, which the settings of NATS name, cannot be read (ENOENT)")
    expect(refusalOf("tls://a", { KEYFOLD_NATS_CA_FILE: "/nowhere" })).toContain("cannot be read (ENOENT)")
  })
})

test("settings that somebody prints show no secret", () => {
  const tokenFile = fileWith("printed", secret)
  for (const nats of [`nats://u:${escaped}@a`, `nats://${escaped}@a`, { user: "u", password: secret }, { tokenFile }]) {
    expect(JSON.stringify(natsSettings(nats, {}))).not.toContain("s3cret")
  }
})
