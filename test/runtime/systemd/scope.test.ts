import { describe, expect, it } from 'vitest'
import { planResources } from '../../../src/runtime/cgroups/resources.ts'
import { annotatedProperties } from '../../../src/runtime/systemd/annotations.ts'
import { limitProperties } from '../../../src/runtime/systemd/limits.ts'
import { expandSlice, parseScope } from '../../../src/runtime/systemd/scope.ts'

const refused = expect.objectContaining({ code: 'ERR_OCI_INVALID_ARGUMENT' })

describe('the unit of a container', () => {
  it('is named after cgroupsPath, as runc has it', () => {
    expect(parseScope('machine.slice:libpod:abc', 'id', false)).toEqual({
      ...{ slice: 'machine.slice', unit: 'libpod-abc.scope' },
    })
    expect(parseScope('::abc', 'id', true)).toEqual({ slice: 'user.slice', unit: 'abc.scope' })
    expect(parseScope(undefined, 'id', false)).toEqual({ slice: 'system.slice', unit: 'oci-ts-id.scope' })
  })

  it.each(['/a/b', 'a:b', 'a:b:', 'a:b:c:d', 'a:b:../c', 'a:b:c/d', `a:b:${'c'.repeat(300)}`])(
    'is refused for %s',
    (path) => {
      expect(() => parseScope(path, 'id', false)).toThrow(refused)
    },
  )

  it('is in slices that are in each other', () => {
    expect(['-.slice', 'a.slice', 'a-b-c.slice'].map(expandSlice)).toEqual([
      ...['/', '/a.slice', '/a.slice/a-b.slice/a-b-c.slice'],
    ])
    for (const slice of ['a', '.slice', '-a.slice', 'a-.slice', 'a--b.slice', '../a.slice', 'a/b.slice']) {
      expect(() => expandSlice(slice), slice).toThrow(refused)
    }
  })
})

describe('properties of a unit', () => {
  const v2 = { v1: [], v2: { mountPoint: '/cg', controllers: [] } }
  const all = 'cpu cpuset memory devices blkio pids'.split(' ')
  const v1 = { v1: all.map((name) => ({ mountPoint: `/cg/${name}`, controllers: [name] })), v2: undefined }
  const resources = {
    memory: { limit: 100, swap: 150, reservation: 50 },
    cpu: { shares: 1024, quota: 12_345, period: 50_000, cpus: '0-1,9' },
    pids: { limit: -1 },
  }
  const infinity = 2n ** 64n - 1n
  const named = (
    limits: typeof resources & { readonly unified?: Record<string, string> },
    hierarchies: typeof v1 | typeof v2,
    version = 252,
  ): unknown =>
    Object.fromEntries(
      limitProperties(planResources(limits, hierarchies), version).map(([name, { value }]) => [name, value]),
    )

  it('are the limits that systemd knows, in the units that it has them', () => {
    expect(named(resources, v2)).toEqual({
      ...{ MemoryMax: 100n, MemorySwapMax: 50n, MemoryLow: 50n, CPUWeight: 100n, TasksMax: infinity },
      // 246900 µs a second, in steps of 10 ms.
      ...{ CPUQuotaPerSecUSec: 250_000n, CPUQuotaPeriodUSec: 50_000n, AllowedCPUs: Buffer.from([3, 2]) },
    })
    expect(named(resources, v1)).toMatchObject({ MemoryLimit: 100n, CPUShares: 1024n, CPUQuotaPerSecUSec: 250_000n })
  })

  it('leave out what an old systemd does not know, and take the last word of unified', () => {
    expect(Object.keys(named(resources, v2, 239) as object)).not.toContain('AllowedCPUs')
    expect(Object.keys(named(resources, v2, 239) as object)).not.toContain('CPUQuotaPeriodUSec')
    expect(named({ ...resources, unified: { 'memory.max': '77' } }, v2)).toMatchObject({ MemoryMax: 77n })
  })

  it('come from annotations, in the text format of GVariant', () => {
    const of = (name: string, text: string): unknown => annotatedProperties({ [`org.systemd.property.${name}`]: text })
    expect(of('CollectMode', "'inactive-or-failed'")).toEqual([
      ['CollectMode', { signature: 's', value: 'inactive-or-failed' }],
    ])
    expect(of('IPAccounting', 'true')).toEqual([['IPAccounting', { signature: 'b', value: true }]])
    expect(of('CPUWeight', 'uint64 150')).toEqual([['CPUWeight', { signature: 't', value: 150n }]])
    expect(of('After', "['a.service', 'b.service']")).toEqual([
      ['After', { signature: 'as', value: ['a.service', 'b.service'] }],
    ])
    expect(of('RuntimeMaxSec', '1.5')).toEqual([['RuntimeMaxUSec', { signature: 't', value: 1_500_000n }]])
    expect(annotatedProperties({ 'org.example.other': 'x' })).toEqual([])
    for (const [name, text] of [
      ...[
        ['CPUWeight', 'uint64 -1'],
        ['CPUWeight', 'byte 256'],
        ['CPUWeight', 'word 1'],
        ['Slice', "'other.slice'"],
      ],
      ...[
        ['PIDs', '[1]'],
        ['After', '[a]'],
        ['x', 'true'],
        ['RuntimeMaxSec', "'soon'"],
        ['Nice', ''],
      ],
    ] as const) {
      expect(() => of(name as string, text as string), `${name} ${text}`).toThrow(refused)
    }
  })
})
