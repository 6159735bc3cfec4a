import type { Call } from '../linux/call.ts'
import { AT_FDCWD, fsync, O, openat, syncfs } from '../linux/calls/files.ts'
import { Remote } from '../linux/remote/remote.ts'

/** Waits until all that has been written to the file system of `path` is on the disk. */
export function syncFileSystem(path: string): Promise<void> {
  return sync(path, (fd) => syncfs(fd, { step: 'put layers on the disk' }))
}

/** Waits until a file, or the names in a folder, are on the disk. */
export function syncPath(path: string): Promise<void> {
  return sync(path, (fd) => fsync(fd, { step: 'put content on the disk' }))
}

/** A remote process makes the call: it can take seconds, and in Node's pool it would keep a thread from all other work. */
async function sync(path: string, how: (opened: Call) => Call): Promise<void> {
  const remote = Remote.spawn()
  try {
    const opened = openat(AT_FDCWD, path, O.RDONLY)
    await remote.run([opened, how(opened)])
  } finally {
    await remote.close()
  }
}
