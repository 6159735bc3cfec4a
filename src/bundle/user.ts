import { InvalidArgumentError, NotFoundError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { type GroupEntry, maxId, type PasswdEntry, parseGroup, parseId, parsePasswd } from './accounts.ts'

/** The account files of an image, as far as it has them. */
export interface AccountFiles {
  /** Content of /etc/passwd; at most 4 MiB. */
  readonly passwd?: Uint8Array | undefined
  /** Content of /etc/group; at most 4 MiB. */
  readonly group?: Uint8Array | undefined
}

/** Who a process runs as. */
export interface ResolvedUser {
  readonly uid: number
  readonly gid: number
  /** Supplementary groups; the primary one is the first of them. */
  readonly additionalGids: readonly number[]
  /** Home directory; `/` where the image does not say. */
  readonly home: string
}

/**
 * Resolves `user[:group]`, each a name or an id, as Docker does. Digits are always an id and never a
 * name, so that an image can't make "1000" mean root (CVE-2016-3697); an id has to be in range and
 * written canonically, so that it can't wrap around to 0 (CVE-2024-40635).
 *
 * Empty means root. The primary group is the one given, else the user's of /etc/passwd, else 0. The
 * supplementary groups are those that name the user as a member, unless a group was given.
 * @throws InvalidArgumentError when the text is malformed; NotFoundError when the image has no such
 * user or group; LimitError when a file is too large
 */
export function resolveUser(user: string, files: AccountFiles, groups: readonly string[] = []): ResolvedUser {
  const [wantedUser = '', wantedGroup = '', ...rest] = user.split(':')
  if (rest.length > 0 || /[\0\n]/.test(user)) throw malformed(user, 'it must be user[:group]')
  const id = wantedUser === '' ? 0 : idOf(wantedUser, user)
  const entry = findUser(wantedUser, id, files)
  if (entry === undefined && id === undefined) {
    throw new NotFoundError(user, `the image has no user ${quote(wantedUser)} in /etc/passwd`)
  }
  const all = needsGroups(wantedGroup, entry, groups) ? [...parseGroup(files.group ?? new Uint8Array())] : []
  const gid = wantedGroup === '' ? (entry?.gid ?? 0) : groupId(wantedGroup, user, all)
  const memberships =
    wantedGroup !== '' || entry === undefined ? [] : all.filter((group) => group.members.includes(entry.name))
  return {
    uid: entry?.uid ?? id ?? 0,
    gid,
    additionalGids: [
      ...new Set([gid, ...memberships.map((group) => group.gid), ...groups.map((group) => groupId(group, group, all))]),
    ],
    home: entry?.home.startsWith('/') ? entry.home : '/',
  }
}

function needsGroups(group: string, entry: PasswdEntry | undefined, more: readonly string[]): boolean {
  return group === '' ? entry !== undefined || more.length > 0 : true
}

function findUser(name: string, id: number | undefined, { passwd }: AccountFiles): PasswdEntry | undefined {
  if (passwd === undefined) return undefined
  for (const entry of parsePasswd(passwd)) {
    if (id === undefined ? entry.name === name : entry.uid === id) return entry
  }
  return undefined
}

function groupId(wanted: string, subject: string, all: readonly GroupEntry[]): number {
  const id = idOf(wanted, subject) ?? all.find((group) => group.name === wanted)?.gid
  if (id !== undefined) return id
  throw new NotFoundError(subject, `the image has no group ${quote(wanted)} in /etc/group`)
}

/** The id that a text is; undefined when it is a name. @throws InvalidArgumentError for other numbers */
function idOf(text: string, subject: string): number | undefined {
  const id = parseId(text)
  if (id === undefined && /^[+-]?\d+$/.test(text)) {
    throw malformed(subject, `an id must be a number from 0 to ${maxId} without sign or leading zeros`)
  }
  return id
}

function malformed(user: string, reason: string): InvalidArgumentError {
  return new InvalidArgumentError(`invalid user ${quote(user)}: ${reason}`, { subject: user })
}
