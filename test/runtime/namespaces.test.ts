import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LinuxNamespace, LinuxNamespaceType } from '../../src/bundle/index.ts'
import type { RuntimeContainer } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf, until } from './support.ts'

/** Names of the files in /proc/<pid>/ns. */
const files: Readonly<Record<LinuxNamespaceType, string>> = {
  pid: 'pid',
  network: 'net',
  mount: 'mnt',
  ipc: 'ipc',
  uts: 'uts',
  user: 'user',
  cgroup: 'cgroup',
  time: 'time',
}
const types = Object.keys(files) as readonly LinuxNamespaceType[]
const mapped = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
const maps = { uidMappings: mapped, gidMappings: mapped }

describe.skipIf(cannotRun)(`namespaces (${cannotRun ?? 'of real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    for (const path of [sandbox.directory, sandbox.bundle]) chmodSync(path, 0o755)
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const idOf = (pid: number | 'self', type: LinuxNamespaceType): string =>
    readlinkSync(`/proc/${pid}/ns/${files[type]}`)
  const pathOf = (container: RuntimeContainer, type: LinuxNamespaceType): string =>
    `/proc/${container.pid}/ns/${files[type]}`
  /** A container that waits, in new namespaces of those types. */
  const host = async (...own: readonly LinuxNamespaceType[]): Promise<RuntimeContainer> => {
    const linux = { namespaces: own.map((type) => ({ type })), ...(own.includes('user') ? maps : {}) }
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux }))
    await container.start()
    return container
  }
  const inNamespaces = async (
    namespaces: readonly LinuxNamespace[],
    look: (container: RuntimeContainer) => void,
    changes: Parameters<typeof specOf>[1] = {},
  ): Promise<void> => {
    const container = await sandbox.create(
      specOf(['sleep', '1000'], { ...changes, linux: { ...changes.linux, namespaces } }),
    )
    try {
      await container.start()
      look(container)
    } finally {
      await container.delete({ force: true })
    }
  }

  it('are new where the config lists them, and those of the maker where it does not', async () => {
    for (const type of types.filter((each) => each !== 'mount')) {
      const listed = types.filter((each) => each !== type && each !== 'user')
      await inNamespaces(
        listed.map((each) => ({ type: each })),
        ({ pid }) => {
          for (const each of types) {
            const own = idOf('self', each)
            if (listed.includes(each)) expect(idOf(pid, each), each).not.toBe(own)
            else expect(idOf(pid, each), each).toBe(own)
          }
        },
      )
    }
  })

  it.each(types.filter((type) => type !== 'user' && type !== 'mount'))(
    'of type %s can be joined by path',
    async (type) => {
      const first = await host('mount', type)
      const others = types.filter((each) => each !== type && each !== 'user').map((each) => ({ type: each }))
      await inNamespaces([...others, { type, path: pathOf(first, type) }], ({ pid }) => {
        for (const each of types.filter((one) => one !== 'user')) {
          if (each === type) expect(idOf(pid, each)).toBe(idOf(first.pid, each))
          else expect(idOf(pid, each)).not.toBe(idOf(first.pid, each))
        }
      })
      await first.delete({ force: true })
    },
  )

  it('of type mount can be joined where the bundle is seen, and get the root there', async () => {
    const other = spawn('unshare', ['--mount', 'sleep', '1000'])
    try {
      const pid = other.pid as number
      await until('it has its own mounts', () => idOf(pid, 'mount') !== idOf('self', 'mount'))
      const own = idOf(pid, 'mount')
      const rest = types.filter((each) => each !== 'mount' && each !== 'user').map((each) => ({ type: each }))
      await inNamespaces([{ type: 'mount', path: `/proc/${pid}/ns/mnt` }, ...rest], (container) => {
        expect(idOf(container.pid, 'mount')).toBe(own)
        expect(readdirSync(`/proc/${container.pid}/root`)).toContain('bin')
      })
    } finally {
      other.kill('SIGKILL')
      await once(other, 'exit')
    }
  })

  it('can be joined all at once', async () => {
    const own = types.filter((type) => type !== 'mount')
    const first = await host('mount', ...own)
    await inNamespaces([...own.map((type) => ({ type, path: pathOf(first, type) })), { type: 'mount' }], ({ pid }) => {
      for (const type of own) expect(idOf(pid, type), type).toBe(idOf(first.pid, type))
      expect(idOf(pid, 'mount')).not.toBe(idOf(first.pid, 'mount'))
    })
    await first.delete({ force: true })
  })

  it('that are new belong to a user namespace that is joined, and its root rules them', async () => {
    const first = await host('mount', 'user', 'pid', 'network', 'cgroup', 'ipc')
    const namespaces: readonly LinuxNamespace[] = [
      { type: 'user', path: pathOf(first, 'user') },
      ...types.filter((type) => type !== 'user').map((type) => ({ type })),
    ]
    const changes = { hostname: 'joined', linux: { namespaces, sysctl: { 'net.ipv4.ip_forward': '1' } } }
    const script =
      'id -u; hostname; cat /proc/sys/net/ipv4/ip_forward; cat /proc/self/uid_map; hostname changed && hostname'
    const lines = (await sandbox.sh(script, changes)).trim().split('\n')
    expect(lines.map((line) => line.trim().replace(/\s+/g, ' '))).toEqual([
      '0',
      'joined',
      '1',
      '0 100000 65536',
      'changed',
    ])
    await inNamespaces(namespaces, ({ pid }) => {
      expect(idOf(pid, 'user')).toBe(idOf(first.pid, 'user'))
      expect(idOf(pid, 'pid')).not.toBe(idOf(first.pid, 'pid'))
      expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^NSpid:\s+\d+\s+1$/m)
    })
    await first.delete({ force: true })
  })

  it.each<readonly [LinuxNamespaceType, LinuxNamespaceType]>([
    ['network', 'ipc'],
    ['pid', 'network'],
    ['time', 'uts'],
    ['user', 'network'],
  ])('of type %s can not be joined by the path of one of type %s', async (type, other) => {
    const path = `/proc/self/ns/${files[other]}`
    const made = sandbox.create(
      specOf(['true'], { mounts: [], linux: { namespaces: [{ type: 'mount' }, { type, path }] } }),
    )
    await expect(made).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: `join the ${type} namespace`,
      pointer: '/linux/namespaces/1/path',
      hint: expect.stringContaining('no namespace of that type'),
    })
  })

  it('can not be joined where there is none', async () => {
    const namespaces: readonly LinuxNamespace[] = [{ type: 'mount' }, { type: 'ipc', path: '/no/such/namespace' }]
    await expect(sandbox.create(specOf(['true'], { linux: { namespaces } }))).rejects.toMatchObject({
      step: 'join the ipc namespace',
      pointer: '/linux/namespaces/1/path',
    })
  })

  describe('of time', () => {
    const timeOffsets = { boottime: { secs: 1_000_000, nanosecs: 5 }, monotonic: { secs: -1, nanosecs: 500_000_000 } }
    const uptime = (): number => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
    const namespaces = types.filter((type) => type !== 'user').map((type) => ({ type }))
    const offsets = 'boottime 1000000 5 monotonic -1 500000000'

    it.each([
      ['alone', { namespaces }],
      ['with a user namespace', { namespaces: types.map((type) => ({ type })), ...maps }],
    ])('have the clocks that the config sets: %s', async (_, linux) => {
      const spec = specOf(['sh', '-c', 'cat /proc/uptime; cat /proc/self/timens_offsets; id -u'], {
        linux: { ...linux, timeOffsets },
      })
      const { stdout, status } = await sandbox.run(spec)
      expect(status.code).toBe(0)
      const [inside = '', ...rest] = stdout.split('\n')
      expect(Number(inside.split(' ')[0]) - uptime()).toBeCloseTo(1_000_000, -1)
      const shown = rest.slice(0, -2).map((line) => line.trim().replace(/\s+/g, ' '))
      expect(shown.sort().join(' ')).toBe(offsets)
      expect(rest.at(-2)).toBe('0')
    })

    it('name an offset that the kernel refuses', async () => {
      const linux = { namespaces, timeOffsets: { monotonic: { secs: -1_000_000_000 } } }
      await expect(sandbox.create(specOf(['true'], { linux }))).rejects.toMatchObject({
        code: 'ERR_OCI_RUNTIME',
        step: 'set the clocks',
        pointer: '/linux/timeOffsets',
        hint: expect.stringContaining('before its start'),
      })
      const inUser = { namespaces: types.map((type) => ({ type })), ...maps, timeOffsets: linux.timeOffsets }
      await expect(sandbox.create(specOf(['true'], { linux: inUser }))).rejects.toMatchObject({
        step: 'set the clocks',
      })
    })

    it('need no offsets', async () => {
      await inNamespaces(
        types.map((type) => ({ type })),
        ({ pid }) => {
          expect(idOf(pid, 'time')).not.toBe(idOf('self', 'time'))
        },
        { linux: maps },
      )
    })
  })

  it('of user get an out-of-memory score from outside, where it can be lower', async () => {
    const own = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'))
    const linux = { namespaces: types.map((type) => ({ type })), ...maps }
    const stdout = await sandbox.sh('cat /proc/self/oom_score_adj', { linux, process: { oomScoreAdj: own + 7 } })
    expect(Number(stdout)).toBe(own + 7)
    const made = sandbox.create(specOf(['true'], { linux, process: { oomScoreAdj: 1001 } }))
    await expect(made).rejects.toMatchObject({ pointer: '/process/oomScoreAdj' })
    await using first = await sandbox.create(specOf(['sleep', '1000'], { linux }))
    const others = types.filter((type) => type !== 'user').map((type) => ({ type }))
    const namespaces = [{ type: 'user' as const, path: `/proc/${first.pid}/ns/user` }, ...others]
    const changes = { linux: { namespaces }, process: { oomScoreAdj: own + 8 } }
    expect(Number(await sandbox.sh('cat /proc/self/oom_score_adj', changes))).toBe(own + 8)
  })
})
