import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, it } from 'vitest'
import { killRounds } from './support/kill.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-kill-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

describe('unpacking', () => {
  it('may be killed 200 times at any moment: the next process works', { timeout: 1_800_000 }, async () => {
    await killRounds(join(scratch, 'killed'), 200)
  })
})
