import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSpec } from '../../src/bundle/index.ts'
import { cannotRun } from '../runtime/support.ts'
import { CommandLine } from './support.ts'

describe.skipIf(cannotRun)(`the start of the command line (${cannotRun ?? 'as root'})`, () => {
  let oci: CommandLine
  let directory: string
  beforeAll(() => {
    oci = new CommandLine()
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-start-'))
    writeFileSync(join(directory, 'empty.cjs'), '')
    const report = 'process.on("exit", () => { const { user, system } = process.cpuUsage()'
    writeFileSync(join(directory, 'report.cjs'), `${report}; require("fs").writeSync(2, "took " + (user + system)) })`)
    writeFileSync(join(directory, 'config.json'), JSON.stringify(createSpec(undefined, { id: 'box', command: ['sh'] })))
    // A container of that id is there, so that create gives up at its first system call.
    mkdirSync(join(directory, 'state/box'), { recursive: true })
    writeFileSync(
      join(directory, 'state/box/state.json'),
      JSON.stringify({ facts: { outlive: true, cgroups: [] }, config: {} }),
    )
  })
  afterAll(() => {
    rmSync(directory, { recursive: true })
    oci.remove()
  })

  /** Milliseconds of processor time that a Node process takes: whatever else runs on the machine hardly counts. */
  function time(args: readonly string[], expected: string): number {
    const { stderr } = spawnSync(process.execPath, ['--require', join(directory, 'report.cjs'), ...args], {
      encoding: 'utf8',
      env: { ...process.env, NODE_COMPILE_CACHE: join(directory, 'compiled') },
    })
    expect(stderr).toContain(expected)
    return Number(/took (\d+)$/.exec(stderr)?.[1]) / 1000
  }

  // 25 ms where Node takes 60: a share of what Node takes holds on slower machines, too.
  it('costs little beside that of Node itself until its first system call', () => {
    const create = [oci.path, '--root', join(directory, 'state'), 'create', '--bundle', directory, 'box']
    const empties: number[] = []
    const creates: number[] = []
    time(create, 'already exists') // keeps what is compiled
    for (let round = 0; round < 15; round++) {
      empties.push(time([join(directory, 'empty.cjs')], ''))
      creates.push(time(create, 'already exists'))
    }
    expect(Math.min(...creates) / Math.min(...empties)).toBeLessThan(1.6)
  }, 120_000)
})
