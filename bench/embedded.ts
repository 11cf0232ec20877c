/**
 * The embedded runtime beside a SQLite loop written by hand for this one job, doing the same durable work: read a log in batches of
 * 4,096, parse JSON, fold sessions per key, and in one transaction a batch, with the same fsync, upsert every changed state with its
 * timeout (indexed), append finished sessions, and move the position. Both read a log that is already there and close every session.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { publisher, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { type Click, clickLog, delayMs, fold, gapMs, type Open, type Session, sessionize } from "./clicks.ts"
import { fixed, row } from "./measure.ts"

// ---- by hand

const byHand = (directory: string, clicks: readonly Click[]): { readonly run: () => number; readonly close: () => void } => {
  const db = new DatabaseSync(join(directory, "hand.db"))
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE log (position INTEGER PRIMARY KEY, payload BLOB);
    CREATE TABLE out (position INTEGER PRIMARY KEY, payload BLOB);
    CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB, due INTEGER) WITHOUT ROWID;
    CREATE INDEX state_due ON state (due, key);
    CREATE TABLE position (id INTEGER PRIMARY KEY, position INTEGER);
    INSERT INTO position VALUES (1, 0); BEGIN`)
  const fill = db.prepare("INSERT INTO log (payload) VALUES (?)")
  for (const click of clicks) fill.run(Buffer.from(JSON.stringify(click)))
  db.exec("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
  const read = db.prepare("SELECT position, payload FROM log WHERE position > ? ORDER BY position LIMIT 4096")
  read.setReturnArrays(true)
  const append = db.prepare("INSERT INTO out (payload) VALUES (?)")
  const upsert = db.prepare("INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, due = excluded.due")
  const forget = db.prepare("DELETE FROM state WHERE key = ?")
  const dueNow = db.prepare("SELECT key FROM state WHERE due < ? ORDER BY due, key")
  const move = db.prepare("UPDATE position SET position = ?")
  const states = new Map<string, Open>()
  const finish = (session: Session) => append.run(Buffer.from(JSON.stringify(session)))

  const fire = (watermark: number) => {
    for (const { key } of dueNow.all(watermark) as { key: string }[]) {
      finish({ user: key, ...(states.get(key) as Open) })
      states.delete(key)
      forget.run(key)
    }
  }
  const run = (): number => {
    let position = 0
    let newest = 0
    for (;;) {
      const rows = read.all(position) as unknown as [number, Uint8Array][]
      if (rows.length === 0) break
      const groups = new Map<string, Click[]>()
      for (const [, payload] of rows) {
        const click = JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString()) as Click
        const group = groups.get(click.user)
        if (group === undefined) groups.set(click.user, [click])
        else group.push(click)
        if (click.at > newest) newest = click.at
      }
      position = (rows.at(-1) as [number, Uint8Array])[0]
      db.exec("BEGIN IMMEDIATE")
      for (const [user, events] of groups) {
        const open = fold(user, events, states.get(user), finish) as Open
        states.set(user, open)
        upsert.run(user, Buffer.from(JSON.stringify(open)), open.end + gapMs)
      }
      fire(newest - delayMs)
      move.run(position)
      db.exec("COMMIT")
    }
    db.exec("BEGIN IMMEDIATE")
    fire(Number.MAX_SAFE_INTEGER)
    db.exec("COMMIT")
    return (db.prepare("SELECT count(*) AS count FROM out").get() as { count: number }).count
  }
  return { run, close: () => db.close() }
}

// ---- keyfold

const byKeyfold = async (directory: string, clicks: readonly Click[], partitions: number) => {
  const source = topic("clicks", { codec: json<Click>(), key: (click) => click.user, partitions })
  const sessions = topic("sessions", { codec: json<Session>(), key: (session) => session.user, partitions })
  const what = sessionize(source, sessions)
  const runtime = embedded(directory)
  {
    await using out = await publisher(runtime, source)
    for (const [index, click] of clicks.entries()) {
      const sent = out.send(click)
      if (index % 4_096 === 0) await sent
    }
  }
  return {
    run: async (): Promise<number> => {
      const query = await start(what, { runtime, trigger: "available-now", atEnd: "close" })
      await query.awaitTermination()
      return (query as unknown as { readonly totals: { readonly outputs: number } }).totals.outputs
    }
  }
}

export const embeddedBench = async (): Promise<void> => {
  const count = 200_000
  const rounds = 5
  process.stdout.write(
    `\nEmbedded runtime beside a SQLite loop by hand: ${count.toLocaleString("en")} clicks, sessionized, durable (median of ${rounds} rounds)\n`
  )
  const widths = [24, 14, 16, 16, 10]
  process.stdout.write(`${row(["", "by hand, us", "keyfold 1p, us", "keyfold 16p, us", "ratio 1p/16p"], widths)}\n`)
  for (const users of [100, 10_000, 100_000]) {
    const clicks = clickLog(count, users)
    const samples: { hand: number; one: number; sixteen: number }[] = []
    for (let round = 0; round < rounds; round++) {
      const directory = mkdtempSync(join(tmpdir(), "keyfold-bench-"))
      try {
        const hand = byHand(directory, clicks)
        const handUs = await timed(hand.run, count)
        hand.close()
        const one = await timed((await byKeyfold(join(directory, "one"), clicks, 1)).run, count)
        const sixteen = await timed((await byKeyfold(join(directory, "sixteen"), clicks, 16)).run, count)
        samples.push({ hand: handUs, one, sixteen })
      } finally {
        rmSync(directory, { recursive: true, force: true })
      }
    }
    const of = (pick: (sample: { hand: number; one: number; sixteen: number }) => number) =>
      samples.map(pick).toSorted((a, b) => a - b)[rounds >> 1] as number
    const ratios = `${fixed(
      of((s) => (s.hand / s.one) * 100),
      0
    )} % / ${fixed(
      of((s) => (s.hand / s.sixteen) * 100),
      0
    )} %`
    process.stdout.write(
      `${row([`${users.toLocaleString("en")} users`, fixed(of((s) => s.hand)), fixed(of((s) => s.one)), fixed(of((s) => s.sixteen)), ratios], widths)}\n`
    )
  }
}

const timed = async (run: () => number | Promise<number>, count: number): Promise<number> => {
  const began = performance.now()
  const outputs = await run()
  const us = ((performance.now() - began) * 1_000) / count
  if (outputs === 0) throw new Error("the run put nothing out")
  return us
}
