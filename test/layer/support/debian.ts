import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { delay } from '../../../src/internal/abort.ts'

/** A lock older than this was left by a run that died, in milliseconds. */
const staleAge = 300_000

/**
 * The root file system of a minimal Debian as a tar archive, made by mmdebstrap (half a minute, network). It is
 * kept in the temporary directory for later runs; undefined when it can't be made here.
 */
export async function debianArchive(): Promise<string | undefined> {
  const path = join(tmpdir(), `oci-ts-test-debian-${process.geteuid?.()}.tar`)
  const lock = `${path}.lock`
  while (!existsSync(path)) {
    if (!take(lock)) {
      await delay(200)
      continue
    }
    try {
      execFileSync('mmdebstrap', ['--variant=minbase', 'bookworm', `${path}.new.tar`], { stdio: 'ignore' })
      renameSync(`${path}.new.tar`, path)
    } catch {
      return undefined
    } finally {
      rmSync(lock, { recursive: true, force: true })
    }
  }
  return path
}

function take(lock: string): boolean {
  try {
    mkdirSync(lock)
    return true
  } catch {
    if (existsSync(lock) && Date.now() - statSync(lock).mtimeMs > staleAge)
      rmSync(lock, { recursive: true, force: true })
    return false
  }
}
