import { readFile } from 'node:fs/promises'
import type { Call } from '../../linux/call.ts'
import { AT_FDCWD, chdir, chroot, close, O, openat, umask, write } from '../../linux/calls/files.ts'
import { CLONE, PR, prctl, unshare } from '../../linux/calls/processes.ts'
import { Remote } from '../../linux/remote/remote.ts'
import { borrowMemory, mapMemory, type SharedMemory } from '../../linux/remote/shared-memory.ts'
import type { Results } from '../../linux/runner.ts'
import type { TargetProcess } from './apply.ts'

/** With which rights layers are unpacked. */
export interface Ownership {
  /** Whether the kernel sees a user namespace around it: marks of overlayfs are `user.overlay.…` then. */
  readonly userNamespace: boolean
  /** Whether every owner is mapped to the one user that there is. */
  readonly singleOwner: boolean
}

/** The rights of this process: root's, root's in a user namespace, or those of an ordinary user. */
export async function ownership(): Promise<Ownership> {
  if (process.geteuid?.() !== 0) return { userNamespace: true, singleOwner: true }
  const map = await readFile('/proc/self/uid_map', 'latin1').catch(() => '')
  const all = /^\s*0\s+0\s+4294967295\s*$/.test(map)
  return { userNamespace: map !== '' && !all, singleOwner: false }
}

/** Descriptor on which the process finds the memory that it shares with this one. */
const memoryDescriptor = 4

/**
 * Starts a remote process whose root and working directory are `directory`: whatever path it is given, it
 * can't touch anything else. For an ordinary user it is root in a user namespace of its own.
 * @throws SyscallError when the kernel refuses: without the right to chroot, or to make user namespaces.
 */
export async function openTarget(directory: string, { singleOwner }: Ownership): Promise<TargetProcess> {
  const memory = borrowMemory()
  const target = new Target(memory, spawnTarget(memory, singleOwner))
  try {
    await target.run([
      ...mapMemory(memory, memoryDescriptor),
      umask(0),
      ...enterRoot(directory, singleOwner, 'enter the target of the layer'),
    ])
    return target
  } catch (error) {
    await target.close()
    throw error
  }
}

function spawnTarget(memory: SharedMemory, dumpable: boolean): Remote {
  try {
    return Remote.spawn({ dumpable, descriptors: new Map([[memoryDescriptor, memory.fd]]) })
  } catch (error) {
    memory.giveBack()
    throw error
  }
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

/**
 * Calls that make `directory` the root and working directory of a process, for an ordinary user (`singleOwner`) in a
 * user namespace of its own. The process must be dumpable for that, and is not any more.
 */
export function enterRoot(directory: string, singleOwner: boolean, step: string): readonly Call[] {
  const namespace = singleOwner ? enterUserNamespace(process.geteuid?.() ?? 0, process.getegid?.() ?? 0) : []
  return [...namespace, chroot(directory, { step }), chdir('/')]
}

/** A user namespace in which the user is root and there is nobody else. */
function enterUserNamespace(uid: number, gid: number): readonly Call[] {
  const step = 'enter a user namespace'
  return [
    unshare(CLONE.NEWUSER, { step }),
    // Without it an ordinary user may not map a group.
    ...writeFile('/proc/self/setgroups', 'deny', step),
    ...writeFile('/proc/self/uid_map', `0 ${uid} 1`, step),
    ...writeFile('/proc/self/gid_map', `0 ${gid} 1`, step),
    prctl(PR.SET_DUMPABLE, 0, 0, { step }),
  ]
}

function writeFile(path: string, content: string, step: string): readonly Call[] {
  const fd = openat(AT_FDCWD, path, O.WRONLY, 0, { step })
  return [fd, write(fd, content, { step }), close(fd)]
}
