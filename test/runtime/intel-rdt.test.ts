import { describe, expect, it } from 'vitest'
import type { LinuxIntelRdt } from '../../src/bundle/index.ts'
import type { Host } from '../../src/runtime/host.ts'
import { formatPlan, plan } from '../../src/runtime/index.ts'
import { planIntelRdt } from '../../src/runtime/intel-rdt.ts'
import { specOf } from './support.ts'

const mountinfo = '30 25 0:26 / /sys/fs/resctrl rw,relatime - resctrl resctrl rw\n'
const l3 = 'L3:0=7f;1=7f'

/** A host that has classes of service, by name with their schemata. */
const host = (classes: Readonly<Record<string, string>> = {}, mounted = true): Host => ({
  hierarchies: { v1: [], v2: undefined },
  kernel: [6, 8],
  capabilities: (1n << 41n) - 1n,
  uid: 0,
  gid: 0,
  inUserNamespace: false,
  isDirectory: (path) => path === '/sys/fs/resctrl' || path.slice('/sys/fs/resctrl/'.length) in classes,
  read: (path) => {
    if (path === '/proc/self/mountinfo') return mounted ? mountinfo : ''
    return classes[path.slice('/sys/fs/resctrl/'.length).replace(/\/?schemata$/, '')]
  },
  writable: () => true,
})
const calls = (intelRdt: LinuxIntelRdt, on: Host = host()): string =>
  formatPlan(
    plan(specOf(['true'], { linux: { ...specOf([]).linux, intelRdt } }), { id: 'box', bundle: '/bundle', host: on }),
  )
const directories = (intelRdt: LinuxIntelRdt, on: Host = host()): readonly string[] =>
  planIntelRdt({ id: 'box', intelRdt, host: on, firstDescriptor: 102 }).directories

// No processor here has RDT: what the kernel would be told is looked at.
describe('a class of service', () => {
  it('is made for the container, set, joined by its first process, and goes with it', () => {
    const intelRdt = { l3CacheSchema: l3, memBwSchema: 'MB:0=20;1=70', schemata: ['L2:0=f'] }
    const text = calls(intelRdt)
    const order = [
      'mkdirat(AT_FDCWD, "/sys/fs/resctrl/box", 0755)',
      'openat(AT_FDCWD, "/sys/fs/resctrl/box/schemata"',
      String.raw`"L3:0=7f;1=7f\n", 13)`,
      String.raw`"MB:0=20;1=70\n", 13)`,
      String.raw`"L2:0=f\n", 7)`,
      'openat(AT_FDCWD, "/sys/fs/resctrl/box/tasks"',
      'clone(',
      'write(102, "0", 1) /* join the class of service */',
    ].map((part) => text.indexOf(part))
    expect(order).not.toContain(-1)
    expect(order).toEqual([...order].sort((a, b) => a - b))
    expect(directories(intelRdt)).toEqual(['/sys/fs/resctrl/box'])
  })

  it('that is there is used as it is, and stays', () => {
    const there = host({ gold: `    L3:0=07f;1=7F\n    MB:0=100;1=100\n` })
    for (const intelRdt of [{ closID: 'gold' }, { closID: 'gold', l3CacheSchema: l3 }]) {
      const text = calls(intelRdt, there)
      expect(text).toContain('"/sys/fs/resctrl/gold/tasks"')
      expect(text).not.toMatch(/mkdirat\(AT_FDCWD, "\/sys\/fs\/resctrl|schemata/)
      expect(directories(intelRdt, there)).toEqual([])
    }
    expect(calls({ closID: '/' })).toContain('"/sys/fs/resctrl/tasks"')
  })

  it('that is there and is another one, or is not there, is an error', () => {
    const there = host({ gold: 'L3:0=1;1=7f\n' })
    const thrown = (code: string) => expect.objectContaining({ code })
    expect(() => calls({ closID: 'gold', l3CacheSchema: l3 }, there)).toThrow(thrown('ERR_OCI_CONFLICT'))
    expect(() => calls({ closID: 'silver' }, there)).toThrow(thrown('ERR_OCI_NOT_FOUND'))
    expect(() => calls({ schemata: ['no line'] })).toThrow(thrown('ERR_OCI_INVALID_ARGUMENT'))
    for (const closID of ['..', '.', '../../../tmp/class', 'a/b', '/a', 'a/']) {
      expect(() => calls({ closID, l3CacheSchema: l3 })).toThrow(thrown('ERR_OCI_INVALID_ARGUMENT'))
    }
  })

  it('counts what the container uses when that is asked for', () => {
    const group = '/sys/fs/resctrl/gold/mon_groups/box'
    const intelRdt = { closID: 'gold', enableMonitoring: true }
    const text = calls(intelRdt, host({ gold: 'L3:0=1\n' }))
    expect(text).toContain(`mkdirat(AT_FDCWD, "${group}", 0755)`)
    expect(text).toContain('write(103, "0", 1)')
    expect(directories(intelRdt, host({ gold: 'L3:0=1\n' }))).toEqual([group])
    expect(directories({ enableMonitoring: true })).toEqual([
      '/sys/fs/resctrl/box/mon_groups/box',
      '/sys/fs/resctrl/box',
    ])
  })

  it('needs a resctrl file system', () => {
    expect(() => calls({ closID: 'gold' }, host({}, false))).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_UNSUPPORTED', hint: expect.stringContaining('mount -t resctrl') }),
    )
  })
})
