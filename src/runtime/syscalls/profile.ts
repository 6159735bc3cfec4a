import type { Spec } from '../../bundle/spec.ts'
import type { LinuxSeccomp, SeccompFlag } from '../../bundle/spec-seccomp.ts'
import { InvalidArgumentError } from '../../errors.ts'
import { hostArchitecture } from '../../linux/architecture.ts'
import type { Call } from '../../linux/call.ts'
import { seccompMachines } from '../../linux/seccomp.ts'
import { seccompNumbers } from '../../linux/seccomp-numbers.ts'
import { type Host, kernelAtLeast } from '../host.ts'
import { announcing } from '../seccomp-listener.ts'

/**
 * The config with a filter that hands the named system calls over, whatever else it says of them.
 * @throws InvalidArgumentError for what is no system call, and for a config that names an agent of its own.
 */
export function withHandled(spec: Spec, names: readonly string[], host: Pick<Host, 'kernel'>): Spec {
  const own: LinuxSeccomp = spec.linux?.seccomp ?? { defaultAction: 'SCMP_ACT_ALLOW', architectures: everything() }
  assertNoListener(own, 'onSyscall')
  for (const name of names) check(name)
  const seccomp: LinuxSeccomp = {
    ...own,
    flags: listenerFlags(own, host),
    // The first rule without conditions is the one that counts.
    syscalls: [{ names, action: 'SCMP_ACT_NOTIFY' }, ...(own.syscalls ?? [])],
  }
  return { ...spec, linux: { ...spec.linux, seccomp } }
}

/** The config with a filter that hands every call over. @throws InvalidArgumentError for one that names an agent. */
export function withAllHandled(spec: Spec, host: Pick<Host, 'kernel'>): Spec {
  const own = spec.linux?.seccomp
  if (own !== undefined) assertNoListener(own, 'learn')
  const flags = listenerFlags(own, host)
  const seccomp: LinuxSeccomp = { defaultAction: 'SCMP_ACT_NOTIFY', architectures: everything(), flags }
  return { ...spec, linux: { ...spec.linux, seccomp } }
}

/** @throws InvalidArgumentError for a profile that names an agent of its own. */
function assertNoListener({ defaultAction, syscalls = [] }: LinuxSeccomp, option: string): void {
  if (![defaultAction, ...syscalls.map(({ action }) => action)].includes('SCMP_ACT_NOTIFY')) return
  throw new InvalidArgumentError(`a filter has one listener: ${option} can't be beside SCMP_ACT_NOTIFY`, {
    subject: option,
  })
}

function listenerFlags(own: LinuxSeccomp | undefined, host: Pick<Host, 'kernel'>): readonly SeccompFlag[] {
  const { flags = ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] } = own ?? {}
  // Signals that are handled don't interrupt the wait: the call would be made, and answered, once more.
  const killable = kernelAtLeast(host, 6, 0) ? (['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] as const) : []
  return [...new Set([...flags, ...killable])]
}

/** The calls between loading the filter and becoming the program that are handed over: they are ours. */
export function ownCalls(calls: readonly Call[], isHandled: (name: string) => boolean): readonly Call[] {
  const loaded = calls.findIndex(({ name }) => name === 'seccomp')
  return calls
    .slice(loaded + 1)
    .filter(({ name }) => name !== 'execve' && !announcing.includes(name) && isHandled(name))
}

function check(name: string): void {
  const known = seccompMachines[hostArchitecture()].some(({ listed }) =>
    listed.some(({ architecture }) => seccompNumbers(architecture)(name) !== undefined),
  )
  if (!known) throw new InvalidArgumentError(`onSyscall: no system call is named ${name}`, { subject: name })
}

/** Without a profile of its own a container may use all that the machine runs. */
function everything(): readonly string[] {
  return seccompMachines[hostArchitecture()].flatMap(({ listed }) => listed.map(({ name }) => name))
}
