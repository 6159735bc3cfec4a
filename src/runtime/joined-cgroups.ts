import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode } from '../internal/file-error.ts'

/**
 * File of a state directory with the cgroups that the container joined when it was there, one a line, of whichever process:
 * state.json is its maker's alone. Whoever removes the container in passing, without looking here, leaves it for the one
 * who does.
 */
const joinedFile = 'joined'

/** Records that the container of a state directory has joined these cgroups. @returns whether the directory is there. */
export function tellJoined(directory: string, cgroups: readonly string[]): boolean {
  try {
    // One write at the end of the file: two at a time do not come into each other's way.
    appendFileSync(join(directory, joinedFile), cgroups.map((each) => `${each}\n`).join(''), { mode: 0o600 })
    return true
  } catch (cause) {
    if (hasCode(cause, 'ENOENT')) return false
    throw cause
  }
}

/** The cgroups that {@link tellJoined} was told of. */
export function joinedCgroups(directory: string): readonly string[] {
  const path = join(directory, joinedFile)
  // To be told that it is not there takes a fraction of the time of reading.
  if (!existsSync(path)) return []
  try {
    // A line without its end was not written whole.
    return [...new Set(readFileSync(path, 'utf8').split('\n').slice(0, -1))]
  } catch (cause) {
    if (hasCode(cause, 'ENOENT')) return []
    throw cause
  }
}
