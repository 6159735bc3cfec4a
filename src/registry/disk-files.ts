import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import { link, mkdir, open, readdir, rename, rmdir, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** How often a directory that vanishes again is made anew: another request removes those that are empty. */
const attempts = 10

/** What the promise gives; undefined when there is no such file. */
export async function ifExists<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

export function statIfExists(file: string): Promise<Stats | undefined> {
  return ifExists(stat(file))
}

/** Returns whether the file was there. */
export async function unlinkIfExists(file: string): Promise<boolean> {
  return (await ifExists(unlink(file).then(() => true))) ?? false
}

/** Removes a directory when it is empty. Returns whether it did. */
export async function removeEmpty(directory: string): Promise<boolean> {
  try {
    await rmdir(directory)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST')) return false
    throw error
  }
}

/** Creates an empty file and the directory it is in. */
export async function createFile(file: string): Promise<void> {
  const handle = await inDirectory(file, () => open(file, 'wx'))
  await handle.close()
}

/** Writes a file so that readers, and whoever comes after a crash, see the old content or the new one. */
export async function writeDurably(file: string, content: string | Uint8Array, temporaries: string): Promise<void> {
  const temporary = join(temporaries, randomUUID())
  const handle = await inDirectory(temporary, () => open(temporary, 'wx'))
  try {
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await inDirectory(file, () => rename(temporary, file))
  } catch (error) {
    await unlinkIfExists(temporary)
    throw error
  }
  await syncDirectory(dirname(file))
}

/** What came of giving a file another name: `impossible` when there is no such file, or it can't have more names. */
export type LinkOutcome = 'made' | 'existed' | 'impossible'

/** Gives a file another name; a name that is taken is left alone. */
export async function linkDurably(file: string, name: string): Promise<LinkOutcome> {
  if ((await statIfExists(file)) === undefined) return 'impossible'
  let outcome: LinkOutcome = 'made'
  try {
    await inDirectory(name, () => link(file, name))
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EMLINK')) return 'impossible'
    if (!hasCode(error, 'EEXIST')) throw error
    outcome = 'existed'
  }
  await syncDirectory(dirname(name))
  return outcome
}

/** Gives a file another name, taking it from the file that has it. Does nothing when one of the two is gone. */
export async function replaceDurably(file: string, name: string, temporary: string): Promise<void> {
  if ((await linkDurably(file, temporary)) !== 'made') return
  try {
    await ifExists(rename(temporary, name))
  } finally {
    // Still there when both names were the same file's.
    await unlinkIfExists(temporary)
  }
  await syncDirectory(dirname(name))
}

/** Removes files of a directory that were not written to for `idleMs` milliseconds and are not to be kept. */
export async function removeStale(directory: string, idleMs: number, keep: (name: string) => boolean): Promise<void> {
  const before = Date.now() - idleMs
  for (const name of (await ifExists(readdir(directory))) ?? []) {
    if (keep(name)) continue
    const file = join(directory, name)
    const stats = await statIfExists(file)
    if (stats?.isFile() && stats.mtimeMs < before) await unlinkIfExists(file)
  }
}

/** Does what needs the directory of `file`, which is made when it is missing. */
async function inDirectory<T>(file: string, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      if (!hasCode(error, 'ENOENT') || attempt === attempts) throw error
      await makeDirectory(dirname(file))
    }
  }
}

/** Makes a directory and those above it, durably. */
async function makeDirectory(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true })
  if (first === undefined) return
  for (let made = directory; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made))
}

/** Makes the names in a directory durable. Some systems can't, and need not. */
async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await ifExists(open(directory, 'r'))
  if (handle === undefined) return
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
