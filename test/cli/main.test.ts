import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { createSpec, writeBundle } from '../../src/bundle/index.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'oci-ts-cli-'))
afterAll(() => rmSync(directory, { recursive: true }))

function run(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', main, ...args], {
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

describe('oci-ts', () => {
  it('prints its version and its usage', () => {
    const { version } = JSON.parse(readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8'))
    expect(run('--version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' })
    expect(run('--help').stdout).toContain('Usage: oci-ts <command>')
    expect(run('plan', '--help').stdout).toContain('Usage: oci-ts plan')
  })

  it('refuses what it does not know, without a stack', () => {
    for (const args of [['nonsense'], ['--nonsense'], ['plan', '--nonsense'], ['plan', '--bundle', directory]]) {
      const { status, stdout, stderr } = run(...args)
      expect([status, stdout]).toEqual([1, ''])
      expect(stderr).toMatch(/^oci-ts: /)
      expect(stderr).not.toContain('    at ')
    }
  })

  it('prints the plan of a bundle', async () => {
    const bundle = join(directory, 'bundle')
    await writeBundle(bundle, createSpec(undefined, { id: 'box', command: ['sh'] }))
    const { status, stdout, stderr } = run('plan', '--bundle', bundle)
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^# create: monitor$/m)
    expect(stdout).toMatch(/^pivot_root\("\.", "\."\)/m)
    expect(stdout).toMatch(/^execve\(".*sh", \["sh"\]/m)
  })
})
