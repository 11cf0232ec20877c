/** The files of this folder: corpus/<target>/ has real inputs, crashes/<target>/ has those that have failed once. */
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync, gzipSync } from "node:zlib"
import type { Target } from "./target.ts"

export type KeptKind = "corpus" | "crashes"

export interface Kept {
  readonly name: string
  readonly input: Buffer
}

const folderOf = (kind: KeptKind, target: Pick<Target, "name">): string => join(import.meta.dirname, kind, target.name)

export const kept = (kind: KeptKind, target: Target): readonly Kept[] => {
  const folder = folderOf(kind, target)
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .toSorted()
    .map((name) => ({ name, input: unpacked(target, readFileSync(join(folder, name))) }))
}

/** Answers the file's path. */
export const keep = (kind: KeptKind, target: Target, { name, input }: Kept): string => {
  const folder = folderOf(kind, target)
  mkdirSync(folder, { recursive: true })
  const path = join(folder, target.isPacked === true ? `${name}.gz` : name)
  writeFileSync(path, target.isPacked === true ? gzipSync(input, { level: 9 }) : input)
  return path
}

/** The same for the same bytes. */
export const nameOf = (what: string, input: Buffer): string =>
  `${what.toLowerCase().replaceAll(/[^a-z]+/g, "-")}-${createHash("sha256").update(input).digest("hex").slice(0, 8)}`

const unpacked = (target: Target, bytes: Buffer): Buffer => (target.isPacked === true ? gunzipSync(bytes) : bytes)
