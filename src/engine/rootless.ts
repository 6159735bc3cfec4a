import { accessSync, constants, readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import type { BundleOptions, UserNamespace } from '../bundle/options.ts'
import type { IdMapping } from '../bundle/spec.ts'
import { UnsupportedError } from '../errors.ts'

/** What an ordinary user can't have without a delegated cgroup. */
const limits = ['memory', 'memoryReservation', 'cpus', 'cpuShares', 'cpusetCpus', 'cpusetMems', 'pids'] as const

/**
 * Options as an ordinary user can have them: a user namespace in which the user is root.
 * @throws UnsupportedError for limits, which take a cgroup that the user does not own.
 */
export function forOrdinaryUser<Options extends Partial<BundleOptions>>(options: Options): Options {
  const asked = limits.find((name) => options[name] !== undefined)
  if (asked !== undefined) {
    throw new UnsupportedError(`the limit ${asked}`, 'an ordinary user has no cgroup to set it in', {
      hint: `Run as root, or leave ${asked} out.`,
    })
  }
  return { ...options, userNamespace: options.userNamespace ?? userNamespace() }
}

function userNamespace(): UserNamespace {
  const uid = process.geteuid?.() ?? 0
  const gid = process.getegid?.() ?? 0
  const username = userName()
  const own = (id: number): IdMapping => ({ containerID: 0, hostID: id, size: 1 })
  const uids = subordinate('/etc/subuid', username, uid)
  const gids = subordinate('/etc/subgid', username, uid)
  if (uids === undefined || gids === undefined || !isInstalled('newuidmap')) {
    return { uidMappings: [own(uid)], gidMappings: [own(gid)] }
  }
  return { uidMappings: [own(uid), uids], gidMappings: [own(gid), gids] }
}

/** Name of this user; undefined for one that /etc/passwd does not know. */
function userName(): string | undefined {
  try {
    return userInfo().username
  } catch {
    return undefined
  }
}

/** The first range of a user in /etc/subuid or /etc/subgid (subuid(5)), as ids from 1 on. */
function subordinate(path: string, name: string | undefined, uid: number): IdMapping | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
  const range = text
    .split('\n')
    .map((line) => line.split(':'))
    .find(([owner, start, size]) => (owner === name || owner === String(uid)) && Number(start) > 0 && Number(size) > 0)
  return range === undefined ? undefined : { containerID: 1, hostID: Number(range[1]), size: Number(range[2]) }
}

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK)
      return directory !== ''
    } catch {
      return false
    }
  })
}
