import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { delay } from '../../src/internal/abort.ts'

/** Whether tests that need root can run. */
export const isRoot: boolean = process.getuid?.() === 0

/** Whether a program is in the path. */
export function hasTool(name: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$1"', 'sh', name]).status === 0
}

/** Waits until `condition` holds; fails after ten seconds. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`)
    await delay(5)
  }
}

/** Fields of /proc/<pid>/status; undefined when there is no such process. */
export function statusOf(pid: number): ReadonlyMap<string, string> | undefined {
  try {
    const lines = readFileSync(`/proc/${pid}/status`, 'utf8').trim().split('\n')
    return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]))
  } catch {
    return undefined
  }
}

/** Whether a process has ended: no entry any more, or one that nobody has asked for yet. */
export function isGone(pid: number): boolean {
  return statusOf(pid)?.get('State')?.startsWith('Z') ?? true
}

/** Children of this process, zombies too. */
export function children(): readonly number[] {
  const text = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

/** What the descriptors of a process are open on, by number. */
export function descriptorsOf(pid: number | 'self'): ReadonlyMap<number, string> {
  const found = new Map<number, string>()
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      found.set(Number(name), readlinkSync(`/proc/${pid}/fd/${name}`))
    } catch {
      // closed since the directory was read
    }
  }
  return found
}

/** Standard output of a program. */
export function output(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { encoding: 'utf8' })
}
