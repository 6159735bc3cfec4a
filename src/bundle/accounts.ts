import { LimitError } from '../errors.ts'

/** A line of /etc/passwd that has the fields that matter. */
export interface PasswdEntry {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
}

/** A line of /etc/group. */
export interface GroupEntry {
  readonly name: string
  readonly gid: number
  readonly members: readonly string[]
}

/** Largest /etc/passwd or /etc/group of an image that is read, in bytes. */
export const maxAccountFile: number = 4 * 1024 * 1024

/** The largest user or group id: 2^32 - 1 is the kernel's sign for none. */
export const maxId = 0xffff_fffe

/** Entries of a passwd(5) file; lines that are none are passed over. @throws LimitError */
export function* parsePasswd(bytes: Uint8Array): Iterable<PasswdEntry> {
  for (const [name, , uid, gid, , home] of records(bytes, '/etc/passwd')) {
    const [user, group] = [parseId(uid), parseId(gid)]
    if (name === undefined || name === '' || user === undefined || group === undefined) continue
    yield { name, uid: user, gid: group, home: home ?? '' }
  }
}

/** Entries of a group(5) file; lines that are none are passed over. @throws LimitError */
export function* parseGroup(bytes: Uint8Array): Iterable<GroupEntry> {
  for (const [name, , gid, members] of records(bytes, '/etc/group')) {
    const id = parseId(gid)
    if (name === undefined || name === '' || id === undefined) continue
    yield { name, gid: id, members: (members ?? '').split(',').filter((member) => member !== '') }
  }
}

/** An id written the one canonical way, in range; undefined for anything else. */
export function parseId(text: string | undefined): number | undefined {
  if (text === undefined || !/^(?:0|[1-9]\d{0,9})$/.test(text)) return undefined
  const id = Number(text)
  return id <= maxId ? id : undefined
}

function* records(bytes: Uint8Array, file: string): Iterable<readonly string[]> {
  if (bytes.length > maxAccountFile) throw new LimitError(`${file} of the image`, maxAccountFile, 'bytes')
  for (const line of new TextDecoder().decode(bytes).split('\n')) {
    const text = line.trim()
    if (text !== '' && !text.startsWith('#')) yield text.split(':')
  }
}
