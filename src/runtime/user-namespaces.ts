import { closeSync, openSync } from 'node:fs'
import { CLONE, unshare } from '../linux/calls/processes.ts'
import { Remote } from '../linux/remote/remote.ts'
import { writeIdMaps } from './id-maps.ts'
import type { IdMapSource } from './mount-sources.ts'

/**
 * Opens user namespaces for the owners of mounts to be mapped by: the ones at a path, and new ones with
 * mappings, which last as long as their descriptors.
 * @returns descriptors of this process, in order; whoever asked closes them.
 */
export async function openUserNamespaces(sources: readonly IdMapSource[]): Promise<number[]> {
  const opened: number[] = []
  try {
    for (const source of sources) opened.push('path' in source ? openSync(source.path, 'r') : await make(source))
    return opened
  } catch (cause) {
    for (const fd of opened) closeSync(fd)
    throw cause
  }
}

async function make(mappings: Exclude<IdMapSource, { readonly path: string }>): Promise<number> {
  // What it writes its maps by is its own, and nothing of it is worth hiding.
  await using process = Remote.spawn({ dumpable: true })
  await process.run([unshare(CLONE.NEWUSER, { step: 'make a user namespace for the owners of a mount' })])
  await writeIdMaps(process.pid, mappings)
  return openSync(`/proc/${process.pid}/ns/user`, 'r')
}
