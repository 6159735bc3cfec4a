import type { LinuxSeccomp } from '../bundle/spec-seccomp.ts'
import { UnsupportedError } from '../errors.ts'
import type { Architecture } from '../linux/architecture.ts'
import { compileSeccomp, type SeccompFilter } from '../linux/seccomp.ts'

/**
 * Compiles `linux.seccomp`; a profile that was compiled before is not compiled again.
 * @throws UnsupportedError for SCMP_ACT_NOTIFY. @throws InvalidArgumentError for what a profile can't have.
 */
export function seccompProgram(
  seccomp: LinuxSeccomp | undefined,
  architecture: Architecture,
): SeccompFilter | undefined {
  if (seccomp === undefined) return undefined
  const filter = compileSeccomp(seccomp, architecture)
  if (filter.notify) {
    throw new UnsupportedError('SCMP_ACT_NOTIFY in /linux/seccomp', 'this version of oci-ts has no listener for it yet')
  }
  return filter
}
