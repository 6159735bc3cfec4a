import { AT_FDCWD, O, O_DIRECTORY, openat, syncfs } from '../linux/calls/files.ts'
import { Remote } from '../linux/remote/remote.ts'

/**
 * Waits until all that has been written to the file system of `path` is on the disk. A remote process
 * makes the call, which can take seconds.
 */
export async function syncFileSystem(path: string): Promise<void> {
  const remote = Remote.spawn()
  try {
    const folder = openat(AT_FDCWD, path, O.RDONLY | O_DIRECTORY)
    await remote.run([folder, syncfs(folder, { step: 'put layers on the disk' })])
  } finally {
    await remote.close()
  }
}
