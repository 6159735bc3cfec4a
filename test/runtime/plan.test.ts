import { describe, expect, it } from 'vitest'
import type { Host } from '../../src/runtime/host.ts'
import { formatPlan, isSupported, plan } from '../../src/runtime/index.ts'
import { dockerMounts, specOf } from './support.ts'

const host: Host = {
  hierarchies: { v1: [], v2: { mountPoint: '/sys/fs/cgroup', controllers: [] } },
  kernel: [6, 8],
  capabilities: (1n << 41n) - 1n,
  uid: 0,
  gid: 0,
  inUserNamespace: false,
  isDirectory: () => true,
  read: (path) => (path.endsWith('cgroup.controllers') ? 'cpu memory pids\n' : undefined),
  writable: () => true,
}
const spec = specOf(['sh', '-c', 'echo hello'], {
  hostname: 'box',
  mounts: [...dockerMounts, { destination: '/data', type: 'bind', source: '/srv/data', options: ['rbind', 'ro'] }],
  process: { capabilities: { bounding: ['CAP_CHOWN'], permitted: ['CAP_CHOWN'], effective: ['CAP_CHOWN'] } },
  linux: {
    ...specOf([]).linux,
    resources: { memory: { limit: 64 << 20 }, cpu: { quota: 50_000, period: 100_000 }, pids: { limit: 64 } },
    maskedPaths: ['/proc/keys'],
    readonlyPaths: ['/proc/sys'],
  },
})

describe('a plan', () => {
  it('is the list of all system calls, and looks at nothing but its arguments', async () => {
    await expect(formatPlan(plan(spec, { id: 'box', bundle: '/bundle', host }))).toMatchFileSnapshot('golden/plan.txt')
  })

  it('is of batches in the order in which they are made', () => {
    const batches = plan(spec, { bundle: '/bundle', host }).map(({ process, operation }) => `${operation} ${process}`)
    expect(batches).toEqual(['create monitor', 'create first process', 'create first process', 'start first process'])
  })

  it('has layers by name from Linux 6.7 on, before that by descriptor', () => {
    const overlay = { lower: ['/layers/b', '/layers/a'], upper: '/box/upper', work: '/box/work' }
    const text = (kernel: Host['kernel']): string =>
      formatPlan(plan(spec, { bundle: '/bundle', overlay, host: { ...host, kernel } }))
    expect(text([6, 7])).toContain('"lowerdir+", "/layers/a"')
    expect(text([6, 7])).not.toContain('mount("overlay"')
    for (const key of ['index', 'redirect_dir', 'metacopy']) expect(text([6, 7])).toContain(`"${key}", "off"`)
    expect(text([6, 6])).toContain('"lowerdir=200:201,upperdir=202,wo')
    expect(text([6, 6])).not.toContain('lowerdir+')
  })

  it('refuses limits for which the host has no controller', () => {
    const bare: Host = { ...host, hierarchies: { v1: [], v2: undefined } }
    expect(() => plan(spec, { bundle: '/bundle', host: bare })).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_UNSUPPORTED' }),
    )
  })
})

describe('isSupported', () => {
  it('says whether, and if not why', () => {
    const { supported, reasons } = isSupported()
    expect(supported).toBe(reasons.length === 0)
    if (process.platform === 'linux' && process.getuid?.() === 0) expect(reasons).toEqual([])
  })
})
