import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { defaultCapabilities, defaultSeccomp, type Spec } from '../../src/bundle/index.ts'
import { auditRecord } from '../../src/runtime/audit/audit.ts'
import { audit } from '../../src/runtime/index.ts'
import { readRecord } from '../../src/runtime/state-directory.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

const capabilities = {
  bounding: ['CAP_CHOWN', 'CAP_KILL'],
  permitted: ['CAP_CHOWN', 'CAP_KILL'],
  effective: ['CAP_CHOWN', 'CAP_KILL'],
}

describe.skipIf(cannotRun)(`an audit (${cannotRun ?? 'of real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const strict = (): Spec =>
    specOf(['sleep', '1000'], {
      root: { path: 'rootfs', readonly: true },
      process: {
        capabilities,
        noNewPrivileges: true,
        user: { uid: 0, gid: 0 },
        rlimits: [{ type: 'RLIMIT_NOFILE', soft: 64, hard: 128 }],
      },
      linux: {
        maskedPaths: ['/proc/keys', '/proc/kcore', '/sys/firmware'],
        readonlyPaths: ['/proc/sys', '/proc/irq'],
        seccomp: defaultSeccomp({
          architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
          capabilities: defaultCapabilities,
        }),
        resources: {
          memory: { limit: 64 << 20 },
          pids: { limit: 30 },
          cpu: { shares: 512 },
          devices: [{ allow: false }],
        },
      },
    })

  it('finds nothing where all is as it was asked for, before and after the start', async () => {
    const container = await sandbox.create(strict())
    expect(await container.audit()).toEqual([])
    await container.start()
    expect(await container.audit()).toEqual([])
    expect(await audit(container.id, sandbox)).toEqual([])
    await container.delete({ force: true })
    await expect(container.audit()).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
  })

  it('names each thing that a container has against its config', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: { resources: { pids: { limit: 30 } } } }))
    await container.start()
    await container.update({ pids: { limit: 60 } })
    const record = await readRecord(sandbox.stateRoot, container.id)
    const asked = strict()
    const mounts = asked.mounts?.map((mount) =>
      mount.destination === '/dev/shm' ? { ...mount, options: ['ro'] } : mount,
    )
    const spec = { ...asked, mounts: [...(mounts ?? []), { destination: '/nowhere', type: 'tmpfs' }] }
    const found = auditRecord(record, {
      ...spec,
      process: { cwd: '/', ...spec.process, user: { uid: 5, gid: 0 } },
      linux: {
        ...spec.linux,
        resources: { pids: { limit: 30 } },
        namespaces: [...(spec.linux?.namespaces ?? []), { type: 'user' }],
      },
    })
    const kinds = new Set(found.map(({ kind, pointer }) => `${kind} ${pointer}`))
    for (const each of [
      'namespace /linux/namespaces/6',
      'mount /mounts/6',
      'mount /mounts/7',
      'mount /root/readonly',
      'mount /linux/maskedPaths/0',
      'mount /linux/readonlyPaths/0',
      'capabilities /process/capabilities/bounding',
      'no-new-privileges /process/noNewPrivileges',
      'seccomp /linux/seccomp',
      'resource-limit /process/rlimits/0',
      'cgroup /linux/resources/pids/limit',
    ]) {
      expect(kinds).toContain(each)
    }
    expect(found.find(({ kind }) => kind === 'cgroup')).toMatchObject({ expected: 'pids.max 30', actual: '60' })
    expect(found.find(({ pointer }) => pointer === '/mounts/7')?.severity).toBe('different')
    await container.delete({ force: true })
  })

  it('tells of another user than the one that was asked for', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    const record = await readRecord(sandbox.stateRoot, container.id)
    const asked = specOf(['sleep', '1000'], { process: { user: { uid: 5, gid: 7 } } })
    expect(auditRecord(record, asked)).toEqual([
      { kind: 'identity', severity: 'weaker', pointer: '/process/user/uid', expected: '5', actual: '0' },
      { kind: 'identity', severity: 'weaker', pointer: '/process/user/gid', expected: '7', actual: '0' },
    ])
    await container.delete({ force: true })
  })
})
