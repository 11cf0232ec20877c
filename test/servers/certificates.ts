/** Certificates for one test, made by openssl: an authority, and what it has signed for a server on loopback and for a client. */
import { execFileSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { serverDirectory } from "./reaper.ts"

export interface Certificates {
  readonly caFile: string
  readonly serverCertFile: string
  readonly serverKeyFile: string
  readonly clientCertFile: string
  readonly clientKeyFile: string
}

export const hasOpenssl = (): boolean => {
  try {
    execFileSync("openssl", ["version"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

export const makeCertificates = (): Certificates => {
  const directory = serverDirectory("certificates")
  const path = (name: string): string => join(directory, name)
  const openssl = (...args: readonly string[]): void => void execFileSync("openssl", args, { cwd: directory, stdio: "pipe" })
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
  openssl("req", "-x509", ...newKey, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=keyfold test authority")
  writeFileSync(path("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
  for (const name of ["server", "client"]) {
    openssl("req", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`)
    const signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", `${name}.csr`, "-out", `${name}.crt`, ...signed)
  }
  return {
    caFile: path("ca.crt"),
    serverCertFile: path("server.crt"),
    serverKeyFile: path("server.key"),
    clientCertFile: path("client.crt"),
    clientKeyFile: path("client.key")
  }
}
