import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { validateFeatures } from '../../src/bundle/index.ts'
import { features } from '../../src/runtime/index.ts'
import { allNamespaces, cannotRun } from './support.ts'

describe.skipIf(process.platform !== 'linux')('features (needs Linux)', () => {
  it('are a document of the specification', async () => {
    const found = await features()
    expect(validateFeatures(found)).toBe(found)
    expect(() => validateFeatures({ ...found, mountOptions: ['ro', 7], ociVersionMin: 'x' })).toThrow(/mountOptions\/1/)
  })

  it('name all that a config can have', async () => {
    const { linux, mountOptions } = await features()
    expect(linux?.namespaces).toEqual([...allNamespaces, 'time', 'user'].sort())
    expect(linux?.capabilities).toHaveLength(41)
    expect(linux?.seccomp?.actions).toContain('SCMP_ACT_NOTIFY')
    expect(linux?.seccomp?.operators).toHaveLength(7)
    expect(linux?.seccomp?.archs).toEqual(['AARCH64', 'ARM', 'X32', 'X86', 'X86_64'].map((name) => `SCMP_ARCH_${name}`))
    expect(mountOptions).toEqual(expect.arrayContaining(['idmap', 'ridmap', 'rro', 'tmpcopyup', 'lazytime']))
  })

  const peer = spawnSync('runc', ['features'], { encoding: 'utf8' })
  it.skipIf(peer.status !== 0)('are at least those of runc that the specification has (needs runc)', async () => {
    const theirs = validateFeatures(JSON.parse(peer.stdout))
    const ours = await features()
    for (const list of ['hooks', 'mountOptions'] as const) {
      expect(ours[list], list).toEqual(expect.arrayContaining([...(theirs[list] ?? [])]))
    }
    for (const list of ['namespaces', 'capabilities'] as const) {
      expect(ours.linux?.[list], list).toEqual(expect.arrayContaining([...(theirs.linux?.[list] ?? [])]))
    }
    for (const list of ['actions', 'operators'] as const) {
      expect(ours.linux?.seccomp?.[list], list).toEqual(
        expect.arrayContaining([...(theirs.linux?.seccomp?.[list] ?? [])]),
      )
    }
  })

  it.skipIf(cannotRun)(`tell what this host can do (${cannotRun ?? 'as root'})`, async () => {
    const { host } = await features()
    expect(host.namespaces).toEqual(expect.arrayContaining(['mount', 'network', 'pid']))
    expect(host.idmap).toMatchObject({ proc: false, sysfs: false })
    expect(Object.values(host.idmap)).toContain(true)
    expect(host.kernel).toMatch(/^\d+\.\d+$/)
  })
})
