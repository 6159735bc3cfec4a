import { statSync } from 'node:fs'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { LayoutStore } from '../content/layout.ts'
import { syncFolder } from '../content/publish.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { BlobVerifier } from './check-content.ts'
import { currentBootId } from './layer-record.ts'
import { lockFile } from './lock.ts'
import { listDigests } from './marks.ts'
import type { StorePaths } from './paths.ts'
import { syncFileSystem } from './sync.ts'

/** Clocks may be set back. Milliseconds. */
const margin = 3_600_000

/**
 * Blobs that are not put on the disk may be of the right size and full of zeros after a crash of the machine. Whoever
 * writes such leaves a mark first; when the machine has been started anew since, what was written after the mark is read
 * once, and what is damaged removed. Layers tell by themselves in which boot they were unpacked.
 */
export async function settleUnsynced(
  paths: StorePaths,
  content: LayoutStore,
  syncs: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  const mark = join(paths.root, 'unsynced')
  const here = await currentBootId()
  try {
    const found = await readMark(mark)
    if (found === here || (found === undefined && syncs)) return
    if (found !== undefined) await verifyOnce(paths, content, mark, signal)
    if (!syncs) await writeMark(mark, here, paths.root)
  } catch (error) {
    throw fileError(error, 'looking after what was not put on the disk', mark)
  }
}

async function verifyOnce(
  paths: StorePaths,
  content: LayoutStore,
  mark: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const lock = await lockFile(join(paths.locks, 'unsynced.lock'), signal)
  try {
    const found = await readMark(mark)
    if (found === undefined || found === (await currentBootId())) return
    const { mtimeMs: since } = await stat(mark)
    const verifier = new BlobVerifier(content, true, signal)
    for (const digest of await listDigests(join(content.path, 'blobs'))) {
      const path = content.blobPath(digest)
      const { mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? {}
      if (mtimeMs === undefined || mtimeMs < since - margin) continue
      if ((await verifier.isGood(digest)) === false) await rm(path, { force: true })
    }
    await syncFileSystem(paths.root)
    await rm(mark, { force: true })
  } finally {
    lock.release({ remove: true })
  }
}

async function readMark(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'latin1')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** It must be on the disk before what it stands for. */
async function writeMark(path: string, boot: string, root: string): Promise<void> {
  const file = await open(path, 'w', 0o600)
  try {
    await file.writeFile(boot)
    await file.datasync()
  } finally {
    await file.close()
  }
  await syncFolder(root)
}
