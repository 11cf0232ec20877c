/** Numbers as people read them, the same on every machine. Pure. */

/** 1234567 -> "1,234,567" */
export const counted = (count: number): string =>
  Math.round(count)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ",")

/** "1 line", "2 lines" */
export const plural = (count: number, word: string): string => `${counted(count)} ${word}${count === 1 ? "" : "s"}`

/** Two to three digits and a decimal unit: "812 B", "1.5 kB", "23 MB", "1.0 GB". */
export const sized = (bytes: number): string => {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1_000
    unit += 1
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}

/** "0.4 s", "12 s", "3 min 05 s", "2 h 07 min" */
export const lasting = (ms: number): string => {
  const seconds = Math.round(ms / 1_000)
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)} s`
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${twoDigits(seconds % 60)} s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`
}

const units = ["B", "kB", "MB", "GB", "TB"] as const

const twoDigits = (number: number): string => String(number).padStart(2, "0")
