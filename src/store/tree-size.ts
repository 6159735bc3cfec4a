import { type BigIntStats, lstatSync, readdirSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { hasCode } from '../internal/file-error.ts'

/** Files that are looked at without a turn of the event loop: two milliseconds or so. */
const atOnce = 256

/**
 * Bytes that a tree takes on the disk, without following links; each file once, however many names it has. What
 * may not be read, as in the directory of another user, is left out, and a tree that is not there takes nothing.
 */
export async function treeSize(root: string): Promise<number> {
  const linked = new Set<string>()
  const pending = [Buffer.from(root)]
  let size = 0
  let count = 0
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    count += 1
    if (count % atOnce === 0) await setImmediate()
    const found = ignoring(() => lstatSync(path, { bigint: true, throwIfNoEntry: false }))
    if (found === undefined || !isFirst(found, linked)) continue
    size += Number(found.blocks) * 512
    if (!found.isDirectory()) continue
    for (const name of ignoring(() => readdirSync(path, { encoding: 'buffer' })) ?? []) {
      pending.push(Buffer.concat([path, Buffer.from('/'), name]))
    }
  }
  return size
}

/** Whether none of the names of a file has been met. */
function isFirst(file: BigIntStats, linked: Set<string>): boolean {
  if (file.nlink < 2n || file.isDirectory()) return true
  const key = `${file.dev} ${file.ino}`
  if (linked.has(key)) return false
  linked.add(key)
  return true
}

function ignoring<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (['EACCES', 'EPERM', 'ENOENT', 'ENOTDIR'].some((code) => hasCode(error, code))) return undefined
    throw error
  }
}
