import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { OciError, SyscallError } from '../../../src/errors.ts'
import { delay } from '../../../src/internal/abort.ts'
import { applyLayer } from '../../../src/layer/apply/apply.ts'
import { type Scratch, stream } from './apply.ts'
import { breakouts } from './breakouts.ts'
import { mutate } from './mutate.ts'
import { tar } from './tar.ts'
import { tree } from './tree.ts'

/** How long one archive may take, in milliseconds. */
const patience = 60_000
/** Archives that go into directories side by side, before what is outside is looked at. */
const together = 50

/**
 * Applies as many mutated archives, beginning with that seed: each is made or refused with an OciError, none takes
 * long, and none touches anything outside of its directory.
 */
export async function applyMutants(scratch: Scratch, count: number, first = 0): Promise<void> {
  const bases = Object.values(breakouts).map((entries) => tar(...entries))
  const outcomes = { made: 0, refused: 0 }
  for (let seed = first; seed < first + count; seed += together) {
    const place = scratch.directory()
    mkdirSync(join(place, 'sentinel'))
    writeFileSync(join(place, 'sentinel', 'file'), 'untouched')
    const before = tree(join(place, 'sentinel'))
    for (let next = seed; next < Math.min(seed + together, first + count); next += 1) {
      const target = join(place, `target-${next}`)
      mkdirSync(target)
      const mutant = mutate(bases[next % bases.length] as Buffer, next)
      const outcome = await applied(mutant, target)
      outcomes[outcome === undefined ? 'made' : 'refused'] += 1
      // The kernel refuses nothing that the plan has not refused before.
      if (outcome instanceof SyscallError || !(outcome === undefined || outcome instanceof OciError)) {
        throw new Error(`seed ${next}`, { cause: outcome })
      }
      rmSync(target, { recursive: true, force: true })
    }
    expect(tree(join(place, 'sentinel'))).toEqual(before)
    expect(readdirSync(place)).toEqual(['sentinel'])
    rmSync(place, { recursive: true, force: true })
  }
  // Otherwise the mutations prove nothing.
  expect(outcomes.made).toBeGreaterThan(count / 10)
  expect(outcomes.refused).toBeGreaterThan(count / 10)
}

async function applied(archive: Buffer, target: string): Promise<unknown> {
  const timer = new AbortController()
  const tooLong = delay(patience, timer.signal).then(() => new Error('it takes too long'))
  const done = applyLayer(stream(archive), target).then(
    () => undefined,
    (error: unknown) => error,
  )
  try {
    return await Promise.race([done, tooLong])
  } finally {
    tooLong.catch(() => {})
    timer.abort()
  }
}
