import { closeSync, openSync } from 'node:fs'
import { makeUserNamespace } from '../linux/user-namespace.ts'
import type { IdMapSource } from './mount-sources.ts'

const step = 'make a user namespace for the owners of a mount'

/**
 * Opens user namespaces for the owners of mounts to be mapped by: the ones at a path, and new ones with
 * mappings, which last as long as their descriptors.
 * @returns descriptors of this process, in order; whoever asked closes them.
 */
export async function openUserNamespaces(sources: readonly IdMapSource[]): Promise<number[]> {
  const opened: number[] = []
  try {
    for (const source of sources) {
      const made = 'path' in source ? openSync(source.path, 'r') : await makeUserNamespace(source, step)
      opened.push(made)
    }
    return opened
  } catch (cause) {
    for (const fd of opened) closeSync(fd)
    throw cause
  }
}
