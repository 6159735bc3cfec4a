import type { SyscallError } from '../../errors.ts'
import { call } from '../call.ts'
import { close, F_DUPFD_CLOEXEC, fcntl, O } from '../calls/files.ts'
import { syscallError } from '../errno.ts'
import { libc, type Memory } from '../libc.ts'
import { perform } from '../local.ts'
import { executableDescriptor } from './executable.ts'

/** Descriptors that a process is started with: the number it has there -> the number it has here. */
export type Descriptors = ReadonlyMap<number, number>

// Sizes that are large enough for the opaque types of glibc and musl.
const layout = {
  actions: 0,
  attributes: 512,
  emptySet: 1024,
  fullSet: 1280,
  pid: 1536,
  argv: 1552,
  strings: 1600,
} as const
const spawnFlags = { setSigDefault: 4, setSigMask: 8, setSid: 0x80 } as const
const setBytes = 128

let scratch: Memory | undefined

/**
 * Starts the program of the remote process: empty environment, a session of its own (so that
 * Ctrl-C at the terminal does not reach it), clean signal mask and dispositions, `descriptors`
 * open and those of 0, 1 and 2 that are not given open on /dev/null. Others are close-on-exec or
 * inherited, as they are here.
 * @returns its pid.
 */
export function spawnProgram(descriptors: Descriptors): number {
  const door = libc()
  scratch ??= prepare(door.allocate(4096))
  const { address, bytes } = scratch
  const actions = address + layout.actions
  const moved: number[] = []
  door.call('posix_spawn_file_actions_init', actions)
  try {
    for (const standard of [0, 1, 2]) {
      if (!descriptors.has(standard)) {
        door.call('posix_spawn_file_actions_addopen', actions, standard, address + layout.strings + 64, O.RDWR, 0)
      }
    }
    const highest = Math.max(...descriptors.keys())
    for (const [there, here] of descriptors) {
      let source = here
      if (source <= highest && source !== there) {
        // An earlier dup2 could land on it.
        source = perform(fcntl(here, F_DUPFD_CLOEXEC, highest + 1, { step: 'move a descriptor out of the way' }))
        moved.push(source)
      }
      // Onto itself where the numbers agree: that clears close-on-exec.
      door.call('posix_spawn_file_actions_adddup2', actions, source, there)
    }
    bytes.fill(0, layout.strings, layout.strings + 64)
    bytes.write(`/proc/self/fd/${executableDescriptor()}`, layout.strings)
    const errno = door.call(
      'posix_spawn',
      address + layout.pid,
      address + layout.strings,
      actions,
      address + layout.attributes,
      address + layout.argv,
      address + layout.argv + 8, // its NULL: an empty environment
    )
    if (errno !== 0) throw spawnError(errno)
    return bytes.readInt32LE(layout.pid)
  } finally {
    door.call('posix_spawn_file_actions_destroy', actions)
    for (const fd of moved) perform(close(fd))
  }
}

function prepare(memory: Memory): Memory {
  const { address, bytes } = memory
  const door = libc()
  bytes.fill(0xff, layout.fullSet, layout.fullSet + setBytes)
  bytes.write('/dev/null', layout.strings + 64)
  bytes.write('oci-ts', layout.strings + 96)
  bytes.writeBigUInt64LE(BigInt(address + layout.strings + 96), layout.argv)
  door.call('posix_spawnattr_init', address + layout.attributes)
  const flags = spawnFlags.setSigDefault | spawnFlags.setSigMask | spawnFlags.setSid
  door.call('posix_spawnattr_setflags', address + layout.attributes, flags)
  door.call('posix_spawnattr_setsigmask', address + layout.attributes, address + layout.emptySet)
  door.call('posix_spawnattr_setsigdefault', address + layout.attributes, address + layout.fullSet)
  return memory
}

function spawnError(errno: number): SyscallError {
  return syscallError(call('posix_spawn', [], { step: 'start a remote process' }), errno)
}
