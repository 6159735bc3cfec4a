import { writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { UnsupportedError } from '../errors.ts'

/** The ids from `containerID` on in a user namespace are those from `hostID` on outside (runtime-spec, config-linux.md). */
export interface IdMap {
  readonly containerID: number
  readonly hostID: number
  /** How many, at least 1. */
  readonly size: number
}

/** The ids of a user namespace. */
export interface IdMaps {
  readonly uidMappings?: readonly IdMap[] | undefined
  readonly gidMappings?: readonly IdMap[] | undefined
}

/**
 * Writes the id maps of the user namespace that `pid` is in (user_namespaces(7)). Root may map any
 * ids; an ordinary user only its own, or with newuidmap and newgidmap the ranges of /etc/subuid and
 * /etc/subgid.
 * @throws UnsupportedError saying what to set up when the maps are refused.
 */
export async function writeIdMaps(pid: number, { uidMappings = [], gidMappings = [] }: IdMaps = {}): Promise<void> {
  const privileged = process.geteuid?.() === 0
  if (!privileged && mapsOnly(uidMappings, process.geteuid?.()) && mapsOnly(gidMappings, process.getegid?.())) {
    // Whoever can't set groups can't drop one that denies access either (CVE-2014-8989).
    await writeFile(`/proc/${pid}/setgroups`, 'deny')
    await Promise.all([write(pid, 'uid_map', uidMappings), write(pid, 'gid_map', gidMappings)])
  } else if (privileged) {
    await Promise.all([write(pid, 'uid_map', uidMappings), write(pid, 'gid_map', gidMappings)])
  } else {
    await Promise.all([helper('newuidmap', pid, uidMappings), helper('newgidmap', pid, gidMappings)])
  }
}

async function write(pid: number, file: string, mappings: readonly IdMap[]): Promise<void> {
  const lines = mappings.map((m) => `${m.containerID} ${m.hostID} ${m.size}\n`)
  try {
    await writeFile(`/proc/${pid}/${file}`, lines.join(''))
  } catch (cause) {
    throw new UnsupportedError('the user namespace', `the kernel refuses the ${file} ${JSON.stringify(mappings)}`, {
      cause,
    })
  }
}

/** The set-user-ID programs of shadow-utils: the only way for an ordinary user to get more than one id. */
async function helper(program: string, pid: number, mappings: readonly IdMap[]): Promise<void> {
  const args = mappings.flatMap((m) => [String(m.containerID), String(m.hostID), String(m.size)])
  try {
    const { execFile } = await import('node:child_process')
    await promisify(execFile)(program, [String(pid), ...args])
  } catch (cause) {
    throw new UnsupportedError('a user namespace with several ids', `${program} failed`, {
      cause,
      hint: 'Install uidmap, and give this user a range in /etc/subuid and /etc/subgid.',
    })
  }
}

/** Whether `id` alone is mapped: what an ordinary user may do without help. */
export function mapsOnly(mappings: readonly IdMap[], id: number | undefined): boolean {
  return mappings.length === 1 && mappings[0]?.size === 1 && mappings[0].hostID === id
}
