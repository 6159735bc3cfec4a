import { describe, expect, it } from 'vitest'
import type { LinuxResources } from '../../../src/bundle/index.ts'
import type { Hierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'
import { planResources, resourceWarnings } from '../../../src/runtime/cgroups/resources.ts'
import type { CgroupSetting } from '../../../src/runtime/cgroups/setting.ts'
import { cpuWeight } from '../../../src/runtime/cgroups/settings-v2.ts'

const all = 'cpu cpuacct cpuset memory devices freezer blkio pids hugetlb rdma net_cls net_prio'.split(' ')
const v1: Hierarchies = {
  v1: all.map((controller) => ({ mountPoint: `/cg/${controller}`, controllers: [controller] })),
  v2: undefined,
}
const v2: Hierarchies = { v1: [], v2: { mountPoint: '/cg', controllers: [] } }
const hybrid: Hierarchies = { v1: v1.v1.filter(({ controllers }) => controllers[0] !== 'hugetlb'), v2: v2.v2 }

const lines = (settings: readonly CgroupSetting[]): readonly string[] =>
  settings.map(({ file, value }) => `${file} ${value}`)
const inV1 = (resources: LinuxResources): readonly string[] => lines(planResources(resources, v1).v1)
const inV2 = (resources: LinuxResources): readonly string[] => lines(planResources(resources, v2).v2)

describe('settings of a cgroup', () => {
  it('have memory with swap in version 1 and swap alone in version 2', () => {
    const memory = { limit: 100, swap: 150, reservation: 50 }
    expect(inV1({ memory })).toEqual([
      'memory.limit_in_bytes 100',
      'memory.memsw.limit_in_bytes 150',
      'memory.soft_limit_in_bytes 50',
    ])
    expect(inV2({ memory })).toEqual(['memory.max 100', 'memory.swap.max 50', 'memory.low 50'])
  })

  it('take the limit off swap with the one off memory, and know unlimited swap', () => {
    expect(inV1({ memory: { limit: -1 } })).toEqual(['memory.limit_in_bytes -1', 'memory.memsw.limit_in_bytes -1'])
    expect(inV2({ memory: { limit: -1 } })).toEqual(['memory.max max', 'memory.swap.max max'])
    expect(inV2({ memory: { limit: 100, swap: -1 } })).toEqual(['memory.max 100', 'memory.swap.max max'])
  })

  it('refuse swap in version 2 that says nothing without memory, or is below it', () => {
    for (const memory of [{ swap: 100 }, { limit: -1, swap: 100 }, { limit: 200, swap: 100 }]) {
      expect(() => inV2({ memory })).toThrow(expect.objectContaining({ code: 'ERR_OCI_INVALID_ARGUMENT' }))
    }
  })

  it('leave alone what is 0 where engines write that for nothing', () => {
    const resources: LinuxResources = {
      memory: { limit: 0, swap: 0, reservation: 0 },
      cpu: { shares: 0, quota: 0, period: 0, cpus: '', mems: '', realtimeRuntime: 0 },
      blockIO: { weight: 0 },
    }
    expect(inV1(resources)).toEqual([])
    expect(inV2(resources)).toEqual([])
  })

  it('count 0 tasks as a limit, and -1 as none', () => {
    expect([inV1({ pids: { limit: 0 } }), inV1({ pids: { limit: -1 } })]).toEqual([['pids.max 0'], ['pids.max max']])
    expect([inV2({ pids: { limit: 0 } }), inV2({ pids: { limit: -1 } })]).toEqual([['pids.max 0'], ['pids.max max']])
  })

  it('turn shares into weights so that least, default and most stay what they are', () => {
    expect([2, 1024, 262_144].map(cpuWeight)).toEqual([1, 100, 10_000])
    expect([0, 512, 2048, 300_000].map(cpuWeight)).toEqual([1, 59, 174, 10_000])
  })

  it('give an idle group its weight before it is idle, for it takes none then', () => {
    expect(inV2({ cpu: { shares: 1024, idle: 1 } })).toEqual(['cpu.weight 100', 'cpu.idle 1'])
    expect(inV2({ cpu: { shares: 1024, idle: 0 } })).toEqual(['cpu.idle 0', 'cpu.weight 100'])
    expect(inV1({ cpu: { shares: 1024, idle: 1 } })).toEqual(['cpu.shares 1024', 'cpu.idle 1'])
  })

  it('have quota, period and burst', () => {
    const cpu = { quota: 50_000, period: 100_000, burst: 10_000, cpus: '0-1', mems: '0' }
    expect(inV1({ cpu })).toEqual([
      'cpu.cfs_period_us 100000',
      'cpu.cfs_quota_us 50000',
      'cpu.cfs_burst_us 10000',
      'cpuset.cpus 0-1',
      'cpuset.mems 0',
    ])
    expect(inV2({ cpu })).toEqual(['cpu.max 50000 100000', 'cpu.max.burst 10000', 'cpuset.cpus 0-1', 'cpuset.mems 0'])
    expect(inV2({ cpu: { quota: -1 } })).toEqual(['cpu.max max 100000'])
  })

  it('have weights and rates of block devices, in the files of whatever scheduler there is', () => {
    const device = { major: 8, minor: 16 }
    const blockIO = {
      weight: 500,
      weightDevice: [{ ...device, weight: 1000 }],
      throttleReadBpsDevice: [{ ...device, rate: 1000 }],
      throttleWriteIOPSDevice: [{ ...device, rate: 0 }],
    }
    expect(inV1({ blockIO })).toEqual([
      'blkio.bfq.weight 500',
      'blkio.weight 500',
      'blkio.bfq.weight_device 8:16 1000',
      'blkio.weight_device 8:16 1000',
      'blkio.throttle.read_bps_device 8:16 1000',
      'blkio.throttle.write_iops_device 8:16 0',
    ])
    expect(inV2({ blockIO })).toEqual([
      'io.bfq.weight 500',
      'io.weight 4950',
      'io.bfq.weight 8:16 1000',
      'io.weight 8:16 10000',
      'io.max 8:16 rbps=1000',
      'io.max 8:16 wiops=max',
    ])
  })

  it('have huge pages, RDMA devices and network classes', () => {
    const resources: LinuxResources = {
      hugepageLimits: [{ pageSize: '2MB', limit: 4096 }],
      rdma: { mlx5_1: { hcaHandles: 3, hcaObjects: 100 } },
      network: { classID: 0x100001, priorities: [{ name: 'eth0', priority: 5 }] },
    }
    expect(inV1(resources)).toEqual([
      'hugetlb.2MB.limit_in_bytes 4096',
      'hugetlb.2MB.rsvd.limit_in_bytes 4096',
      'rdma.max mlx5_1 hca_handle=3 hca_object=100',
      'net_cls.classid 1048577',
      'net_prio.ifpriomap eth0 5',
    ])
    expect(inV2({ ...resources, network: {} })).toEqual([
      'hugetlb.2MB.max 4096',
      'hugetlb.2MB.rsvd.max 4096',
      'rdma.max mlx5_1 hca_handle=3 hca_object=100',
    ])
  })

  it('go to the hierarchy that has the controller, on a hybrid host too', () => {
    const resources: LinuxResources = { pids: { limit: 5 }, hugepageLimits: [{ pageSize: '1GB', limit: 0 }] }
    const planned = planResources(resources, hybrid)
    expect([lines(planned.v1), lines(planned.v2)]).toEqual([
      ['pids.max 5'],
      ['hugetlb.1GB.max 0', 'hugetlb.1GB.rsvd.max 0'],
    ])
    expect(planResources({ devices: [] }, hybrid).devices).toBeUndefined()
    expect(planResources({ devices: [] }, v2).devices).toEqual([])
  })

  it('refuse by name what only the other version knows', () => {
    const onlyV1: readonly (readonly [LinuxResources, string])[] = [
      [{ memory: { swappiness: 10 } }, 'memory/swappiness'],
      [{ memory: { disableOOMKiller: true } }, 'memory/disableOOMKiller'],
      [{ cpu: { realtimeRuntime: 1000 } }, 'cpu/realtimeRuntime'],
      [{ blockIO: { leafWeight: 10 } }, 'blockIO/leafWeight'],
      [{ network: { classID: 1 } }, 'network/classID'],
    ]
    for (const [resources, field] of onlyV1) {
      expect(() => inV2(resources)).toThrow(expect.objectContaining({ subject: `/linux/resources/${field}` }))
      expect(inV1(resources)).toHaveLength(1)
    }
    const unified = { 'io.max': '8:0 rbps=1' }
    expect(inV2({ unified })).toEqual(['io.max 8:0 rbps=1'])
    expect(() => inV1({ unified })).toThrow(expect.objectContaining({ code: 'ERR_OCI_UNSUPPORTED' }))
  })

  it('write no file by `unified` that is no limit', () => {
    for (const file of ['cgroup.procs', 'cgroup.kill', '../memory.max', 'nothing']) {
      expect(() => inV2({ unified: { [file]: '1' } })).toThrow(
        expect.objectContaining({ code: 'ERR_OCI_INVALID_ARGUMENT' }),
      )
    }
  })

  it('warn of what kernels do not do any more', () => {
    const memory = { kernel: 1000, kernelTCP: 1000, useHierarchy: false }
    expect(resourceWarnings({ memory }, v2)).toHaveLength(3)
    expect(resourceWarnings({ memory }, v1)).toHaveLength(2)
    expect(resourceWarnings({ memory: { limit: 1 } }, v2)).toEqual([])
  })
})
