import type { LinuxSeccomp } from '../bundle/spec-seccomp.ts'
import { InvalidArgumentError } from '../errors.ts'
import type { Architecture } from '../linux/architecture.ts'
import { withMark } from '../linux/seccomp/mark.ts'
import { compileSeccomp, type SeccompFilter } from '../linux/seccomp.ts'

/**
 * Compiles `linux.seccomp`; a profile that was compiled before is not compiled again.
 * @throws InvalidArgumentError for what a profile can't have.
 * @param options.supervised Whether this process answers, instead of an agent at `listenerPath`. Default false.
 */
export function seccompProgram(
  seccomp: LinuxSeccomp | undefined,
  architecture: Architecture,
  options: { readonly supervised?: boolean } = {},
): SeccompFilter | undefined {
  if (seccomp === undefined) return undefined
  const filter = compileSeccomp(seccomp, architecture)
  if (filter.notify && options.supervised !== true) checkNotify(seccomp)
  return withMark(filter, architecture)
}

function checkNotify({ defaultAction, listenerPath = '' }: LinuxSeccomp): void {
  const pointer = '/linux/seccomp'
  if (listenerPath === '') {
    throw new InvalidArgumentError(`${pointer}/listenerPath must be present: the profile has SCMP_ACT_NOTIFY`, {
      hint: 'A container with onSyscall or learn has to do with the process that has made it: exec there.',
    })
  }
  if (defaultAction === 'SCMP_ACT_NOTIFY') {
    throw new InvalidArgumentError(`${pointer}/defaultAction can't be SCMP_ACT_NOTIFY: nobody could answer in time`)
  }
}
