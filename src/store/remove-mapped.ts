import { SyscallError } from '../errors.ts'
import { placeOf, removeName } from '../layer/apply/calls.ts'
import type { ByteString } from '../layer/apply/names.ts'
import { enterRoot, spawnOwner } from '../layer/apply/target.ts'
import { decodeNames } from '../layer/diff/tree-node.ts'
import { call, out } from '../linux/call.ts'
import { AT_FDCWD, chdir, close, fchdir, getdents64, O, O_DIRECTORY, O_NOFOLLOW, openat } from '../linux/calls/files.ts'
import { errnoName, syscallError } from '../linux/errno.ts'
import type { CallRunner } from '../linux/runner.ts'

const why = { step: 'remove files of other ids' }
/** Bytes of a directory's names that one call takes, and names that are removed in one batch. */
const [listSize, namesAtOnce] = [128 * 1024, 400]
const maxAttempts = 10

/**
 * Removes what is in a directory, as root of the user namespace that this ordinary user's ids are in: containers have made
 * files there with ids of /etc/subuid, which the user itself may not remove. Names may go away
 * meanwhile: a removal that has failed may be going on. Nobody may bring anything into the tree.
 */
export async function emptyMapped(directory: string): Promise<void> {
  await using process = await spawnOwner(why.step)
  await process.run(enterRoot(directory, why.step))
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await empty(process)
    } catch (error) {
      // The directory that it was in has gone away: there is less to do from the top.
      if (!isGone(error) || attempt === maxAttempts) throw error
    }
  }
}

async function empty(process: CallRunner): Promise<void> {
  await process.run([chdir('/', why)])
  const levels = [{ name: '', directories: await removeFiles(process) }]
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const name = level.directories.pop()
    if (name !== undefined) {
      const { arg, text: path } = placeOf(name)
      const flags = O.PATH | O_DIRECTORY | O_NOFOLLOW | O.CLOEXEC
      const opened = call('openat', [AT_FDCWD, arg, flags, 0], { ...why, path })
      try {
        await process.run([opened, fchdir(opened, why), close(opened)])
      } catch (error) {
        if (isGone(error)) continue
        throw error
      }
      levels.push({ name, directories: await removeFiles(process) })
    } else {
      levels.pop()
      const removal = { ...removeName(placeOf(level.name), true), ...why, tolerate: 'ENOENT' }
      if (levels.length > 0) await process.run([chdir('..', why), removal])
    }
  }
}

/** Removes what is in the working directory but the directories, which are returned. */
async function removeFiles(process: CallRunner): Promise<ByteString[]> {
  const opened = openat(AT_FDCWD, '.', O.RDONLY | O_DIRECTORY, 0, why)
  const directory = (await process.run([opened])).value(opened)
  const names: ByteString[] = []
  for (;;) {
    const list = out(listSize)
    const read = getdents64(directory, list, why)
    const results = await process.run([read])
    if (results.value(read) === 0) break
    names.push(...decodeNames(results.bytes(list).subarray(0, results.value(read))))
  }
  await process.run([close(directory)])
  const directories: ByteString[] = []
  for (let at = 0; at < names.length; at += namesAtOnce) {
    const removals = names.slice(at, at + namesAtOnce).map((name) => {
      return { name, removal: { ...removeName(placeOf(name), false), ...why, tolerate: 'any' } }
    })
    const results = await process.run(removals.map(({ removal }) => removal))
    for (const { name, removal } of removals) {
      const result = results.value(removal)
      if (result < 0 && errnoName(-result) === 'EISDIR') directories.push(name)
      else if (result < 0 && errnoName(-result) !== 'ENOENT') throw syscallError(removal, -result)
    }
  }
  return directories
}

function isGone(error: unknown): boolean {
  return error instanceof SyscallError && error.errnoName === 'ENOENT'
}
