import { afterAll, describe, it } from 'vitest'
import { isRoot, Scratch } from '../support/apply.ts'
import { applyMutants } from '../support/fuzz.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

describe.skipIf(!isRoot)('2,000 mutated archives (skipped without root: device numbers are tried)', () => {
  it('are made or refused, and touch nothing outside', { timeout: 300_000 }, () => applyMutants(scratch, 2_000))
})
