import { readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect } from 'vitest'
import { dismissSpares } from '../../src/linux/remote/spares.ts'
import { childrenOfThis, descriptorsOfThis, type Sandbox, specOf, until } from './support.ts'

/** What this process holds; what it left on the host, {@link Sandbox.expectNothingLeft} tells from what others have there. */
export interface Held {
  /** Bytes of memory that no file stands behind. */
  readonly memory: number
  readonly descriptors: number
}

/** A generator of the same numbers from 0 to 1 for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * Runs `count` containers, up to eight at once, of several kinds: that end by themselves, are killed, deleted before their
 * start, have something executed in them, and whose start fails. Which, and how many at once, the seed says.
 * @returns what this process held after each fifth of them.
 */
export async function runCycles(sandbox: Sandbox, count: number, seed: number): Promise<readonly Held[]> {
  const random = randomFrom(seed)
  const held: Held[] = []
  let done = 0
  for (let fifth = 1; fifth <= 5; fifth++) {
    while (done < (count * fifth) / 5) {
      const lanes = Math.min(1 + Math.floor(random() * 8), count - done)
      await Promise.all(Array.from({ length: lanes }, () => cycle(sandbox, random())))
      done += lanes
    }
    held.push(await whatIsHeld())
  }
  return held
}

const resources = { memory: { limit: 64 << 20 }, pids: { limit: 20 } }

async function cycle(sandbox: Sandbox, kind: number): Promise<void> {
  const linux = { ...specOf([]).linux, resources }
  const args = kind < 0.6 ? ['true'] : kind < 0.7 ? ['no-such-program'] : ['sleep', '1000']
  const creation = sandbox.createUnlisted(specOf(args, { linux }))
  if (kind >= 0.6 && kind < 0.7) {
    // Not by `rejects`, which keeps each error until the test has ended.
    const error = await creation.then(undefined, (cause: unknown) => cause)
    expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME' })
    return
  }
  const container = await creation
  if (kind < 0.8) await container.start()
  if (kind < 0.6) expect(await container.exited).toEqual({ code: 0, signal: undefined, oomKilled: false })
  if (kind >= 0.75 && kind < 0.8) {
    const process = await container.exec({ args: ['true'] })
    expect(await process.exited).toMatchObject({ code: 0 })
  }
  await container.delete({ force: true })
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

async function whatIsHeld(): Promise<Held> {
  dismissSpares(0)
  await until('no remote process is left', () => childrenOfThis().length === 0)
  collectGarbage()
  return {
    memory: Number(/^Anonymous:\s+(\d+)/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))?.[1]) * 1024,
    descriptors: descriptorsOfThis().length,
  }
}

/** Fails when something grew that should not: the first fifth is what a process needs to get going. */
export function expectNoGrowth(held: readonly Held[]): void {
  const [first] = held as [Held]
  const last = held.at(-1) as Held
  expect(last.descriptors, 'descriptors').toBeLessThanOrEqual(first.descriptors)
  // Node's heap comes and goes by more than that; half a kilobyte kept of each of 10,000 would be 5 MB.
  expect(last.memory - first.memory, 'memory').toBeLessThan(40 << 20)
}
