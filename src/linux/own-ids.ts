import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { isExecutable } from '../internal/executable.ts'
import type { IdMap } from './id-maps.ts'

/**
 * The ids that an ordinary user may have in a user namespace: root inside is the user, and the others are those of /etc/subuid
 * and /etc/subgid where they can be mapped.
 */
export function ownIdMaps(): { readonly uidMappings: readonly IdMap[]; readonly gidMappings: readonly IdMap[] } {
  const uid = process.geteuid?.() ?? 0
  const gid = process.getegid?.() ?? 0
  const username = userName()
  const own = (id: number): IdMap => ({ containerID: 0, hostID: id, size: 1 })
  const uids = subordinate('/etc/subuid', username, uid)
  const gids = subordinate('/etc/subgid', username, uid)
  if (uids === undefined || gids === undefined || !isInstalled('newuidmap')) {
    return { uidMappings: [own(uid)], gidMappings: [own(gid)] }
  }
  return { uidMappings: [own(uid), uids], gidMappings: [own(gid), gids] }
}

/** Whether this process is in a user namespace: root there is not root of the host (user_namespaces(7)). */
export function isInUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'))
  } catch {
    return false // a kernel without them
  }
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
function subordinate(path: string, name: string | undefined, uid: number): IdMap | undefined {
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
  const directories = (process.env.PATH ?? '').split(':')
  return directories.some((directory) => directory !== '' && isExecutable(join(directory, program)))
}
