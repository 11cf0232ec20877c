/** Loads the user's module with Node's own import, types stripped by Node itself. */
import { readdirSync, statSync } from "node:fs"
import { basename, dirname, extname, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { type Catalog, catalogOf, type Exports } from "./catalog.ts"
import { loadFailure } from "./load-failure.ts"
import { misuse, type Refusal } from "./refusal.ts"
import { nearest } from "./suggestion.ts"

/** Throws a Refusal, or what keyfold itself threw inside the module (a refused job). */
export const loadCatalog = async (path: string): Promise<Catalog> => {
  const file = resolve(path)
  if (!isFile(file)) throw noSuchModule(path, file)
  return catalogOf(path, await importedFrom(file, path))
}

const importedFrom = async (file: string, path: string): Promise<Exports> => {
  try {
    return (await import(pathToFileURL(file).href)) as Exports
  } catch (thrown) {
    throw loadFailure(thrown, path)
  }
}

const isFile = (file: string): boolean => statSync(file, { throwIfNoEntry: false })?.isFile() === true

/** A forgotten ending or a typing slip: the neighbours of the file know. */
const noSuchModule = (path: string, file: string): Refusal => {
  const neighbours = modulesIn(dirname(file))
  const name = basename(file)
  const meant = neighbours.find((neighbour) => neighbour.slice(0, -extname(neighbour).length) === name) ?? nearest(name, neighbours)
  const hint =
    meant === undefined ? "Name the file that exports your job, from the current directory." : `Did you mean ${resembling(path, meant)}?`
  return misuse(`there is no file ${path}`, hint)
}

const resembling = (path: string, name: string): string => (dirname(path) === "." ? name : `${dirname(path)}/${name}`)

const modulesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory).filter((name) => /\.[mc]?[jt]s$/.test(name))
  } catch {
    return []
  }
}
