import { type FileHandle, link, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { hasCode } from '../internal/file-error.ts'
import { ownedName, ownOwner } from './owner.ts'

/** How {@link publish} makes a file. */
export interface PublishOptions {
  /** Whether to wait until the file, and its name, are on the disk. */
  readonly sync: boolean
  /** Whether a file that is there already is replaced; else it stays, which is no error. */
  readonly replace: boolean
  /** Folder in which the content is collected, in the same file system; made when it is missing. */
  readonly folder: string
}

/**
 * Makes a file that is seen whole or not at all: written under another name, then renamed. On failure
 * nothing is left. Where the content tells the name, `path` is asked for when it has been written.
 */
export async function publish(
  path: string | (() => Promise<string>),
  content: string | ((file: FileHandle) => Promise<void>),
  options: PublishOptions,
): Promise<void> {
  const temporary = join(options.folder, ownedName(await ownOwner()))
  try {
    const file = await openNew(temporary)
    try {
      if (typeof content === 'string') await file.writeFile(content)
      else await content(file)
      if (options.sync) await file.datasync()
    } finally {
      await file.close()
    }
    const target = typeof path === 'string' ? path : await path()
    if (options.replace) await rename(temporary, target)
    else await linkNew(temporary, target)
    if (options.sync) await syncFolder(dirname(target))
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Opens a file that must not be there yet. */
async function openNew(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx', 0o644)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    await mkdir(dirname(path), { recursive: true })
    return open(path, 'wx', 0o644)
  }
}

async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
  }
}

/** Waits until the names in a folder are on the disk. */
export async function syncFolder(path: string): Promise<void> {
  // Windows can't open a folder, and needs no such thing.
  if (process.platform === 'win32') return
  const folder = await open(path)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
