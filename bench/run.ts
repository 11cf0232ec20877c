/** `npm run bench [engine|memory|embedded|journal|clustered|simulation ...]`: all of them by default. */
import { clusteredBench } from "./clustered.ts"
import { embeddedBench } from "./embedded.ts"
import { engineBench, memoryBench } from "./engine.ts"
import { redisJournalBench } from "./redis-journal.ts"
import { simulationBench } from "./simulation.ts"

const benches: Readonly<Record<string, () => Promise<void>>> = {
  engine: engineBench,
  memory: memoryBench,
  embedded: embeddedBench,
  journal: redisJournalBench,
  clustered: clusteredBench,
  simulation: simulationBench
}

const names = process.argv.slice(2)
const unknown = names.filter((name) => benches[name] === undefined)
if (unknown.length > 0) {
  process.stderr.write(`no bench called ${unknown.join(", ")}: there are ${Object.keys(benches).join(", ")}\n`)
  process.exit(2)
}
process.stdout.write(`node ${process.version}, ${process.platform} ${process.arch}\n`)
for (const name of names.length > 0 ? names : Object.keys(benches)) await benches[name]?.()
