import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TimeoutError, UnsupportedError } from '../../errors.ts'
import { delay } from '../../internal/abort.ts'
import { type CgroupLocation, textOf } from './location.ts'

/** How long the kernel may take, in milliseconds: a process in an uninterruptible call can't be frozen. */
const patience = 10_000

/** Whether the processes of a cgroup are frozen. */
export function isFrozen(location: CgroupLocation): boolean {
  const { v1, v2 } = location
  if (v2 !== undefined && /^frozen 1$/m.test(textOf(join(v2, 'cgroup.events')) ?? '')) return true
  const freezer = v1.get('freezer')
  return freezer !== undefined && textOf(join(freezer, 'freezer.state'))?.trim() === 'FROZEN'
}

/**
 * Stops all processes of a cgroup where they are.
 * @throws UnsupportedError when the container has no cgroup that can do it. @throws TimeoutError after ten seconds;
 * they go on then.
 */
export async function freeze(location: CgroupLocation, signal?: AbortSignal): Promise<void> {
  const { v1, v2 } = location
  const freezer = v1.get('freezer')
  try {
    if (v2 !== undefined) await freezeV2(v2, signal)
    else if (freezer !== undefined) await freezeV1(freezer, signal)
    else throw noFreezer()
  } catch (error) {
    if (!(error instanceof UnsupportedError)) await thaw(location).catch(() => {})
    throw error
  }
}

/** Lets them go on. @throws UnsupportedError as {@link freeze} does. */
export async function thaw({ v1, v2 }: CgroupLocation): Promise<void> {
  const freezer = v1.get('freezer')
  if (v2 !== undefined) await write(join(v2, 'cgroup.freeze'), '0')
  else if (freezer !== undefined) await write(join(freezer, 'freezer.state'), 'THAWED')
  else throw noFreezer()
}

/** Version 1: a signal reaches frozen processes only when they are let go. */
export async function thawV1({ v1 }: CgroupLocation): Promise<void> {
  const freezer = v1.get('freezer')
  if (freezer !== undefined) await write(join(freezer, 'freezer.state'), 'THAWED').catch(() => {})
}

/** Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze". */
async function freezeV2(directory: string, signal: AbortSignal | undefined): Promise<void> {
  await write(join(directory, 'cgroup.freeze'), '1')
  const began = Date.now()
  for (let pause = 1; !/^frozen 1$/m.test(readFileSync(join(directory, 'cgroup.events'), 'utf8')); pause *= 2) {
    if (Date.now() - began > patience) throw new TimeoutError('freezing the container', patience)
    await delay(Math.min(pause, 100), signal)
  }
}

/** How often a version 1 freezer is looked at before what it has is let go, for another try. */
const attemptsAtOnce = 25

/**
 * Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst. A group whose processes fork meanwhile may stay FREEZING
 * until it is asked again; some kernels need it thawed in between (runc #3166).
 */
async function freezeV1(directory: string, signal: AbortSignal | undefined): Promise<void> {
  const file = join(directory, 'freezer.state')
  const began = Date.now()
  for (let attempt = 1; ; attempt++) {
    await write(file, 'FROZEN')
    if (readFileSync(file, 'utf8').trim() === 'FROZEN') return
    if (Date.now() - began > patience) throw new TimeoutError('freezing the container', patience)
    if (attempt % attemptsAtOnce === 0) await write(file, 'THAWED')
    await delay(attempt % attemptsAtOnce === 0 ? 10 : 1, signal)
  }
}

function write(path: string, value: string): Promise<void> {
  return writeFile(path, value, { flag: 'r+' })
}

function noFreezer(): UnsupportedError {
  return new UnsupportedError('pausing the container', 'it has no cgroup with a freezer', {
    hint: 'An ordinary user needs a cgroup that was delegated to it.',
  })
}
