import { chmod, mkdir, stat } from 'node:fs/promises'
import { ConflictError } from '../errors.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { quote } from '../internal/text.ts'
import type { StorePaths } from './paths.ts'

/** Makes what is missing of the directories of a store. @throws ConflictError when it belongs to another user. */
export async function makeStore(paths: StorePaths): Promise<void> {
  await refuseForeign(paths)
  await makeDirectories(paths)
}

/**
 * What root made in the store of an ordinary user that one could not read; and overlays of the one don't see the marks that the
 * layers of the other have (overlayfs.rst, "User xattr").
 */
async function refuseForeign({ root, content }: StorePaths): Promise<void> {
  const own = process.geteuid?.()
  const owner = (await ownerOf({ root, content })) ?? own
  if (owner === own || owner === undefined) return
  throw new ConflictError(root, `the store ${quote(root)} belongs to the user with uid ${owner}, not ${own}`, {
    hint: 'Open it as that user, or choose another root; images can be handed over by save() and load().',
  })
}

/** Undefined when there is no store, or nothing of it can be seen. */
async function ownerOf({ root, content }: Pick<StorePaths, 'root' | 'content'>): Promise<number | undefined> {
  try {
    return (await stat(content)).uid
  } catch (error) {
    // Its directory is closed to others, but can be seen.
    return hasCode(error, 'EACCES') ? (await stat(root).catch(() => undefined))?.uid : undefined
  }
}

async function makeDirectories({ root, ...parts }: StorePaths): Promise<void> {
  try {
    await mkdir(root, { recursive: true, mode: 0o700 })
    await chmod(root, 0o700)
    for (const part of Object.values(parts)) await mkdir(part, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw fileError(error, 'making a store', root)
  }
}
