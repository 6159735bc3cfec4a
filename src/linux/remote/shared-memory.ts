import { closeSync } from 'node:fs'
import { type Call, call } from '../call.ts'
import { close, ftruncate, MFD, memfdCreate } from '../calls/files.ts'
import { libc } from '../libc.ts'
import { perform } from '../local.ts'

/**
 * Memory that this process writes to and a remote process reads from: content that goes through it is
 * copied once, where the socket takes three copies.
 */
export interface SharedMemory {
  /** Where this process sees it. */
  readonly bytes: Buffer
  /** Where the remote process sees it, once it has made the calls of {@link mapMemory}. */
  readonly address: number
  /** The anonymous file that it is. */
  readonly fd: number
  /** Leaves it to the next user; not before the process that mapped it is gone. Idempotent. */
  giveBack(): void
}

/** Bytes; small enough to stay in the processor's cache. */
const size = 2.5 * 2 ** 20
/** Far from the program, the message and the stack of the remote process. */
const address = 0x1000_0000

// Mappings stay for the life of this process: as many as have been in use at the same time.
const unused: Omit<SharedMemory, 'giveBack'>[] = []

/** Memory that nobody else uses. @throws SyscallError when there is none: ENOMEM, EMFILE. */
export function borrowMemory(): SharedMemory {
  const memory = unused.pop() ?? makeMemory()
  let returned = false
  return {
    ...memory,
    giveBack() {
      if (!returned) unused.push(memory)
      returned = true
    },
  }
}

function makeMemory(): Omit<SharedMemory, 'giveBack'> {
  const step = 'make memory for a remote process'
  const fd = perform(memfdCreate('oci-ts-shared', MFD.CLOEXEC, { step }))
  try {
    perform(ftruncate(fd, size, { step }))
    return { bytes: libc().share(fd, size).bytes, address, fd }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** Calls with which a remote process maps memory that it has as `descriptor`, to read; they close that. */
export function mapMemory(memory: SharedMemory, descriptor: number): readonly Call[] {
  const PROT_READ = 1
  const MAP_SHARED_FIXED = 0x11
  const step = 'map shared memory'
  const mapped = call('mmap', [memory.address, size, PROT_READ, MAP_SHARED_FIXED, descriptor, 0], { step })
  return [mapped, close(descriptor, { step })]
}
