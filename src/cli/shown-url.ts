/** Addresses for people: user names, passwords and tokens never reach a terminal or a log. Pure. */

/** One address or several, separated by commas, without what stands before an `@` or after a `?`: secrets are there. */
export const shownUrl = (url: string): string =>
  url
    .split(/,(?=[a-z][a-z0-9+.-]*:\/\/)/i)
    .map((one) => one.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/is, "$1").replace(/[?#].*$/s, ""))
    .join(",")

/** A word of a command line in a message: an address that stands where none belongs has its secrets all the same. */
export const shownWord = (word: string): string => JSON.stringify(word.includes("@") ? shownUrl(word) : word)
