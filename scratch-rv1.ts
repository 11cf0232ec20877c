import { job, topic, start, publisher, read } from "keyfold"
import { json } from "keyfold/codecs/json"
import { text } from "keyfold/codecs/text"
import { embedded } from "keyfold/embedded"
import { memory, harness } from "keyfold/testing"
import { mkdtempSync, rmSync } from "node:fs"
const t = async (name: string, f: () => Promise<unknown>) => {
  try { console.log(name, "=>", await Promise.race([f(), new Promise((r) => setTimeout(() => r("TIMEOUT"), 15000))])) } catch (e: any) { console.log(name, "THREW", e?.code, String(e?.message ?? e).slice(0, 300)) }
}
type E = { k: string; at: number; n?: number; pad?: string }
const es = (name: string, partitions = 1) => topic(name, { codec: json<E>(), key: (e) => e.k, partitions })
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms))

await t("union idle both at once (harness)", async () => {
  const a = es("a"), b = es("b")
  const j = job("u").from(a).from(b).withWatermark((e) => e.at, 0).groupByKey().flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (k, ev, s) { if (s.hasTimedOut) { yield k; return } s.update(1); s.setTimeoutTimestamp(ev[0]!.at + 10) }).to()
  const h = await harness(j)
  await h.turn([{ k: "x", at: 1000 }, { k: "y", at: 100000 }], { from: a })
  const r = await h.advanceTo(60_001)
  return [r.watermark, r.outputs]
})
await t("union available-now, empty B", async () => {
  const a = es("a"), b = es("b"), rt = memory()
  const fired: string[] = []
  const j = job("u").from(a).from(b).withWatermark((e) => e.at, 0).groupByKey().flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (k, ev, s) { if (s.hasTimedOut) { fired.push(k); return } s.update(1); s.setTimeoutTimestamp(ev[0]!.at + 10) }).to()
  const p = await publisher(rt, a)
  await p.send({ k: "x", at: 1000 }); await p.send({ k: "y", at: 100000 })
  const q = await start(j, { runtime: rt, trigger: "available-now" }); await q.awaitTermination()
  return [(q as any).totals, fired]
})
await t("writer hash entropy", async () => {
  const { writerOf } = await import("./src/partition/outbox.ts")
  const seen = new Map<string, string>(); 
  for (let i = 0; i < 400000; i++) { const n = "job" + i; const w = writerOf(n, "intake", 0); const o = seen.get(w); if (o) return [o, n, w]; seen.set(w, n) }
  return "none"
})
await t("stage named dead", async () => {
  const a = es("a")
  const j = job("x").from(a).groupByKey((e) => e.at).mapGroupsWithState({ name: "dead", state: json<number>() }, (k) => { if (k === 1) throw new Error("boom"); return k }).to()
  const h = await harness(j)
  const r = await h.turn([{ k: "x", at: 2 }])
  return [r.outputs, r.dead]
})
await t("event time 1e16", async () => {
  const a = es("a"), rt = memory()
  const j = job("big").from(a).withWatermark((e) => e.at, 0).groupByKey().mapGroupsWithState({ state: json<number>() }, (k) => k).to()
  const p = await publisher(rt, a); await p.send({ k: "x", at: 1e16 })
  const q = await start(j, { runtime: rt })
  await sleep(1500)
  const st = [q.status.message, q.isActive, q.exception?.message]
  const ended = await Promise.race([q.stop().then(() => "stopped"), sleep(3000).then(() => "STOP HANGS")])
  return [...st, ended]
})
await t("advanceWhenIdle hot loop", async () => {
  const dir = mkdtempSync("/tmp/kf-"); const rt = embedded(dir)
  const a = es("a")
  const j = job("adv").from(a).withWatermark((e) => e.at, 0, { idleAfter: 100, advanceWhenIdle: true }).groupByKey().mapGroupsWithState({ state: json<number>() }, (k) => k).to()
  const p = await publisher(rt, a); await p.send({ k: "x", at: 1000 })
  const q = await start(j, { runtime: rt })
  await sleep(500)
  const t0 = (q as any).totals.turns, c0 = process.cpuUsage(); await sleep(2000)
  const t1 = (q as any).totals.turns, c1 = process.cpuUsage(c0)
  await q.stop(); await p[Symbol.asyncDispose](); rmSync(dir, { recursive: true })
  return { turnsPerSecond: (t1 - t0) / 2, cpuMsPerSecond: (c1.user + c1.system) / 2000 }
})
await t("busy input hides idle one", async () => {
  const a = es("a"), b = es("b"), rt = memory()
  const j = job("bi").from(a).from(b).withWatermark((e) => e.at, 0, { idleAfter: 100 }).groupByKey().mapGroupsWithState({ state: json<number>() }, (k) => k).to()
  const p = await publisher(rt, a)
  const q = await start(j, { runtime: rt })
  let on = true, n = 0
  const loop = (async () => { while (on) { await p.send({ k: "x", at: 1_000 + n++ }); } })()
  await sleep(1500)
  const busy = (q as any).totals
  on = false; await loop; await sleep(500)
  const after = (q as any).totals
  await q.stop()
  return { busy, after }
})
process.exit(0)
