import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSpec, specVersion, validateFeatures, writeBundle } from '../../src/bundle/index.ts'
import { CommandLine } from './support.ts'

let oci: CommandLine
const directory = mkdtempSync(join(tmpdir(), 'oci-ts-cli-'))
beforeAll(() => {
  oci = new CommandLine()
})
afterAll(() => {
  rmSync(directory, { recursive: true })
  oci.remove()
})

describe('oci-ts', () => {
  it('prints its version as Docker and containerd read it', () => {
    const { version } = JSON.parse(readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8'))
    const { status, stdout } = oci.run(['--version'])
    const lines = stdout.split('\n')
    expect([status, lines.slice(0, 3)]).toEqual([
      0,
      [`oci-ts version ${version}`, `commit: v${version}`, 'spec: 1.3.0'],
    ])
    expect(lines.filter((line) => line.includes('version'))).toHaveLength(1)
  })

  it('prints its usage, and that of each command', () => {
    const { stdout } = oci.run(['--help'])
    expect(stdout).toContain('Usage: oci-ts [options] COMMAND')
    const names = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name as string)
    expect(names).toContain('create')
    for (const name of names) {
      expect(oci.run([name, '--help'])).toMatchObject({ status: 0, stdout: expect.stringContaining(`oci-ts ${name}`) })
    }
  })

  it('refuses what it does not know, without a stack', () => {
    for (const args of [
      ['nonsense'],
      ['--nonsense'],
      ['plan', '--nonsense'],
      ['plan', '--bundle', directory],
      ['--log-format', 'xml', 'list'],
      ['--log-level', 'nonsense', 'list'],
      ['--cgroup-manager', 'nonsense', 'list'],
      ['state'],
      ['state', 'a', 'b'],
    ]) {
      const { status, stdout, stderr } = oci.run(args)
      expect([status, stdout]).toEqual([args[0] === 'nonsense' ? 3 : 1, ''])
      expect(stderr).toMatch(/^oci-ts[: ]/)
      expect(stderr).not.toContain('    at ')
    }
  })

  it('prints what it can do, by the schema of the specification', () => {
    const { status, stdout, stderr } = oci.run(['features'])
    expect([status, stderr]).toEqual([0, ''])
    expect(validateFeatures(JSON.parse(stdout))).toMatchObject({ ociVersionMax: specVersion })
  })

  it('prints the plan of a bundle', async () => {
    const bundle = join(directory, 'bundle')
    await writeBundle(bundle, createSpec(undefined, { id: 'box', command: ['sh'] }))
    const { status, stdout, stderr } = oci.run(['plan', '--bundle', bundle])
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^# create: monitor$/m)
    expect(stdout).toMatch(/^pivot_root\("\.", "\."\)/m)
    expect(stdout).toMatch(/^execve\(".*sh", \["sh"\]/m)
  })
})
