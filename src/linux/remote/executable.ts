import { mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SyscallError } from '../../errors.ts'
import { type Architecture, hostArchitecture } from '../architecture.ts'
import { F_ADD_SEALS, fcntl, MFD, memfdCreate } from '../calls/files.ts'
import { perform } from '../local.ts'
import { elfExecutable } from './elf.ts'
import { machineCode } from './listing.ts'
import { programArm64 } from './program-arm64.ts'
import { programX64 } from './program-x64.ts'

// F_SEAL_SEAL, SHRINK, GROW, WRITE: nobody can ever change what is in it (CVE-2019-5736).
const seals = 1 | 2 | 4 | 8

let descriptor: number | undefined

/** The program of the remote process as an executable file. */
export function remoteExecutable(architecture: Architecture): Uint8Array {
  return elfExecutable(machineCode(architecture === 'x64' ? programX64 : programArm64), architecture)
}

/** A descriptor of the program in a sealed anonymous file; made at the first call, open for the life of this process. */
export function executableDescriptor(): number {
  descriptor ??= sealedMemory() ?? unlinkedFile()
  return descriptor
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
      const name = (error as SyscallError).errnoName
      if (name === 'EACCES') return undefined // vm.memfd_noexec=2: none may be executed
      if (name !== 'EINVAL') throw error // before Linux 6.3 there is no MFD_EXEC
    }
  }
  return undefined
}

/** Where a memfd may not be executed: a read-only file that has no name any more. */
function unlinkedFile(): number {
  const directory = mkdtempSync(join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), 'oci-ts-'))
  try {
    const path = join(directory, 'remote')
    writeFileSync(path, remoteExecutable(hostArchitecture()), { mode: 0o500 })
    return openSync(path, 'r')
  } finally {
    rmSync(directory, { recursive: true })
  }
}
