import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LinuxDeviceCgroup } from '../../../src/bundle/index.ts'
import { Remote } from '../../../src/linux/remote/remote.ts'
import { deviceProgramCalls, openAs } from '../../../src/runtime/cgroups/files.ts'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'

const v2 = hostHierarchies().v2?.mountPoint
const cannot = process.getuid?.() !== 0 ? 'needs root' : v2 === undefined ? 'needs a cgroup2 mount' : undefined

describe.skipIf(cannot)(`the device program in the kernel (${cannot ?? 'attached'})`, () => {
  const directory = join(v2 ?? '', `oci-ts-test-devices-${process.pid}`)
  beforeEach(() => {
    mkdirSync(directory)
  })
  afterEach(() => rmdirSync(directory))

  it('is taken, and decides on what a process in the cgroup opens', async () => {
    const rules: readonly LinuxDeviceCgroup[] = [
      { allow: false, access: 'rwm' },
      { allow: true, type: 'c', major: 1, minor: 11, access: 'r' },
      ...Array.from(
        { length: 200 },
        (_, minor) => ({ allow: true, type: 'b', major: 7, minor, access: 'rw' }) as const,
      ),
    ]
    const remote = Remote.spawn()
    try {
      await remote.run([...openAs(directory, 0, 20), ...deviceProgramCalls(rules, 20, 21)])
    } finally {
      await remote.close()
    }
    const script = `echo $$ >${directory}/cgroup.procs
      (: </dev/kmsg) 2>/dev/null && echo kmsg; (: </dev/null) && echo null
      (: >/dev/kmsg) 2>/dev/null || echo kmsg is read-only`
    expect(spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout).toBe('kmsg\nnull\nkmsg is read-only\n')
    // The process that asks is in no such cgroup.
    closeSync(openSync('/dev/kmsg', 'w'))
  })
})
