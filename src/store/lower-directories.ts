import type { BigIntStats } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { hasCode } from '../internal/file-error.ts'
import type { DirectoryAttributes } from '../layer/apply/apply.ts'

/** Looks directories up in unpacked layers, as overlayfs would show them. */
export class LowerDirectories {
  readonly #layers: readonly Buffer[]

  /** Trees of the layers, the highest one first. */
  constructor(layers: readonly string[]) {
    this.#layers = layers.map((path) => Buffer.from(path))
  }

  /**
   * Attributes of the directory at `path` (bytes, relative, without symlinks) in the highest layer that has
   * it; undefined when no layer has a directory there.
   */
  async lookup(path: Buffer): Promise<DirectoryAttributes | undefined> {
    for (const layer of this.#layers) {
      const found = await walk(layer, path)
      if (found === 'hidden') return undefined
      if (found !== undefined) return attributesOf(found)
    }
    return undefined
  }
}

/** The directory in one layer; `hidden` when the layer has something else there, or on the way. */
async function walk(layer: Buffer, path: Buffer): Promise<BigIntStats | 'hidden' | undefined> {
  let found = await lstat(layer, { bigint: true })
  // Part by part: a symlink on the way must not lead out of the layer.
  for (let end = 0; end < path.length; ) {
    const slash = path.indexOf('/', end + 1)
    end = slash === -1 ? path.length : slash
    try {
      found = await lstat(Buffer.concat([layer, Buffer.from('/'), path.subarray(0, end)]), { bigint: true })
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw error
    }
    if (!found.isDirectory()) return 'hidden'
  }
  return found
}

function attributesOf({ uid, gid, mode, mtimeNs }: BigIntStats): DirectoryAttributes {
  const billion = 1_000_000_000n
  const nanoseconds = ((mtimeNs % billion) + billion) % billion
  const seconds = (mtimeNs - nanoseconds) / billion
  return {
    uid: Number(uid),
    gid: Number(gid),
    mode: Number(mode & 0o7777n),
    mtime: { seconds: Number(seconds), nanoseconds: Number(nanoseconds) },
  }
}
