import { closeSync } from 'node:fs'
import { call } from '../call.ts'
import { F_DUPFD_CLOEXEC, fcntl, O } from '../calls/files.ts'
import { syscallError } from '../errno.ts'
import { type LibcFunction, libc, type Memory } from '../libc.ts'
import { perform } from '../local.ts'
import { withExecutable } from './executable.ts'

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
  path: 1600,
  devNull: 1664,
  name: 1696,
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
  return withExecutable((executable) => spawn(executable, descriptors))
}

function spawn(executable: number, descriptors: Descriptors): number {
  scratch ??= prepare(libc().allocate(4096))
  const { address, bytes } = scratch
  const actions = address + layout.actions
  const highest = Math.max(...descriptors.keys())
  // Above those that are given too: one that is not open must not become so.
  const free = Math.max(highest, ...descriptors.values()) + 1
  const moved: number[] = []
  /** The descriptor itself, or a copy of it that no dup2 of the file actions lands on. */
  const outOfTheWay = (fd: number): number => {
    if (fd > highest) return fd
    const copy = perform(fcntl(fd, F_DUPFD_CLOEXEC, free, { step: 'move a descriptor out of the way' }))
    moved.push(copy)
    return copy
  }
  must('posix_spawn_file_actions_init', actions)
  try {
    for (const standard of [0, 1, 2]) {
      if (!descriptors.has(standard)) {
        must('posix_spawn_file_actions_addopen', actions, standard, address + layout.devNull, O.RDWR, 0)
      }
    }
    for (const [there, here] of descriptors) {
      // Onto itself where the numbers agree: that clears close-on-exec.
      must('posix_spawn_file_actions_adddup2', actions, here === there ? here : outOfTheWay(here), there)
    }
    bytes.fill(0, layout.path, layout.devNull)
    bytes.write(`/proc/self/fd/${outOfTheWay(executable)}`, layout.path)
    must(
      'posix_spawn',
      address + layout.pid,
      address + layout.path,
      actions,
      address + layout.attributes,
      address + layout.argv,
      address + layout.argv + 8, // its NULL: an empty environment
    )
    return bytes.readInt32LE(layout.pid)
  } finally {
    must('posix_spawn_file_actions_destroy', actions)
    for (const fd of moved) closeSync(fd)
  }
}

/** Calls a function of the posix_spawn family: they return 0 or an errno. */
function must(name: LibcFunction, ...args: readonly number[]): void {
  const errno = libc().call(name, ...args)
  if (errno !== 0) throw syscallError(call(name, [], { step: 'start a remote process' }), errno)
}

function prepare(memory: Memory): Memory {
  const { address, bytes } = memory
  bytes.fill(0xff, layout.fullSet, layout.fullSet + setBytes)
  bytes.write('/dev/null', layout.devNull)
  bytes.write('oci-ts', layout.name)
  bytes.writeBigUInt64LE(BigInt(address + layout.name), layout.argv)
  const attributes = address + layout.attributes
  must('posix_spawnattr_init', attributes)
  must('posix_spawnattr_setflags', attributes, spawnFlags.setSigDefault | spawnFlags.setSigMask | spawnFlags.setSid)
  must('posix_spawnattr_setsigmask', attributes, address + layout.emptySet)
  must('posix_spawnattr_setsigdefault', attributes, address + layout.fullSet)
  return memory
}
