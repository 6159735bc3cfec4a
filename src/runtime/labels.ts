import type { Spec } from '../bundle/spec.ts'
import type { Process } from '../bundle/spec-process.ts'
import { UnsupportedError } from '../errors.ts'
import type { Host } from './host.ts'
import type { ProcWrite } from './procfs.ts'

type Reader = Pick<Host, 'read'>

/** Whether AppArmor is built in and on. */
export function hasAppArmor(host: Reader): boolean {
  return host.read('/sys/module/apparmor/parameters/enabled')?.startsWith('Y') ?? false
}

/** Whether SELinux is on; it then has its file system mounted. */
export function hasSelinux(host: Reader): boolean {
  return host.read('/sys/fs/selinux/enforce') !== undefined
}

/**
 * What gives the program of a process its labels at the next execve. A profile that silently
 * does not hold would be worse than an error.
 * @throws UnsupportedError where the host does not have what a label is for.
 */
export function labelWrites(process: Process, host: Reader, at = '/process'): readonly ProcWrite[] {
  const { apparmorProfile = '', selinuxLabel = '' } = process
  const writes: ProcWrite[] = []
  if (apparmorProfile !== '') {
    const pointer = `${at}/apparmorProfile`
    if (!hasAppArmor(host)) throw missing('AppArmor', pointer)
    const step = `take the AppArmor profile ${apparmorProfile}`
    writes.push({ path: 'thread-self/attr/apparmor/exec', value: `exec ${apparmorProfile}`, pointer, step })
  }
  if (selinuxLabel !== '') {
    const pointer = `${at}/selinuxLabel`
    if (!hasSelinux(host)) throw missing('SELinux', pointer)
    const step = `take the SELinux label ${selinuxLabel}`
    writes.push({ path: 'thread-self/attr/exec', value: selinuxLabel, pointer, step })
    // Of keys that are made from now on; execve takes it back.
    writes.push({ path: 'thread-self/attr/keycreate', value: selinuxLabel, pointer, step })
  }
  return writes
}

/** The option that labels a new file system; undefined when none is asked for, and where nobody would look at it. */
export function mountLabelOption(spec: Spec, host: Reader): string | undefined {
  const label = spec.linux?.mountLabel ?? ''
  return label === '' || !hasSelinux(host) ? undefined : `context=${label}`
}

/** Whether a label for mounts is asked for that has no effect. */
export function lacksMountLabel(spec: Spec, host: Reader): boolean {
  return (spec.linux?.mountLabel ?? '') !== '' && !hasSelinux(host)
}

function missing(what: string, pointer: string): UnsupportedError {
  return new UnsupportedError(pointer, `${what} is not active on this host`, {
    hint: `Leave the label out of the config, or boot a kernel with ${what}.`,
  })
}
