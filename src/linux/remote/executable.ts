import { accessSync, closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { SyscallError, UnsupportedError } from '../../errors.ts'
import { type Architecture, hostArchitecture } from '../architecture.ts'
import { F_ADD_SEALS, fcntl, MFD, memfdCreate } from '../calls/files.ts'
import { perform } from '../local.ts'
import { elfExecutable } from './elf.ts'
import { machineCode } from './listing.ts'
import { programArm64 } from './program-arm64.ts'
import { programX64 } from './program-x64.ts'

// F_SEAL_SEAL, SHRINK, GROW, WRITE: nobody can ever change what is in it (CVE-2019-5736).
const seals = 1 | 2 | 4 | 8

let sealed: number | undefined

/** The program of the remote process as an executable file. */
export function remoteExecutable(architecture: Architecture): Uint8Array {
  return elfExecutable(machineCode(architecture === 'x64' ? programX64 : programArm64), architecture)
}

/**
 * Gives `start` a descriptor of the program, to be executed through /proc. It is a sealed anonymous file,
 * made once and open for the life of this process. Where such a file may not be executed
 * (`vm.memfd_noexec=2`), it is a file without a name, a new one each time: a file can't be sealed, so
 * what one process could do to it must not reach the next.
 * @throws UnsupportedError where no directory allows the program to be executed.
 */
export function withExecutable<T>(start: (fd: number) => T): T {
  sealed ??= sealedMemory()
  if (sealed !== undefined) return start(sealed)
  const fd = unlinkedFile()
  try {
    return start(fd)
  } finally {
    closeSync(fd)
  }
}

function sealedMemory(): number | undefined {
  const fd = createMemfd()
  if (fd === undefined) return undefined
  writeSync(fd, remoteExecutable(hostArchitecture()))
  perform(fcntl(fd, F_ADD_SEALS, seals, { step: 'seal the program of the remote process' }))
  return fd
}

function createMemfd(): number | undefined {
  const flags = MFD.CLOEXEC | MFD.ALLOW_SEALING
  const step = 'create the program of the remote process'
  for (const extra of [MFD.EXEC, 0]) {
    try {
      return perform(memfdCreate('oci-ts', flags | extra, { step }))
    } catch (error) {
      const name = error instanceof SyscallError ? error.errnoName : undefined
      if (name === 'EACCES') return undefined // vm.memfd_noexec=2: none may be executed
      if (name !== 'EINVAL') throw error // before Linux 6.3 there is no MFD_EXEC
    }
  }
  return undefined
}

function unlinkedFile(): number {
  const candidates = [process.env.XDG_RUNTIME_DIR, tmpdir(), '/run', '/dev/shm', '/var/tmp', homedir()]
  for (const candidate of candidates) {
    const fd = candidate === undefined ? undefined : unlinkedFileIn(candidate)
    if (fd !== undefined) return fd
  }
  throw new UnsupportedError('starting a remote process', 'neither memory nor any directory may hold a program', {
    hint: 'Set vm.memfd_noexec to 0 or 1, or TMPDIR to a directory on a file system without noexec.',
  })
}

/** A read-only executable that has no name any more; undefined where none can be made. */
function unlinkedFileIn(parent: string): number | undefined {
  let directory: string | undefined
  try {
    directory = mkdtempSync(join(parent, 'oci-ts-'))
    const path = join(directory, 'remote')
    writeFileSync(path, remoteExecutable(hostArchitecture()), { mode: 0o500 })
    accessSync(path, constants.X_OK) // refused on a file system that is mounted noexec
    return openSync(path, 'r')
  } catch {
    return undefined
  } finally {
    if (directory !== undefined) rmSync(directory, { recursive: true })
  }
}
