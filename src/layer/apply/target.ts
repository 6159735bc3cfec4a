import { readFile } from 'node:fs/promises'
import type { Call } from '../../linux/call.ts'
import { AT_FDCWD, chdir, chroot, fchmodat, umask } from '../../linux/calls/files.ts'
import type { IdMaps } from '../../linux/id-maps.ts'
import { ownIdMaps } from '../../linux/own-ids.ts'
import { Remote } from '../../linux/remote/remote.ts'
import { borrowMemory, mapMemory, type SharedMemory } from '../../linux/remote/shared-memory.ts'
import type { Results } from '../../linux/runner.ts'
import { spawnMapped } from '../../linux/user-namespace.ts'
import type { TargetProcess } from './apply.ts'

/** With which rights layers are unpacked. */
export interface Ownership {
  /** Whether the kernel sees a user namespace around it: marks of overlayfs are `user.overlay.…` then. */
  readonly userNamespace: boolean
  /** Whether every owner is mapped to the one user that there is. */
  readonly singleOwner: boolean
  /** The ids of an ordinary user, in the user namespace that it is root in. Undefined for root, who has all that there are. */
  readonly ids?: IdMaps
}

/**
 * The rights of this process: root's, root's in a user namespace, or those of an ordinary user, who has the ids of
 * /etc/subuid and /etc/subgid, or one alone.
 */
export async function ownership(): Promise<Ownership> {
  if (process.geteuid?.() !== 0) {
    const ids = ownIdMaps()
    return { userNamespace: true, singleOwner: ids.uidMappings.length === 1, ids }
  }
  const map = await readFile('/proc/self/uid_map', 'latin1').catch(() => '')
  const all = /^\s*0\s+0\s+4294967295\s*$/.test(map)
  return { userNamespace: map !== '' && !all, singleOwner: false }
}

/** Descriptor on which the process finds the memory that it shares with this one. */
const memoryDescriptor = 4

/**
 * Starts a remote process whose root and working directory are `directory`: whatever path it is given, it
 * can't touch anything else. For an ordinary user it is root in a user namespace.
 * @throws SyscallError when the kernel refuses: without the right to chroot, or to make user namespaces.
 * @throws UnsupportedError when the ids of an ordinary user can't be mapped.
 */
export async function openTarget(directory: string): Promise<TargetProcess> {
  const memory = borrowMemory()
  try {
    const step = 'enter the target of the layer'
    const remote = await spawnOwner(step, new Map([[memoryDescriptor, memory.fd]]))
    const target = new Target(memory, remote)
    try {
      // A root that hands its group down would have what is made in it belong to that.
      const plain = fchmodat(AT_FDCWD, '/', 0o755, { step })
      await target.run([...mapMemory(memory, memoryDescriptor), umask(0), ...enterRoot(directory, step), plain])
      return target
    } catch (error) {
      await remote.close()
      throw error
    }
  } catch (error) {
    memory.giveBack()
    throw error
  }
}

/** A process that may do whatever this one may with the owners of files: for an ordinary user it is root in a user namespace. */
export async function spawnOwner(step: string, descriptors?: ReadonlyMap<number, number>): Promise<Remote> {
  if (process.geteuid?.() === 0) return Remote.spawn(descriptors === undefined ? {} : { descriptors })
  return spawnMapped(step, descriptors)
}

/** Calls that make `directory` the root and working directory of a process. */
export function enterRoot(directory: string, step: string): readonly Call[] {
  return [chroot(directory, { step }), chdir('/')]
}

class Target implements TargetProcess {
  readonly capacity: number
  readonly memory: SharedMemory
  readonly #remote: Remote

  constructor(memory: SharedMemory, remote: Remote) {
    this.memory = memory
    this.capacity = remote.capacity
    this.#remote = remote
  }

  run(calls: readonly Call[]): Promise<Results> {
    return this.#remote.run(calls)
  }

  async close(): Promise<void> {
    await this.#remote.close()
    // Not before: the next one that has it must be the only one.
    this.memory.giveBack()
  }
}
