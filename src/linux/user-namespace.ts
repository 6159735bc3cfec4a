import { openSync } from 'node:fs'
import { CLONE, setns, unshare } from './calls/processes.ts'
import { type IdMaps, writeIdMaps } from './id-maps.ts'
import { ownIdMaps } from './own-ids.ts'
import { Remote } from './remote/remote.ts'

/**
 * Makes a user namespace, which lasts as long as the descriptor that is returned.
 * @throws UnsupportedError saying what to set up when the maps are refused. @throws SyscallError when the kernel refuses.
 */
export async function makeUserNamespace(maps: IdMaps, step: string): Promise<number> {
  // What it writes its maps by is its own, and nothing of it is worth hiding.
  await using process = Remote.spawn({ dumpable: true })
  await process.run([unshare(CLONE.NEWUSER, { step })])
  await writeIdMaps(process.pid, maps)
  return openSync(`/proc/${process.pid}/ns/user`, 'r')
}

/** Namespaces that were made for an ordinary user; they are kept, for newuidmap takes longer than most that is done in them. */
const kept = new Map<string, Promise<number>>()

function ownUserNamespace(): Promise<number> {
  const maps = ownIdMaps()
  const key = JSON.stringify(maps)
  const known = kept.get(key)
  if (known !== undefined) return known
  const made = makeUserNamespace(maps, 'make a user namespace for the files of this user')
  kept.set(key, made)
  made.catch(() => kept.delete(key))
  return made
}

/** Where a process that is to enter a user namespace has it. */
const namespace = 5

/** Starts a process in a user namespace with the ids of this user: there it is root, and may do what root may with them. */
export async function spawnMapped(step: string, descriptors: ReadonlyMap<number, number> = new Map()): Promise<Remote> {
  const remote = Remote.spawn({ descriptors: new Map([...descriptors, [namespace, await ownUserNamespace()]]) })
  try {
    await remote.run([setns(namespace, CLONE.NEWUSER, { step })])
    return remote
  } catch (error) {
    await remote.close()
    throw error
  }
}
