import { readlinkSync } from 'node:fs'
import { InvalidArgumentError } from '../index.ts'
import type { Arguments } from './arguments.ts'

/** As many descriptors as the library hands on. */
const most = 240

/**
 * What `--preserve-fds` asks for.
 * @throws InvalidArgumentError for descriptors that this process was not given.
 */
export function preservedOf(args: Arguments): number {
  const asked = args.count('preserve-fds', most) ?? 0
  const given = countGiven(asked)
  if (asked === given) return asked
  throw new InvalidArgumentError(`--preserve-fds ${asked}: there is no descriptor ${3 + given}`, {
    subject: String(asked),
    hint: 'It must be open, and without close-on-exec, where this command is run.',
  })
}

/** Sockets that a service manager has opened, from descriptor 3 on, and what tells a container's program of them. */
export interface ListeningSockets {
  readonly count: number
  readonly env: readonly string[]
}

/**
 * What the environment says of sockets (sd_listen_fds(3)), when they are there. Whose they are by `LISTEN_PID` does not
 * count: podman leaves it as it was for itself.
 */
export function listeningSockets(): ListeningSockets {
  const { LISTEN_FDS = '', LISTEN_FDNAMES } = process.env
  const count = /^[1-9]\d{0,2}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : 0
  if (count === 0 || count > most || countGiven(count) < count) return { count: 0, env: [] }
  const names = LISTEN_FDNAMES === undefined ? [] : [`LISTEN_FDNAMES=${LISTEN_FDNAMES}`]
  return { count, env: [`LISTEN_FDS=${count}`, 'LISTEN_PID=1', ...names] }
}

/** How many of the first `wanted` were there before Node opened any: the first of its own is one of epoll. */
function countGiven(wanted: number): number {
  let count = 0
  while (count < wanted && isGiven(3 + count)) count++
  return count
}

function isGiven(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) !== 'anon_inode:[eventpoll]'
  } catch {
    return false
  }
}
