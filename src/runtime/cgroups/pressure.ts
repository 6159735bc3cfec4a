import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { InvalidArgumentError, SyscallError, UnsupportedError } from '../../errors.ts'
import { onAbort } from '../../internal/abort.ts'
import { type Duration, toMilliseconds } from '../../internal/units.ts'
import { AT_FDCWD, dup3, O, openat, write } from '../../linux/calls/files.ts'
import { waitForEvent } from '../../linux/calls/processes.ts'
import { Remote } from '../../linux/remote/remote.ts'
import type { CgroupLocation } from './location.ts'

/** A stall that is to be told of (Documentation/accounting/psi.rst). */
export interface PressureTrigger {
  readonly resource: 'cpu' | 'memory' | 'io'
  /** Whether some task waited, or all. Default `some`. */
  readonly kind?: 'some' | 'full' | undefined
  /** Time that is lost within `window`. */
  readonly stall: Duration
  /** Half a second to ten seconds; without CAP_SYS_RESOURCE a multiple of two. Default 2 seconds. */
  readonly window?: Duration | undefined
}

const POLLPRI = 2
const file = 10

/**
 * Calls `tell` each time that the trigger fires; at most once in its window. Resolves when the cgroup is gone,
 * rejects with the reason of `signal`.
 */
export async function watchPressure(
  { v2 }: CgroupLocation,
  trigger: PressureTrigger,
  tell: () => void,
  signal: AbortSignal,
): Promise<void> {
  const { resource, kind = 'some' } = trigger
  if (!['cpu', 'memory', 'io'].includes(resource) || !['some', 'full'].includes(kind)) {
    throw new InvalidArgumentError(`${JSON.stringify(trigger)} is no trigger for pressure`, { subject: 'pressure' })
  }
  if (v2 === undefined) throw new UnsupportedError(`pressure of ${resource}`, 'the container is in no version 2 cgroup')
  const stall = toMilliseconds(trigger.stall, 'pressure.stall') * 1000
  const window = toMilliseconds(trigger.window ?? '2s', 'pressure.window') * 1000
  // The kernel takes the last byte for the end of the text.
  const text = Buffer.from(`${kind} ${stall} ${window}\0`)
  const remote = Remote.spawn()
  const unlink = onAbort(signal, () => void remote.close().catch(() => {}))
  try {
    const why = { step: `watch the pressure of ${resource}` }
    const opened = openat(AT_FDCWD, join(v2, `${resource}.pressure`), O.RDWR | O.NONBLOCK, 0, why)
    await remote.run([opened, dup3(opened, file, O.CLOEXEC, why), write(opened, text, why)])
    for (;;) {
      const wait = waitForEvent([{ fd: file, events: POLLPRI }], why)
      const happened = (await remote.run([wait])).value(wait)
      if (happened <= 0 || !existsSync(v2)) return
      tell()
    }
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof SyscallError && ['ENOENT', 'EOPNOTSUPP'].includes(error.errnoName)) {
      throw new UnsupportedError(`pressure of ${resource}`, 'this kernel does not measure it', { cause: error })
    }
    throw error
  } finally {
    unlink()
    await remote.close().catch(() => {})
  }
}
