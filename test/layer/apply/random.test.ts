import { afterAll, describe, it } from 'vitest'
import { Scratch } from '../support/apply.ts'
import { applyRandomLayers } from '../support/random-layers.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

describe('100 random layers', () => {
  it('never make the plan disagree with the disk, nor touch anything outside', { timeout: 60_000 }, async () => {
    await applyRandomLayers(scratch, 100)
  })
})
