import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { UnsupportedError } from '../../errors.ts'
import { delay } from '../../internal/abort.ts'
import { hasCode } from '../../internal/file-error.ts'
import { kill, SIGKILL } from '../../linux/calls/processes.ts'
import { perform } from '../../linux/local.ts'

/**
 * Kills what is left in a cgroup and in those below it, and removes their directories. Idempotent.
 * @throws UnsupportedError when processes in it do not die within 10 seconds.
 */
export async function removeCgroup(directories: readonly string[]): Promise<void> {
  await Promise.all(directories.map((directory) => removeDirectory(directory)))
}

const patience = 10_000

async function removeDirectory(directory: string, began = Date.now()): Promise<void> {
  for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
    try {
      await rmdir(directory)
      return
    } catch (cause) {
      if (hasCode(cause, 'ENOENT')) return
      if (!hasCode(cause, 'EBUSY')) throw cause
      if (Date.now() - began > patience) {
        throw new UnsupportedError('removing a cgroup', `processes in ${directory} do not die`, { cause })
      }
    }
    await killMembers(directory)
    for (const below of await cgroupsBelow(directory)) await removeDirectory(below, began)
    await delay(pause)
  }
}

/** Directories of the cgroups right below one; those that a container made in its own. */
export async function cgroupsBelow(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name))
}

/** Kills every process in a cgroup, and on version 2 in those below it. */
export async function killMembers(directory: string): Promise<void> {
  // Linux 5.14, version 2: all at once, also those that are just being born.
  const atOnce = await writeFile(join(directory, 'cgroup.kill'), '1', { flag: 'r+' }).then(
    () => true,
    () => false,
  )
  if (atOnce) return
  const members = await readFile(join(directory, 'cgroup.procs'), 'utf8').catch(() => '')
  for (const line of members.split('\n')) {
    // 0 stands for a process of another pid namespace; kill(0) would be this process group.
    if (Number(line) > 0) perform(kill(Number(line), SIGKILL, { tolerate: 'ESRCH' }))
  }
  // A signal waits for who is frozen there.
  await writeFile(join(directory, 'freezer.state'), 'THAWED', { flag: 'r+' }).catch(() => {})
}
