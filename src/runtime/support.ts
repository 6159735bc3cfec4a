import { readFileSync } from 'node:fs'
import { OciError } from '../errors.ts'
import { libc } from '../linux/libc.ts'
import { kernelAtLeast, thisHost } from './host.ts'

/** Whether containers can be made here. */
export interface Support {
  readonly supported: boolean
  /** What is in the way, one sentence each; empty when nothing is. */
  readonly reasons: readonly string[]
}

/** Looks whether this machine, kernel and user can make containers. Makes none. */
export function isSupported(): Support {
  const reasons = reasonsAgainst()
  return { supported: reasons.length === 0, reasons }
}

function reasonsAgainst(): readonly string[] {
  if (process.platform !== 'linux') return [`containers need Linux; this is ${process.platform}`]
  if (!['x64', 'arm64'].includes(process.arch))
    return [`the architecture ${process.arch} is not supported: x64 and arm64 are`]
  const reasons: string[] = []
  try {
    libc()
  } catch (error) {
    reasons.push(error instanceof OciError ? error.message : String(error))
  }
  const host = thisHost()
  if (!kernelAtLeast(host, 5, 12)) reasons.push(`Linux ${host.kernel.join('.')} is too old: 5.12 is needed`)
  if (host.uid !== 0 && !userNamespacesAllowed()) {
    reasons.push(
      'an ordinary user needs user namespaces, which are off: see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone',
    )
  }
  return reasons
}

function userNamespacesAllowed(): boolean {
  return ['/proc/sys/user/max_user_namespaces', '/proc/sys/kernel/unprivileged_userns_clone'].every((path) => {
    try {
      return readFileSync(path, 'utf8').trim() !== '0'
    } catch {
      return true // the kernel has no such switch
    }
  })
}
