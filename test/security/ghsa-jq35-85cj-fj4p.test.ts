import { expect, it } from 'vitest'
import { createSpec } from '../../src/bundle/index.ts'
import { specOf } from '../runtime/support.ts'
import { attack } from './support.ts'

// How much power the processor draws tells what others compute.
attack('GHSA-jq35-85cj-fj4p', (sandbox) => {
  it('the default config shows nothing of power draw, nor of keys and timers', async () => {
    const maskedPaths = createSpec(undefined, { id: 'box', command: ['sh'] }).linux?.maskedPaths ?? []
    expect(maskedPaths).toContain('/sys/devices/virtual/powercap')
    const script = 'find /sys/devices/virtual/powercap -type f 2>/dev/null; cat /proc/keys /proc/timer_list 2>/dev/null'
    const { stdout } = await sandbox().run(
      specOf(['sh', '-c', script], { linux: { ...specOf([]).linux, maskedPaths } }),
    )
    expect(stdout).toBe('')
  })
})
