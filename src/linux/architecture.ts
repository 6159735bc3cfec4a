import { UnsupportedError } from '../errors.ts'

/** A CPU architecture that oci-ts speaks the kernel's language of, by Node's name for it. */
export type Architecture = 'x64' | 'arm64'

/** The architecture of this process. @throws UnsupportedError on any other. */
export function hostArchitecture(): Architecture {
  if (process.platform !== 'linux') {
    throw new UnsupportedError('running containers', `it needs the Linux kernel, and this is ${process.platform}`, {
      hint: 'Images and registries work here; run containers on Linux, in a VM or in CI.',
    })
  }
  if (process.arch === 'x64' || process.arch === 'arm64') return process.arch
  throw new UnsupportedError('running containers', `there is no support for the architecture ${process.arch}`, {
    hint: 'oci-ts knows x64 and arm64.',
  })
}
