import { mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { start } from "keyfold"
import { embedded } from "keyfold/embedded"
import { fixtureFile } from "../upgrade/formats.ts"
import { staysJob } from "../upgrade/stays-job.ts"
const wal = fixtureFile("embedded-1", "keyfold.db-wal")
const dbf = fixtureFile("embedded-1", "keyfold.db")
console.log(wal.length, dbf.length, wal.subarray(0, 32).toString("hex"))
// frames: 24 byte header + 8192
const frames = Math.floor((wal.length - 32) / 8216)
const salt = wal.subarray(16, 24).toString("hex")
const commits: number[] = []
for (let i = 0; i < frames; i++) { const at = 32 + i * 8216; const page = wal.readUInt32BE(at), size = wal.readUInt32BE(at + 4); const s = wal.subarray(at + 8, at + 16).toString("hex"); if (i < 0) console.log(i, page, size, s === salt); if (size > 0 && s === salt) commits.push(i + 1) }
console.log("frames", frames, "commits", commits.length)
for (const upto of [0, ...commits]) {
  const dir = mkdtempSync(join(tmpdir(), "kfz-"))
  writeFileSync(join(dir, "keyfold.db"), dbf)
  if (upto > 0) writeFileSync(join(dir, "keyfold.db-wal"), wal.subarray(0, 32 + upto * 8216))
  const q = await start(staysJob(async () => undefined), { runtime: embedded(dir), trigger: "available-now", atEnd: "close" }).catch((e) => e)
  const r = q.awaitTermination ? await q.awaitTermination().then(() => "done", (e: any) => `failed ${e.code} ${e.message}`) : q.message
  console.log(upto, r)
}
process.exit(0)
