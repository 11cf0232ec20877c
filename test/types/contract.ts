/**
 * The contract of the public surface: what must compile, and what must not (each refusal is a ts-expect-error, which fails when it is
 * accepted; it holds for the line below it, so this file is not formatted). Checked by tsc, never run.
 */
import { type Actor, type Codec, defineActor, type Duration, explain, type Job, job, publisher, read, start, stream, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { groupState, harness, memory } from "keyfold/testing"


// ---------- sessionize, DESIGN.md section 3
interface Click   { readonly userId: string; readonly at: number; readonly page: string }
interface Open    { readonly start: number; readonly end: number; readonly clicks: number }
interface Session extends Open { readonly userId: string }
export const clicks   = topic("clicks",   { codec: json<Click>(),   key: (click) => click.userId, partitions: 16 })
export const sessions = topic("sessions", { codec: json<Session>(), key: (session) => session.userId })
const sessionize = job("sessionize")
  .from(clicks)
  .withWatermark((click) => click.at, "10 seconds")
  .groupByKey()
  .flatMapGroupsWithState(
    { state: json<Open>(), timeout: "event-time", outputMode: "append" },
    function* (userId, events, state) {
      if (state.hasTimedOut) { yield { userId, ...state.get() }; state.remove(); return }
      let open = state.getOption()
      for (const e of events) {
        if (open !== undefined && e.at - open.end > 1_800_000) { yield { userId, ...open }; open = undefined }
        open = open === undefined ? { start: e.at, end: e.at, clicks: 1 } : { start: Math.min(open.start, e.at), end: Math.max(open.end, e.at), clicks: open.clicks + 1 }
      }
      if (open === undefined) return
      state.update(open)
      state.setTimeoutTimestamp(open.end, "30 minutes")
    })
  .to(sessions)
export default sessionize

// ---------- fraud: union, two stages, side output, mapGroupsWithState, actor
interface Payment { readonly card: string; readonly device: string; readonly amount: number; readonly at: number }
interface Login   { readonly user: string; readonly device: string; readonly ok: boolean; readonly time: number }
interface Profile { readonly count: number; readonly mean: number; readonly small: number }
interface Scored  { readonly card: string; readonly device: string; readonly at: number; readonly score: number; readonly verdict: "allow" | "block"; readonly reason?: string }
interface Alert   { readonly device: string; readonly kind: "card-testing" | "small-then-large"; readonly cards: string[]; readonly at: number }
type Activity = { kind: "payment"; card: string; device: string; amount: number; at: number } | { kind: "login"; card: string; device: string; ok: boolean; at: number }
const payments = topic("payments", { codec: json<Payment>(), key: (p) => p.card, partitions: 8 })
const logins   = topic("logins",   { codec: json<Login>(),   key: (l) => l.user, partitions: 8 })
const foreign  = stream({ stream: "LOGINS", subjects: ["logins.>"], codec: json<Login>() })
const alerts   = topic("alerts",   { codec: json<Alert>(),   key: (a) => a.device })
const scores   = topic("scores",   { codec: json<Scored>(),  key: (s) => s.card })
const late     = topic("late",     { codec: json<Activity>(), key: (a) => a.card })

export const fraud = job("fraud", { onError: "dead-letter" })
  .from(payments, { through: (p) => p.map((p): Activity => ({ kind: "payment", ...p })) })
  .from(logins, { through: (l) => l.filter((l) => l.ok).map((l): Activity => ({ kind: "login", card: l.user, device: l.device, ok: l.ok, at: l.time })) })
  .withWatermark((a, info) => a.at ?? info.publishedAt, "10 seconds", { late, idleAfter: "1 minute" })
  .groupByKey()
  .flatMapGroupsWithState({ name: "card", state: json<Profile>(), timeout: "processing-time", emits: [alerts] }, function* (card, events, state, context) {
    if (state.hasTimedOut) { state.remove(); return }
    let profile = state.getOption() ?? { count: 0, mean: 0, small: 0 }
    for (const a of events) {
      if (a.kind === "login") continue
      if (a.amount > 500 && profile.small > 0) context.emitTo(alerts, { device: a.device, kind: "small-then-large", cards: [card], at: a.at })
      profile = { count: profile.count + 1, mean: (profile.mean * profile.count + a.amount) / (profile.count + 1), small: a.amount < 1 ? 1 : 0 }
      if (a.amount > 10 * profile.mean) yield { card, device: a.device, at: a.at, score: 1, verdict: "block", reason: "far above the mean" }
      else yield { card, device: a.device, at: a.at, score: 0, verdict: "allow" }
    }
    state.update(profile)
    state.setTimeoutDuration("24 hours")
  })
  .groupByKey((scored) => scored.device)
  .mapGroupsWithState({ name: "device", state: json<{ readonly cards: readonly string[] }>() }, (device, events, state) => {
    const cards = new Set(state.getOption()?.cards)
    let at = 0
    for (const s of events) { cards.add(s.card); at = Math.max(at, s.at) }
    state.update({ cards: [...cards] })
    return { device, kind: "card-testing", cards: [...cards], at }
  })
  .filter((alert) => alert.cards.length >= 8)
  .to(alerts)

// ---------- actor with inference
interface Bounds<K> { readonly key: K; readonly start: number; readonly end: number; readonly count: number }
declare function sessionizeActor<K, In>(o: { readonly gap: Duration; readonly eventTime: (event: In) => number }): Actor<K, In, readonly Bounds<K>[], Bounds<K>>
export const viaActor = job("via-actor").from(clicks).withWatermark((c) => c.at, "30 seconds").groupByKey()
  .actor(sessionizeActor({ gap: "30 minutes", eventTime: (click) => click.at }))
  .map((b) => ({ userId: b.key, start: b.start, end: b.end, clicks: b.count }))
  .to(sessions)
const count = <In>(state: Codec<number>) => defineActor({ name: "count", state, run: function* (key: string, events: Iterable<In>, s) { let n = s.getOption() ?? 0; for (const _ of events) n++; s.update(n); yield { key, n } } })
export const counted = job("counted").from(clicks).groupByKey().actor(count(json<number>())).to()

export const foreignJob = job("foreign").from(foreign).groupByKey((l) => [l.user, l.device]).mapGroupsWithState({ state: json<number>() }, ([user, device]) => ({ user, device })).to()
export const routed = job("routed").from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, (card) => ({ userId: card, start: 0, end: 1, clicks: 1, big: true })).to((v) => v.big ? sessions : sessions, { routes: [sessions] })
const emptyArrays = topic("x", { codec: json<{ tags: string[]; pair: [number, number] }>(), key: (v) => v.tags.join() })
export const arrays = job("arrays").from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, () => ({ tags: [], pair: [1, 2] })).to(emptyArrays)
export const conditional = job("cond").from(clicks).groupByKey().flatMapGroupsWithState({ state: json<number>() }, (card, _e, s) => s.exists ? [{ card, device: "", at: 0, score: 1, verdict: "block" }] : []).to(scores)

// ---------- tests a user writes
async function main() {
  const h = await harness(sessionize, { now: 0 })
  const r = await h.turn([{ userId: "u", at: 1000, page: "/" }], { now: 5 })
  const user: string | undefined = r.outputs[0]?.userId
  const n: number | undefined = h.state("u")?.clicks
  const dead: readonly Alert[] = r.outputsOf(alerts)
  const f = await harness(fraud)
  await f.turn([{ card: "c", device: "d", amount: 3, at: 1 }], { from: payments })
  const s = groupState<Open>({ timeout: "event-time", watermark: 0 })
  const s0 = groupState({ value: 0 })
  s0.update(5)
  await using q = await start(fraud, { runtime: embedded("./.keyfold"), trigger: { every: "10 seconds" } })
  const p = await publisher(memory(), clicks); await p.send({ userId: "u", at: 1, page: "/" })
  for await (const { value, key } of read(embedded(), sessions)) { const x: string = key; const v: number = value.clicks; void [x, v] }
  explain(fraud)
  const done: boolean = await q.awaitTermination(5)
  return { user, n, dead, s, done }
}
void main

// ---------- must not compile
const nope = job("nope")
// @ts-expect-error a wrong event field
nope.from(clicks).withWatermark((c) => c.time, "1 second")
// @ts-expect-error a foreign stream has no key
nope.from(foreign).groupByKey()
// @ts-expect-error a Date is not a key
nope.from(clicks).groupByKey((c) => new Date(c.at))
// @ts-expect-error an output that the topic cannot hold
nope.from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, (card) => ({ card })).to(sessions)
// @ts-expect-error a literal that is none of the topic's
nope.from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, (card) => ({ card, device: "", at: 1, score: 1, verdict: "maybe" })).to(scores)
// @ts-expect-error a wrong state type
nope.from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, (card, _e, s) => { s.update("1"); return 1 })
// @ts-expect-error async
nope.from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, async (card) => 1)
// @ts-expect-error async generator
nope.from(clicks).groupByKey().flatMapGroupsWithState({ state: json<number>() }, async function* (card) { yield 1 })
// @ts-expect-error a side output of the wrong type
nope.from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, (card, _e, _s, ctx) => { ctx.emitTo(alerts, { device: 1 }); return 1 })
// @ts-expect-error not ended: no .to()
start(nope.from(clicks).groupByKey().mapGroupsWithState({ state: json<number>() }, () => 1), { runtime: memory() })
start(sessionize, { runtime: memory(), trigger: "available-now", atEnd: "close", limits: { turnEventsMax: 4096 } })
// @ts-expect-error unknown trigger
start(sessionize, { runtime: memory(), trigger: "availableNow" })
// more
const both = nope.from(clicks)
// @ts-expect-error one of two sources has no key
both.from(foreign).groupByKey()
// @ts-expect-error a sink that was not made by topic() or foreachTurn()
nope.from(clicks).to({ name: "sessions" })
export const auto = job("auto").from(payments, { through: (p) => p.map((p) => ({ kind: "payment", ...p })) }).from(logins, { through: (l) => l.map((l) => ({ kind: "login", ...l })) })
  .filter((e) => e.kind === "payment").groupByKey().mapGroupsWithState({ state: json<number>() }, (k, es) => { let sum = 0; for (const e of es) sum += e.amount; return { k, sum } }).to()
export const tupled = job("t").from(foreign).groupByKey((l) => [l.user, l.device]).mapGroupsWithState({ state: json<number>() }, ([user, device]) => ({ user, device }))
  .groupByKey(({ user }) => user).mapGroupsWithState({ name: "two", state: json<string>(), initialState: [["u", "s"]] }, (k) => `${k}`).to()
type Shape<J> = J extends Job<infer I, infer O, infer K, infer S> ? [I, O, K, S] : never
const check: Shape<typeof fraud> extends [Payment | Login, { readonly cards: readonly string[] }, string, Profile | { readonly cards: readonly string[] }] ? true : false = true
void check
export const s2 = job("foreach").from(clicks).to()
