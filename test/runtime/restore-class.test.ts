import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { thisHost } from '../../src/runtime/host.ts'
import { restore } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`a restored container (${cannotRun ?? 'a script stands for CRIU'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterAll(async () => {
    await sandbox.expectNothingLeft()
    await sandbox.remove()
  })

  it('is in the class of service of its config', async () => {
    // No processor here has RDT: a directory stands for resctrl.
    const classes = join(sandbox.directory, 'resctrl')
    const tasks = join(classes, 'gold/tasks')
    mkdirSync(join(classes, 'gold'), { recursive: true })
    writeFileSync(tasks, '')
    const imagePath = join(sandbox.directory, 'images')
    mkdirSync(imagePath)
    writeFileSync(join(imagePath, 'oci-ts.json'), '{"streams":[],"mounts":[]}')
    const criu = join(sandbox.directory, 'criu')
    const joined = join(sandbox.directory, 'joined')
    writeFileSync(criu, `#!/bin/sh\n[ "$1" = check ] && exit 0; cp ${tasks} ${joined}; exit 1\n`, { mode: 0o755 })
    const { read } = thisHost()
    const told = vi.spyOn(thisHost(), 'read').mockImplementation((path) => {
      const mounted = path === '/proc/self/mountinfo' ? `30 25 0:26 / ${classes} rw - resctrl resctrl rw\n` : ''
      return mounted + (read(path) ?? '')
    })
    try {
      const { bundle, stateRoot } = sandbox
      const spec = specOf(['true'], { linux: { ...specOf([]).linux, intelRdt: { closID: 'gold' } } })
      const failed = restore({ id: sandbox.id(), spec, bundle, stateRoot, imagePath, criu })
      await expect(failed).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'restore the container' })
      expect(readFileSync(joined, 'utf8')).toBe('0')
    } finally {
      told.mockRestore()
    }
  })
})
