import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createSpec, validateProcess, validateResources, validateSpec, validateState } from '../../src/bundle/index.ts'
import { SpecError } from '../../src/errors.ts'
import { compileSeccomp } from '../../src/linux/seccomp.ts'

const minimal = { ociVersion: '1.0.0', root: { path: 'rootfs' } }

/** JSON pointers of the faults. */
function faults(value: unknown, validate: (value: unknown) => unknown = validateSpec): readonly string[] {
  try {
    validate(value)
    return []
  } catch (error) {
    if (!(error instanceof SpecError)) throw error
    return error.issues.map((issue) => issue.pointer)
  }
}

function withLinux(linux: unknown, more: object = {}): object {
  return { ...minimal, ...more, linux }
}

describe('validateSpec', () => {
  it('takes the least that the specification asks for, and returns it as it is', () => {
    expect(validateSpec(minimal)).toBe(minimal)
    const spec = createSpec(undefined, { id: 'a', command: ['sh'], memory: '1m', ulimits: { core: 'unlimited' } })
    expect(validateSpec(spec)).toBe(spec)
  })

  it('tells all of many faults, and a thousand of more', () => {
    const mounts = (count: number) => ({
      ...minimal,
      mounts: Array.from({ length: count }, () => ({ destination: 7 })),
    })
    const pointers = faults(mounts(60))
    for (let index = 0; index < 60; index++) expect(pointers).toContain(`/mounts/${index}/destination`)
    expect(faults(mounts(5000))).toHaveLength(1000)
    expect(() => validateSpec(mounts(60))).toThrow(/mounts\/0\/destination: .*; and 40 more$/)
  })

  it('passes over what it does not know: members, annotations, newer minor versions', () => {
    const future = {
      ociVersion: '1.99.0-rc.1+dev',
      root: { path: '/', colour: 'red' },
      process: { cwd: '/', args: ['a'], rhythm: { bpm: 120 } },
      linux: { namespaces: [{ type: 'pid', mood: 'good' }], resources: { quantum: {} } },
      annotations: { 'org.example/x': '' },
      plan9: {},
    }
    expect(validateSpec(future)).toBe(future)
  })

  it('takes null for absent, as other runtimes do', () => {
    const value = {
      ...minimal,
      hostname: null,
      process: { cwd: '/', args: ['a'], env: null },
      linux: { devices: null },
    }
    expect(validateSpec(value)).toEqual({ ...minimal, process: { cwd: '/', args: ['a'] }, linux: {} })
  })

  it('tells all faults at once, those of types and those of sense', () => {
    const value = {
      ociVersion: '2.0.0',
      root: {},
      hostname: 'box',
      process: {
        cwd: 'srv',
        args: [],
        user: { uid: -1, gid: 4294967295 },
        rlimits: [
          { type: 'RLIMIT_NOFILE', soft: 2, hard: 1 },
          { type: 'RLIMIT_NOFILE', soft: 1, hard: 1 },
          { type: 'RLIMIT_DANCE', soft: 1, hard: 1 },
        ],
      },
      linux: { namespaces: [{ type: 'pid' }, { type: 'pid', path: 'ns' }] },
    }
    expect(faults(value).toSorted()).toEqual(
      [
        '/ociVersion',
        '/root',
        '/hostname',
        '/process/cwd',
        '/process/args',
        '/process/user/uid',
        '/process/user/gid',
        '/process/rlimits/0/soft',
        '/process/rlimits/1/type',
        '/process/rlimits/2/type',
        '/linux/namespaces/1/type',
        '/linux/namespaces/1/path',
      ].toSorted(),
    )
  })

  it.each([
    ['is no object', [], ['']],
    ['has no version', { root: { path: 'r' } }, ['']],
    ['has a version that is none', { ...minimal, ociVersion: 'v1' }, ['/ociVersion']],
    ['has no root', { ociVersion: '1.0.0' }, ['/root']],
    ['has a NUL in a path', { ...minimal, root: { path: 'a\0b' } }, ['/root/path']],
    ['has a host name of the host', withLinux({}, { hostname: 'x' }), ['/hostname']],
    ['has a long host name', { ...minimal, hostname: 'x'.repeat(65) }, ['/hostname']],
    [
      'has a hook with a relative path',
      { ...minimal, hooks: { poststop: [{ path: 'x' }] } },
      ['/hooks/poststop/0/path'],
    ],
    [
      'has a hook that may take no time',
      { ...minimal, hooks: { prestart: [{ path: '/x', timeout: 0 }] } },
      ['/hooks/prestart/0/timeout'],
    ],
    [
      'maps owners by half',
      { ...minimal, mounts: [{ destination: '/a', uidMappings: [{ containerID: 0, hostID: 1, size: 1 }] }] },
      ['/mounts/0/gidMappings'],
    ],
    [
      'maps owners by nothing',
      { ...minimal, mounts: [{ destination: '/a', options: ['bind', 'idmap'] }] },
      ['/mounts/0/options/1'],
    ],
    [
      'maps without a user namespace',
      withLinux({ uidMappings: [{ containerID: 0, hostID: 0, size: 1 }] }),
      ['/linux/uidMappings'],
    ],
    [
      'maps one id twice',
      withLinux({
        namespaces: [{ type: 'user' }],
        uidMappings: [
          { containerID: 0, hostID: 0, size: 9 },
          { containerID: 5, hostID: 20, size: 1 },
        ],
      }),
      ['/linux/uidMappings/1/containerID'],
    ],
    [
      'maps beyond the ids there are',
      withLinux({
        namespaces: [{ type: 'user' }],
        gidMappings: [
          { containerID: 1, hostID: 0, size: 4294967295 },
          { containerID: 0, hostID: 4294967295, size: 0 },
        ],
      }),
      ['/linux/gidMappings/1/size'],
    ],
    [
      'has a user without mapping',
      withLinux(
        { namespaces: [{ type: 'user' }], uidMappings: [{ containerID: 0, hostID: 0, size: 1 }] },
        { process: { cwd: '/', user: { uid: 1, gid: 1 } } },
      ),
      ['/process/user/uid'],
    ],
    [
      'changes a kernel parameter of the host',
      withLinux({
        namespaces: [{ type: 'network' }],
        sysctl: { 'vm.swappiness': '1', 'net.core.somaxconn': '1', 'kernel.shmmax': '1', '../x': '' },
      }),
      ['/linux/sysctl/vm.swappiness', '/linux/sysctl/kernel.shmmax', '/linux/sysctl/..~1x'],
    ],
    [
      'sets clocks that it does not have',
      withLinux({ timeOffsets: { boottime: { secs: 1 } } }),
      ['/linux/timeOffsets'],
    ],
    [
      'has a device without numbers',
      withLinux({
        devices: [
          { type: 'c', path: '/dev/x', major: 5000 },
          { type: 'p', path: '/dev/p' },
        ],
      }),
      ['/linux/devices/0/major', '/linux/devices/0/minor'],
    ],
    ['moves devices into the host', withLinux({ netDevices: { eth0: {} } }), ['/linux/netDevices']],
    [
      'moves devices of one name',
      withLinux({
        namespaces: [{ type: 'network' }],
        netDevices: { a: { name: 'x' }, b: { name: 'x' }, c: { name: 'a/b' } },
      }),
      ['/linux/netDevices/b', '/linux/netDevices/c/name'],
    ],
    ['masks paths of the host', withLinux({ maskedPaths: ['/proc/kcore'] }), ['/linux/maskedPaths']],
    [
      'masks a relative path',
      withLinux({ namespaces: [{ type: 'mount' }], readonlyPaths: ['proc'] }),
      ['/linux/readonlyPaths/0'],
    ],
    ['leads out of resctrl', withLinux({ intelRdt: { closID: '..' } }), ['/linux/intelRdt/closID']],
    [
      'has nodes where there are none',
      withLinux({ memoryPolicy: { mode: 'MPOL_LOCAL', nodes: '0' } }),
      ['/linux/memoryPolicy/nodes'],
    ],
    [
      'has an errno where there is none',
      withLinux({
        seccomp: {
          defaultAction: 'SCMP_ACT_ALLOW',
          defaultErrnoRet: 1,
          syscalls: [{ names: ['a'], action: 'SCMP_ACT_LOG', errnoRet: 2 }],
          listenerMetadata: 'x',
        },
      }),
      ['/linux/seccomp/defaultErrnoRet', '/linux/seccomp/syscalls/0/errnoRet', '/linux/seccomp/listenerMetadata'],
    ],
    [
      'has an unknown action',
      withLinux({ seccomp: { defaultAction: 'SCMP_ACT_DANCE' } }),
      ['/linux/seccomp/defaultAction'],
    ],
    [
      'limits swap below memory',
      withLinux({ resources: { memory: { limit: 2, swap: 1, swappiness: 101 }, cpu: { quota: 5, burst: 6 } } }),
      ['/linux/resources/memory/swap', '/linux/resources/memory/swappiness', '/linux/resources/cpu/burst'],
    ],
    [
      'writes outside of its cgroup',
      withLinux({ resources: { unified: { '../memory.max': '1' }, rdma: { 'mlx/0': {} } } }),
      ['/linux/resources/rdma/mlx~10', '/linux/resources/unified/..~1memory.max'],
    ],
    [
      'schedules as no kernel does',
      { ...minimal, process: { cwd: '/', scheduler: { policy: 'SCHED_OTHER', nice: 20, priority: 1, runtime: 5 } } },
      ['/process/scheduler/nice', '/process/scheduler/priority', '/process/scheduler/runtime'],
    ],
  ])('refuses a config that %s', (_, value, pointers) => {
    expect(faults(value)).toEqual(pointers)
  })

  it('compares 64-bit values whole', () => {
    const rlimits = (soft: bigint, hard: bigint): object => ({
      ...minimal,
      process: { cwd: '/', rlimits: [{ type: 'RLIMIT_CORE', soft, hard }] },
    })
    expect(faults(rlimits(2n ** 64n - 1n, 2n ** 64n - 1n))).toEqual([])
    expect(faults(rlimits(2n ** 64n - 1n, 2n ** 64n - 2n))).toEqual(['/process/rlimits/0/soft'])
    expect(faults(rlimits(2n ** 65n, 2n ** 65n))).toContain('/process/rlimits/0/soft')
  })

  it('throws nothing but its own error, whatever one value of a good config is replaced by', () => {
    const good = JSON.stringify(
      createSpec(undefined, {
        id: 'a',
        command: ['sh'],
        memory: 1e6,
        cpus: 1,
        seccomp: { defaultAction: 'SCMP_ACT_LOG' },
      }),
    )
    const junk = [null, true, -1, 1.5, 2 ** 70, '', '\0', 'x', [], {}, [null], [{}], { length: 1 }]
    const root: Record<string, unknown> = { value: JSON.parse(good) }
    const visit = (container: Record<string, unknown>, name: string): void => {
      const original = container[name]
      for (const value of junk) {
        container[name] = value
        faults(root.value)
      }
      container[name] = original
      if (typeof original !== 'object' || original === null) return
      for (const member of Object.keys(original)) visit(original as Record<string, unknown>, member)
    }
    visit(root, 'value')
    expect(faults(root.value)).toEqual([])
  })
})

describe('the other documents', () => {
  it('are validated by the same rules', () => {
    expect(faults({ cwd: '/', args: ['sh'] }, validateProcess)).toEqual([])
    expect(faults({ cwd: 'x' }, validateProcess)).toEqual(['/cwd'])
    expect(faults({ memory: { limit: -1, swap: -1 }, pids: { limit: 0 } }, validateResources)).toEqual([])
    expect(faults({ pids: { limit: -2 } }, validateResources)).toEqual(['/pids/limit'])
    expect(faults({ ociVersion: '1.2.0', id: 'a', status: 'paused', bundle: '/b', pid: 1 }, validateState)).toEqual([])
    expect(faults({ ociVersion: '1.2.0', id: 'a', pid: -1 }, validateState).toSorted()).toEqual(
      ['', '', '/pid'].toSorted(),
    )
  })
})

describe('specs of other runtimes', () => {
  for (const runtime of ['runc', 'crun']) {
    const missing = spawnSync(runtime, ['--version']).status !== 0
    for (const options of [[], ['--rootless']]) {
      it.skipIf(missing)(`are valid: ${[runtime, 'spec', ...options].join(' ')} (needs ${runtime})`, () => {
        const directory = mkdtempSync(join(tmpdir(), 'oci-ts-spec-'))
        try {
          expect(spawnSync(runtime, ['spec', ...options], { cwd: directory }).status).toBe(0)
          expect(faults(JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')))).toEqual([])
        } finally {
          rmSync(directory, { recursive: true })
        }
      })
    }
  }

  const podman = process.getuid?.() === 0 && spawnSync('podman', ['--version']).status === 0
  it.skipIf(!podman)('are valid, profile included: podman (needs root and podman)', { timeout: 60_000 }, () => {
    const directory = mkdtempSync(join(tmpdir(), 'oci-ts-podman-'))
    const storage = ['root', 'runroot', 'tmpdir'].flatMap((name) => [`--${name}`, join(directory, name)])
    const run = (args: readonly string[], input?: Buffer): string =>
      spawnSync(
        'podman',
        [...storage, '--storage-driver=vfs', '--cgroup-manager=cgroupfs', '--events-backend=file', ...args],
        { encoding: 'utf8', ...(input === undefined ? {} : { input }) },
      ).stdout.trim()
    try {
      // An archive without entries: two blocks of zeros.
      const image = run(['import', '-'], Buffer.alloc(1024))
      const container = run(['create', '--network=none', '--memory=64m', '--cpus=0.5', image, 'sh'])
      // There is nothing to run, so init fails; config.json is written before that.
      run(['container', 'init', container])
      const config = join(directory, 'root', 'vfs-containers', container, 'userdata', 'config.json')
      const spec = validateSpec(JSON.parse(readFileSync(config, 'utf8')))
      expect(spec.linux?.resources?.memory).toEqual({ limit: 67108864, swap: 134217728 })
      expect(compileSeccomp(spec.linux?.seccomp ?? { defaultAction: '' }, 'x64').length).toBeGreaterThan(100)
      run(['rm', '--force', container])
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
