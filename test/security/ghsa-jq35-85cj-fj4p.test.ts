import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createSpec } from '../../src/bundle/index.ts'
import { dockerMounts, specOf } from '../runtime/support.ts'
import { attack, bind } from './support.ts'

// How much power the processor draws tells what others compute.
attack('GHSA-jq35-85cj-fj4p', (sandbox) => {
  const maskedPaths = createSpec(undefined, { id: 'box', command: ['sh'] }).linux?.maskedPaths ?? []
  const linux = { ...specOf([]).linux, maskedPaths }

  it('the default config shows nothing of power draw', async () => {
    // Not every machine has the counter: this one has it now.
    const sys = join(sandbox().directory, 'sys')
    const counter = 'devices/virtual/powercap/intel-rapl/intel-rapl:0'
    mkdirSync(join(sys, counter), { recursive: true })
    writeFileSync(join(sys, counter, 'energy_uj'), '262143328850\n')
    const mounts = [...dockerMounts.filter(({ destination }) => !destination.startsWith('/sys')), bind('/sys', sys)]
    const script = `cat /sys/${counter}/energy_uj || echo hidden`
    const { stdout } = await sandbox().run(specOf(['sh', '-c', script], { mounts, linux }))
    expect(stdout).toBe('hidden\n')
  })

  it('nor of that of this machine, its keys and timers', async () => {
    const script = 'find /sys/devices/virtual/powercap -type f 2>/dev/null; cat /proc/keys /proc/timer_list 2>/dev/null'
    const { stdout } = await sandbox().run(specOf(['sh', '-c', script], { linux }))
    expect(stdout).toBe('')
  })
})
