import type { LinuxSeccomp } from '../bundle/spec-seccomp.ts'
import { InvalidArgumentError, UnsupportedError } from '../errors.ts'
import { lazy } from '../internal/lazy.ts'
import type { Architecture } from '../linux/architecture.ts'
import { newMark, withMark } from '../linux/seccomp/mark.ts'
import { compileSeccomp, type SeccompFilter } from '../linux/seccomp.ts'
import { announcing } from './seccomp-listener.ts'

/**
 * Compiles `linux.seccomp`; a profile that was compiled before is not compiled again.
 * @throws InvalidArgumentError for what a profile can't have. @throws UnsupportedError for SCMP_ACT_NOTIFY on a call by
 * which the listener is handed over to an agent.
 * @param options.supervised Whether this process answers, instead of an agent at `listenerPath`. Default false.
 */
export function seccompProgram(
  seccomp: LinuxSeccomp | undefined,
  architecture: Architecture,
  options: { readonly supervised?: boolean } = {},
): SeccompFilter | undefined {
  if (seccomp === undefined) return undefined
  const filter = compileSeccomp(seccomp, architecture)
  if (!filter.notify) return filter
  if (options.supervised === true) return withMark(filter, ownMark(), architecture)
  checkNotify(seccomp)
  return filter
}

/** Of this process: what it makes of a profile can be kept. */
const ownMark = lazy(newMark)

function checkNotify({ defaultAction, listenerPath = '', syscalls = [] }: LinuxSeccomp): void {
  const pointer = '/linux/seccomp'
  if (listenerPath === '') {
    throw new InvalidArgumentError(`${pointer}/listenerPath must be present: the profile has SCMP_ACT_NOTIFY`, {
      hint: 'A container with onSyscall or learn has to do with the process that has made it: exec there.',
    })
  }
  if (defaultAction === 'SCMP_ACT_NOTIFY') {
    throw new InvalidArgumentError(`${pointer}/defaultAction can't be SCMP_ACT_NOTIFY: nobody could answer in time`)
  }
  for (const [index, { names, action }] of syscalls.entries()) {
    const name = action === 'SCMP_ACT_NOTIFY' ? names.find((each) => announcing.includes(each)) : undefined
    if (name === undefined) continue
    const reason = 'the listener is handed over by that call, and nobody is there yet to answer'
    throw new UnsupportedError(`SCMP_ACT_NOTIFY for ${name} in ${pointer}/syscalls/${index}`, reason)
  }
}
