import type { Fault } from "./faults.ts"

/** The fewest of some faults with which something still fails: each that is not needed is left out, the last first. */
export const fewestFaults = async (
  faults: readonly Fault[],
  fails: (some: readonly Fault[]) => Promise<boolean>
): Promise<readonly Fault[]> => {
  let least = faults
  for (let index = faults.length - 1; index >= 0; index--) {
    const without = least.filter((fault) => fault !== faults[index])
    if (await fails(without)) least = without
  }
  return least
}
