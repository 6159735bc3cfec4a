import { rmdir } from 'node:fs/promises'
import { unescapePath } from './cgroups/hierarchies.ts'
import type { Host } from './host.ts'

/** Where the resctrl file system is mounted, by which processors share out their caches; undefined for nowhere. */
export function resctrlMountPoint(host: Pick<Host, 'read'>): string | undefined {
  const line = host
    .read('/proc/self/mountinfo')
    ?.split('\n')
    .find((each) => / - resctrl /.test(each))
  return line === undefined ? undefined : unescapePath(line.split(' ')[4] ?? '')
}

/** Whether there is one. */
export function hasResctrl(host: Pick<Host, 'read'>): boolean {
  return resctrlMountPoint(host) !== undefined
}

/** Removes the groups that were made for a container; processes that are left in one go to the group above. */
export async function removeResctrl(directories: readonly string[] = []): Promise<void> {
  for (const directory of directories) {
    await rmdir(directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
  }
}
