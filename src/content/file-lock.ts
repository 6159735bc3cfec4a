import { link, mkdir, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { TimeoutError } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { hasCode } from '../internal/file-error.ts'
import { isAlive, type Owner, ownedName, ownerOf, ownOwner } from './owner.ts'

/** Runs work that nobody else may do at the same time, in this process or another. */
export type Exclusive = <T>(work: () => Promise<T>, signal?: AbortSignal) => Promise<T>

/** How long another one's lock is waited for, in milliseconds. */
const patience = 30_000

/** Age from which a lock of an owner that can't be seen from here is taken for abandoned, in milliseconds. */
const staleAge = 20_000

/**
 * Exclusion by a lock file, in plain Node: for short work. The file is made complete by a hard link;
 * a lock whose process has died is broken. A store that has `flock` of the kernel uses that instead:
 * it can not be left behind.
 */
export function fileLock(path: string): Exclusive {
  let last: Promise<unknown> = Promise.resolve()
  return async (work, signal) => {
    // One at a time in this process, so that only processes compete for the file.
    const before = last
    let next: () => void = () => {}
    last = new Promise<void>((resolve) => {
      next = resolve
    })
    try {
      await before
      const own = await acquire(path, signal)
      try {
        return await work()
      } finally {
        await release(path, own)
      }
    } finally {
      next()
    }
  }
}

/** Returns the path of the file that holds the lock under its other name. */
async function acquire(path: string, signal: AbortSignal | undefined): Promise<string> {
  const here = await ownOwner()
  const name = ownedName(here)
  const own = join(dirname(path), name)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(own, name, { flag: 'wx' })
  try {
    const deadline = Date.now() + patience
    for (let pause = 1; ; pause = Math.min(pause * 2, 50)) {
      signal?.throwIfAborted()
      if (await linked(own, path)) return own
      if (await breakAbandoned(path, own, here)) continue
      if (Date.now() > deadline) throw new TimeoutError(`lock ${path}`, patience)
      await delay(pause * (0.5 + Math.random()), signal)
    }
  } catch (error) {
    await rm(own, { force: true })
    throw error
  }
}

async function linked(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path)
    return true
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false
    throw error
  }
}

/**
 * Removes the lock when its owner is gone; whether it is worth trying again at once. Only who holds a
 * second lock may do so: else two could see the same dead owner, and the slower one would remove the
 * lock that the faster one has just taken.
 */
async function breakAbandoned(path: string, own: string, here: Owner): Promise<boolean> {
  try {
    if (!(await isAbandoned(path, here))) return false
    const breaker = `${path}.break`
    if (!(await linked(own, breaker))) {
      // Held for microseconds only, so that nothing but its age needs to be looked at.
      if (await isOld(breaker)) await unlink(breaker)
      return false
    }
    try {
      if (await isAbandoned(path, here)) await unlink(path)
    } finally {
      await unlink(breaker)
    }
    return true
  } catch (error) {
    // Somebody was faster.
    if (hasCode(error, 'ENOENT')) return true
    throw error
  }
}

async function isAbandoned(path: string, here: Owner): Promise<boolean> {
  const owner = ownerOf(await readFile(path, 'utf8'))
  const alive = owner === undefined ? undefined : isAlive(owner, here)
  return alive === undefined ? isOld(path) : !alive
}

async function isOld(path: string): Promise<boolean> {
  return Date.now() - (await stat(path)).mtimeMs > staleAge
}

/** Lets go, unless the lock was broken meanwhile and is another one's now. */
async function release(path: string, own: string): Promise<void> {
  const name = await readFile(own, 'utf8').catch(() => '')
  if ((await readFile(path, 'utf8').catch(() => undefined)) === name) await rm(path, { force: true })
  await rm(own, { force: true })
}
