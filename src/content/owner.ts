import { createHash, randomBytes } from 'node:crypto'
import { readFile, readlink } from 'node:fs/promises'
import { hostname } from 'node:os'

/**
 * Who a temporary or lock file belongs to, as part of its name or content: the world its process
 * number means something in (one boot of one machine, one PID namespace), and that number.
 */
export interface Owner {
  /** 12 hex digits. */
  readonly world: string
  readonly pid: number
}

/** This process. */
export async function ownOwner(): Promise<Owner> {
  const parts = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => hostname()),
    readlink('/proc/self/ns/pid').catch(() => ''),
  ])
  return { world: createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 12), pid: process.pid }
}

/** A name no other file has, that tells its owner: `<world>-<pid>-<random>`. */
export function ownedName({ world, pid }: Owner): string {
  return `${world}-${pid}-${randomBytes(8).toString('hex')}`
}

/** The owner that {@link ownedName} put into a name; undefined for other names. */
export function ownerOf(name: string): Owner | undefined {
  const [, world, pid] = /^([0-9a-f]{12})-([1-9]\d{0,9})-[0-9a-f]{16}$/.exec(name) ?? []
  return world === undefined ? undefined : { world, pid: Number(pid) }
}

/** Whether an owner is still there; undefined when that can't be known from here. */
export function isAlive(owner: Owner, here: Owner): boolean | undefined {
  if (owner.world !== here.world) return undefined
  try {
    process.kill(owner.pid, 0)
    return true
  } catch (error) {
    // EPERM: it is there, and somebody else's.
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}
