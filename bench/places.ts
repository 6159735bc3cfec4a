import { spawnSync } from 'node:child_process'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A file system to write to. */
export interface Place {
  readonly name: string
  readonly path: string
  close(): void
}

/** A tmpfs, and a fresh ext4 (what a bench does on a file system depends on what that has gone through). */
export function makePlaces(directory: string): readonly Place[] {
  const file = join(directory, 'ext4.img')
  writeFileSync(file, '')
  truncateSync(file, 16 * 2 ** 30)
  const formatted = spawnSync('mkfs.ext4', ['-q', '-F', file], { stdio: 'ignore' }).status === 0
  return [mountTmpfs(directory, 'tmpfs'), ...(formatted ? [place(directory, 'ext4', ['-o', 'loop', file])] : [])]
}

/** Mounts a tmpfs below `directory`. */
export function mountTmpfs(directory: string, name: string): Place {
  return place(directory, name, ['-t', 'tmpfs', '-o', 'size=8g', 'tmpfs'])
}

function place(directory: string, name: string, mount: readonly string[]): Place {
  const path = join(directory, name)
  mkdirSync(path)
  const { status, stderr } = spawnSync('mount', [...mount, path], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`mount of ${name}: ${stderr}`)
  return { name, path, close: () => void spawnSync('umount', ['--lazy', path]) }
}
