/**
 * Nothing outlives the process that started it, however that ends, SIGKILL included: a small shell reads from a pipe what was started and
 * what has ended; when the pipe closes, because this process is gone, it kills what is left and removes the directories.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

// It removes twice: a server that is being killed may still create a file.
const script = `
trap '' INT TERM HUP
alive=' '
while read -r word what; do
  case $word in
    started) alive="$alive$what " ;;
    ended) case "$alive" in *" $what "*) alive="\${alive%% $what *} \${alive#* $what }" ;; esac ;;
  esac
done
for pid in $alive; do kill -9 "$pid" 2>/dev/null; done
rm -rf -- "$1" 2>/dev/null || { sleep 1; rm -rf -- "$1"; }
`

let reaper: { readonly shell: ChildProcess; readonly root: string } | undefined
let directories = 0

/** A new, empty directory; gone when this process is. */
export const serverDirectory = (name: string): string => {
  const directory = join(reaping().root, `${name}-${++directories}`)
  mkdirSync(directory)
  return directory
}

/** Starts a process that ends with this one. */
export const spawnReaped = (program: string, args: readonly string[], output: number): ChildProcess => {
  const { shell } = reaping()
  const child = spawn(program, args, { stdio: ["ignore", output, output] })
  const { pid } = child
  if (pid !== undefined) {
    shell.stdin?.write(`started ${pid}\n`)
    child.once("exit", () => shell.stdin?.write(`ended ${pid}\n`))
  }
  child.unref()
  return child
}

const reaping = (): { readonly shell: ChildProcess; readonly root: string } => {
  if (reaper !== undefined) return reaper
  const root = mkdtempSync(join(tmpdir(), "keyfold-servers-"))
  // In a session of its own: Ctrl-C at the terminal must not end it first.
  const shell = spawn("/bin/sh", ["-c", script, "reaper", root], { stdio: ["pipe", "ignore", "ignore"], detached: true })
  shell.stdin.on("error", () => undefined) // somebody killed it: then nobody cleans up
  shell.unref()
  ;(shell.stdin as unknown as { unref(): void }).unref()
  reaper = { shell, root }
  return reaper
}
