/** Which Node runs keyfold. Pure, and written so that any Node that knows modules can load it. */

export const nodeOldest = "22.19"

export const isNodeTooOld = (version: string): boolean => {
  const [major = 0, minor = 0] = version.split(".").map(Number)
  const [majorOldest = 0, minorOldest = 0] = nodeOldest.split(".").map(Number)
  return major < majorOldest || (major === majorOldest && minor < minorOldest)
}
