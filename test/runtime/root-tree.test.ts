import { closeSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { AT_FDCWD } from '../../src/linux/calls/files.ts'
import { cloneTree } from '../../src/linux/calls/mounts.ts'
import { perform } from '../../src/linux/local.ts'
import { cannotRun, makeRootfs, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`a mount that is given as root (${cannotRun ?? 'a real one'})`, () => {
  let sandbox: Sandbox
  let hidden: string
  beforeAll(async () => {
    sandbox = new Sandbox()
    hidden = join(sandbox.directory, 'hidden/root')
    mkdirSync(hidden, { recursive: true, mode: 0o700 })
    makeRootfs(hidden)
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('is the root, and nothing of it is on the host', async () => {
    const rootTree = perform(cloneTree(AT_FDCWD, hidden, false))
    try {
      expect(await sandbox.sh('ls -d /bin; echo x > /made; ls -d /..', {}, { rootTree })).toBe('/bin\n/..\n')
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(hidden)
      expect(readFileSync(join(hidden, 'made'), 'utf8')).toBe('x\n')
    } finally {
      closeSync(rootTree)
    }
  })

  it('takes a mount namespace', async () => {
    const rootTree = perform(cloneTree(AT_FDCWD, hidden, false))
    try {
      const spec = specOf(['true'])
      const namespaces = spec.linux?.namespaces?.filter(({ type }) => type !== 'mount') ?? []
      const without = { ...spec, linux: { ...spec.linux, namespaces } }
      await expect(sandbox.create(without, { rootTree })).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED' })
    } finally {
      closeSync(rootTree)
    }
  })
})
