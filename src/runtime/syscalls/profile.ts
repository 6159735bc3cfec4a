import type { Spec } from '../../bundle/spec.ts'
import type { LinuxSeccomp } from '../../bundle/spec-seccomp.ts'
import { InvalidArgumentError, UnsupportedError } from '../../errors.ts'
import { hostArchitecture } from '../../linux/architecture.ts'
import type { Call } from '../../linux/call.ts'
import { seccompMachines } from '../../linux/seccomp.ts'
import { seccompNumbers } from '../../linux/seccomp-numbers.ts'
import { type Host, kernelAtLeast } from '../host.ts'
import { announcing } from '../seccomp-listener.ts'

/**
 * The config with a filter that hands the named system calls over, whatever else it says of them.
 * @throws InvalidArgumentError for what is no system call, and for a config that names an agent of its own.
 * @throws UnsupportedError for calls by which the filter itself is handed over.
 */
export function withHandled(spec: Spec, names: readonly string[], host: Pick<Host, 'kernel'>): Spec {
  const own: LinuxSeccomp = spec.linux?.seccomp ?? { defaultAction: 'SCMP_ACT_ALLOW', architectures: everything() }
  const { defaultAction, syscalls = [], flags = ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] } = own
  if ([defaultAction, ...syscalls.map(({ action }) => action)].includes('SCMP_ACT_NOTIFY')) {
    throw new InvalidArgumentError("a filter has one listener: onSyscall can't be beside SCMP_ACT_NOTIFY", {
      subject: 'onSyscall',
    })
  }
  for (const name of names) check(name)
  // Signals that are handled don't interrupt the wait: the call would be made, and answered, once more.
  const killable = kernelAtLeast(host, 6, 0) ? (['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] as const) : []
  const seccomp: LinuxSeccomp = {
    ...own,
    flags: [...new Set([...flags, ...killable])],
    // The first rule without conditions is the one that counts.
    syscalls: [{ names, action: 'SCMP_ACT_NOTIFY' }, ...syscalls],
  }
  return { ...spec, linux: { ...spec.linux, seccomp } }
}

/** How many of the calls between loading the filter and becoming the program are handed over: they are ours. */
export function ownCalls(calls: readonly Call[], names: ReadonlySet<string>): number {
  const loaded = calls.findIndex(({ name }) => name === 'seccomp')
  return calls.slice(loaded + 1).filter(({ name }) => name !== 'execve' && names.has(name)).length
}

function check(name: string): void {
  const known = seccompMachines[hostArchitecture()].some(({ listed }) =>
    listed.some(({ architecture }) => seccompNumbers(architecture)(name) !== undefined),
  )
  if (!known) throw new InvalidArgumentError(`onSyscall: no system call is named ${name}`, { subject: name })
  if (announcing.includes(name)) {
    const reason = 'the filter itself is handed over by that call, when nobody is there yet to answer'
    throw new UnsupportedError(`onSyscall for ${name}`, reason)
  }
}

/** Without a profile of its own a container may use all that the machine runs. */
function everything(): readonly string[] {
  return seccompMachines[hostArchitecture()].flatMap(({ listed }) => listed.map(({ name }) => name))
}
