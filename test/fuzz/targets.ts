/** Everything that reads bytes. */
import type { Target } from "./target.ts"
import { commandTargets } from "./targets-command.ts"
import { journalTargets } from "./targets-journal.ts"
import { messageTargets } from "./targets-messages.ts"
import { serverTargets } from "./targets-servers.ts"
import { storageTargets } from "./targets-storage.ts"

export const targets: readonly Target[] = [...journalTargets, ...messageTargets, ...serverTargets, ...commandTargets, ...storageTargets]
