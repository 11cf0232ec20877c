/**
 * `npm run fuzz -- --minutes N [--target NAME] [--seed S]`: goes on where the tests end. Each input that fails is made shorter and written to
 * crashes/<target>/, where every file is a test from then on. Ends with 1 when there was one.
 *
 * Targets take turns, each turn in a process of its own: one that is gone, that hangs in native code, or that takes all memory is a failure
 * like any other. Which input it was is found by running that turn again, with each input written down before it is read.
 */
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { drive } from "./engine.ts"
import { keep, kept, nameOf } from "./kept.ts"
import { shrunk } from "./shrinking.ts"
import type { Target } from "./target.ts"
import { targets } from "./targets.ts"

const turnMsMax = 20_000
const graceMs = 180_000
const failuresMax = 5

/** What a turn says in its last line. */
interface Report {
  readonly inputs: number
  readonly read: number
  readonly refused: Readonly<Record<string, number>>
  readonly failures: readonly string[]
}

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    target: { type: "string" },
    seed: { type: "string", default: "1" },
    turn: { type: "string" },
    from: { type: "string", default: "0" },
    ms: { type: "string", default: "0" },
    trace: { type: "string" }
  }
})
const seed = Number(values.seed)

const named = (name: string): Target => {
  const found = targets.find((target) => target.name === name)
  if (found === undefined) throw new Error(`there is no target ${name}: ${targets.map((target) => target.name).join(", ")}`)
  return found
}

const say = (line: string): void => void process.stdout.write(`${line}\n`)

// ---- one turn

const runTurn = async (target: Target): Promise<Report> => {
  const corpus = [...kept("corpus", target), ...kept("crashes", target)].map(({ input }) => input)
  const endMs = performance.now() + Number(values.ms)
  const { trace } = values
  const tally = await drive(target, corpus, {
    seed,
    from: Number(values.from),
    goesOn: () => performance.now() < endMs,
    failuresMax,
    ...(trace === undefined ? {} : { before: (input: Buffer) => writeFileSync(trace, input) })
  })
  const failures: string[] = []
  for (const { input, number, fault } of tally.failures) {
    const small = await shrunk(target, input, fault)
    const path = keep("crashes", target, { name: nameOf(fault.what, small), input: small })
    failures.push(`${path} (input ${number} of ${input.length} bytes)\n${fault.detail}`)
  }
  return { inputs: tally.inputs, read: tally.read, refused: Object.fromEntries(tally.refused), failures }
}

// ---- all of them, in turns

const child = (target: Target, from: number, ms: number, more: readonly string[]): Promise<Report | undefined> => {
  const words = ["--turn", target.name, "--seed", String(seed), "--from", String(from), "--ms", String(ms), ...more]
  const started = spawn(process.execPath, ["--conditions=keyfold-source", fileURLToPath(import.meta.url), ...words], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  let output = ""
  started.stdout.on("data", (chunk) => (output += String(chunk)))
  const impatience = setTimeout(() => started.kill("SIGKILL"), ms + graceMs)
  return new Promise((done) =>
    started.on("close", (code) => {
      clearTimeout(impatience)
      done(code === 0 ? (JSON.parse(output.trim().split("\n").at(-1) ?? "") as Report) : undefined)
    })
  )
}

/** The input that ends the process: kept as it is, because making it shorter would end this one. */
const findDeadly = async (target: Target, from: number, ms: number): Promise<string> => {
  const directory = mkdtempSync(join(tmpdir(), "keyfold-fuzz-"))
  const trace = join(directory, "input")
  try {
    const again = await child(target, from, 4 * ms, ["--trace", trace])
    if (again !== undefined || !existsSync(trace)) return `${target.name} ended by itself behind input ${from}, and not again`
    const input = readFileSync(trace)
    return `${keep("crashes", target, { name: nameOf("died", input), input })}\nZ1: the process was gone, or did not end`
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const runAll = async (chosen: readonly Target[]): Promise<boolean> => {
  const endMs = performance.now() + Number(values.minutes) * 60_000
  const totals = new Map(chosen.map((target) => [target, { inputs: 0, read: 0, refused: {} as Record<string, number>, failures: 0 }]))
  const deadly = new Set<Target>()
  while (performance.now() < endMs && deadly.size < chosen.length) {
    for (const target of chosen) {
      if (deadly.has(target)) continue // it would end in the same way again
      const ms = Math.min(turnMsMax, Math.ceil((endMs - performance.now()) / chosen.length) + 1)
      if (ms <= 1) continue
      const total = totals.get(target) as { inputs: number; read: number; refused: Record<string, number>; failures: number }
      const report = await child(target, total.inputs, ms, [])
      if (report === undefined) deadly.add(target)
      const failures = report?.failures ?? [await findDeadly(target, total.inputs, ms)]
      for (const failure of failures) say(`FAILED ${target.name} (SEED=${seed}): ${failure}`)
      total.failures += failures.length
      total.inputs += report?.inputs ?? 0
      total.read += report?.read ?? 0
      for (const [code, count] of Object.entries(report?.refused ?? {})) total.refused[code] = (total.refused[code] ?? 0) + count
    }
  }
  for (const [{ name }, { inputs, read, refused, failures }] of totals) {
    const codes = Object.entries(refused).map(([code, count]) => `${code} ${count}`)
    say(`${name.padEnd(18)} ${String(inputs).padStart(9)} inputs: read ${[read, ...codes].join(", ")}; failures ${failures}`)
  }
  return [...totals.values()].every(({ failures }) => failures === 0)
}

if (values.turn === undefined) {
  const chosen = values.target === undefined ? targets : [named(values.target)]
  say(`fuzzing ${chosen.length} targets for ${values.minutes} minutes (SEED=${seed})`)
  process.exitCode = (await runAll(chosen)) ? 0 : 1
} else {
  say(JSON.stringify(await runTurn(named(values.turn))))
  process.exit(0) // a query that hangs would keep it
}
