import { constants, type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '../image/digest.ts'
import { hasCode } from '../internal/file-error.ts'
import { isAlive, ownedName, ownerOf, ownOwner } from './owner.ts'

/** Ending of a file that nobody is working at. */
const free = 'partial'

/** Age from which such a file is of no more use, in milliseconds: a day; and how many are kept, the newest. */
const [maxAge, maxFiles] = [86_400_000, 16]

/** Opened for appending, made where it is missing, and never somewhere else by way of a link. */
const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0)

/** The beginning of some content, that this process alone works at. */
export interface PartialFile {
  readonly path: string
  /** Open for reading and appending. */
  readonly file: FileHandle
  /** Closes it, and leaves what there is to the next one who wants it. */
  keep(): Promise<void>
  /** Closes it, and removes it if it has not been renamed. */
  discard(): Promise<void>
}

/**
 * Files with the beginning of some content, in a folder: `<digest>.partial`, or while a process works at
 * one, `<digest>.<owner>`. A file is taken by renaming it, so that two can't have the same; one whose
 * process has died can be taken as well.
 */
export class PartialFiles {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** What there is of some content, or an empty file, where there is nothing or others work at it. */
  async take(digest: Digest): Promise<PartialFile> {
    const here = await ownOwner()
    const prefix = `${digest.replace(':', '-')}.`
    const path = join(this.#folder, `${prefix}${ownedName(here)}`)
    for (const name of await readdir(this.#folder)) {
      if (name.startsWith(prefix) && isFree(name, here) && (await moved(join(this.#folder, name), path))) break
    }
    const file = await open(path, flags, 0o644)
    let isOpen = true
    const close = async (): Promise<boolean> => {
      const was = isOpen
      isOpen = false
      if (was) await file.close()
      return was
    }
    return {
      path,
      file,
      keep: async () => {
        const isEmpty = isOpen && (await file.stat()).size === 0
        if (!(await close())) return
        if (isEmpty) await rm(path, { force: true })
        else await moved(path, join(this.#folder, `${prefix}${free}`))
      },
      discard: async () => {
        if (await close()) await rm(path, { force: true })
      },
    }
  }

  /** Removes what is too old or too much of what nobody works at. */
  async prune(): Promise<void> {
    const here = await ownOwner()
    const names = (await readdir(this.#folder)).filter((name) => isPartial(name) && isFree(name, here))
    const files = await Promise.all(
      names.map(async (name) => ({ name, time: await modified(join(this.#folder, name)) })),
    )
    const oldest = Date.now() - maxAge
    for (const [index, { name, time }] of files.sort((a, b) => b.time - a.time).entries()) {
      if (index >= maxFiles || time < oldest) await rm(join(this.#folder, name), { force: true })
    }
  }
}

/** Whether a name is that of such a file. */
export function isPartial(name: string): boolean {
  return /^[a-z0-9]+-[0-9a-f]+\./.test(name)
}

function isFree(name: string, here: Awaited<ReturnType<typeof ownOwner>>): boolean {
  const ending = name.slice(name.lastIndexOf('.') + 1)
  const owner = ownerOf(ending)
  return ending === free || (owner !== undefined && isAlive(owner, here) === false)
}

/** Renames a file; whether it was there. */
async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}

async function modified(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs
  } catch {
    // Somebody has taken it.
    return Date.now()
  }
}
