import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const program = fileURLToPath(new URL('fixtures/worker.ts', import.meta.url))

function run(mode: string): unknown {
  const text = execFileSync(process.execPath, ['--import', 'tsx', program, mode], { encoding: 'utf8' })
  return JSON.parse(text)
}

describe.skipIf(process.platform !== 'linux')('prepare (needs Linux)', () => {
  it('in the main thread lets a worker thread use the kernel interface', () => {
    expect(run('prepared')).toEqual({ supported: true, reasons: [] })
  })

  it('is named as what to do where it was not called', () => {
    expect(run('unprepared')).toMatchObject({
      supported: false,
      reasons: [expect.stringMatching(/prepare\(\) of oci-ts\/runtime/)],
    })
  })
})
