import { execFileSync, spawnSync } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { LinuxResources } from '../../../src/bundle/index.ts'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'
import { restore } from '../../../src/runtime/index.ts'
import { cannotRun, Sandbox, type SpecChanges, specOf, until } from '../support.ts'

const { v1, v2 } = hostHierarchies()
/** Where the machine that tests boot has them. */
const [outcome, commandLine] = ['/app/outcome.mjs', '/app/from-sources.mjs'] as const
const cannot =
  cannotRun ??
  (!existsSync('/run/systemd/system')
    ? 'needs a host with systemd'
    : v1.length > 0 || v2 === undefined
      ? 'needs cgroup version 2 alone'
      : existsSync(outcome)
        ? undefined
        : 'needs the machine of the tests')

const user = 1000
const slice = 'ocits-test.slice'
const mountPoint = v2?.mountPoint ?? ''

/** What systemd says of a unit. */
function propertiesOf(unit: string, ...names: readonly string[]): Readonly<Record<string, string>> {
  const args = ['show', unit, `--property=${['LoadState', ...names].join(',')}`]
  const lines = execFileSync('systemctl', args, { encoding: 'utf8' }).trim().split('\n')
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

function fileOf(unit: string, name: string): string {
  return readFileSync(join(mountPoint, 'ocits.slice', slice, unit, name), 'utf8').trim()
}

const gone = (unit: string): boolean =>
  propertiesOf(unit).LoadState === 'not-found' && !existsSync(join(mountPoint, 'ocits.slice', slice, unit))

describe.skipIf(cannot)(`containers whose cgroup a real systemd makes (${cannot ?? 'for real'})`, () => {
  let sandbox: Sandbox
  beforeAll(() => {
    sandbox = new Sandbox()
  })
  afterEach(() => {
    delete process.env.DBUS_SYSTEM_BUS_ADDRESS
  })
  afterAll(() => sandbox.remove())

  const within = (name: string, resources: LinuxResources = {}): NonNullable<SpecChanges['linux']> => ({
    cgroupsPath: `${slice}:test:${name}`,
    resources,
  })
  const asSystemd = { cgroupManager: 'systemd' } as const

  it('is saved by CRIU, and restored in a scope of its own, with its limits', async (context) => {
    if (spawnSync('criu', ['check']).status !== 0) return context.skip('needs a CRIU that works with this kernel')
    const imagePath = join(sandbox.directory, 'images')
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: within('saved') }), asSystemd)
    await container.start()
    await container.checkpoint({ imagePath })
    await container.delete()
    await until('the unit is gone', () => gone('test-saved.scope'))
    const { bundle, stateRoot } = sandbox
    const spec = specOf(['sleep', '1000'], { linux: within('restored', { pids: { limit: 50 } }) })
    const restored = await restore({ id: sandbox.id(), spec, bundle, stateRoot, imagePath, ...asSystemd })
    const unit = 'test-restored.scope'
    try {
      expect(propertiesOf(unit, 'ActiveState', 'TasksMax')).toMatchObject({ ActiveState: 'active', TasksMax: '50' })
      expect(fileOf(unit, 'cgroup.procs')).toBe(String(restored.pid))
      expect(fileOf(unit, 'pids.max')).toBe('50')
    } finally {
      await restored.delete({ force: true })
    }
    await until('the unit is gone', () => gone(unit))
  })

  for (const [way, address] of [
    ['its own socket', undefined],
    ['the system bus', 'unix:path=/run/dbus/system_bus_socket'],
  ] as const) {
    it(`over ${way}: it has the limits, keeps them when it reads its configuration again, and forgets the unit`, async () => {
      if (address !== undefined) process.env.DBUS_SYSTEM_BUS_ADDRESS = address
      const name = address === undefined ? 'socket' : 'bus'
      const unit = `test-${name}.scope`
      const script = `until [ -e /tmp/${name} ]; do sleep 0.1; done; ! head -c 1 /dev/kmsg`
      const container = await sandbox.create(
        specOf(['sh', '-c', script], {
          linux: {
            ...within(name, {
              memory: { limit: 64 << 20, swap: 96 << 20, reservation: 16 << 20 },
              pids: { limit: 50 },
              cpu: { quota: 50_000, shares: 512, cpus: '0' },
              devices: [{ allow: false, access: 'rwm' }],
            }),
            devices: [{ path: '/dev/kmsg', type: 'c', major: 1, minor: 11 }],
          },
          annotations: { 'org.systemd.property.TimeoutStopSec': '5' },
        }),
        asSystemd,
      )
      expect(propertiesOf(unit, 'Slice', 'Delegate', 'MemoryMax', 'MemorySwapMax', 'MemoryLow', 'TasksMax')).toEqual({
        ...{ LoadState: 'loaded', Slice: slice, Delegate: 'yes', MemoryMax: `${64 << 20}` },
        ...{ MemorySwapMax: `${32 << 20}`, MemoryLow: `${16 << 20}`, TasksMax: '50' },
      })
      expect(propertiesOf(unit, 'CPUQuotaPerSecUSec', 'AllowedCPUs', 'TimeoutStopUSec')).toEqual({
        ...{ LoadState: 'loaded', CPUQuotaPerSecUSec: '500ms', AllowedCPUs: '0', TimeoutStopUSec: '5s' },
      })
      expect(fileOf(unit, 'cgroup.procs')).toBe(String(container.pid))
      const files = ['memory.max', 'memory.swap.max', 'memory.low', 'pids.max', 'cpu.max', 'cpu.weight', 'cpuset.cpus']
      const limits = (): readonly string[] => files.map((file) => fileOf(unit, file))
      const before = limits()
      expect(before).toEqual([64 << 20, 32 << 20, 16 << 20, 50, '50000 100000', expect.anything(), 0].map(asText))
      await container.start()
      execFileSync('systemctl', ['daemon-reload'])
      expect(limits()).toEqual(before)
      writeFileSync(join(sandbox.rootfs, 'tmp', name), '')
      expect(await container.exited).toMatchObject({ code: 0 })
      await container.delete()
      expect(gone(unit)).toBe(true)
    })
  }

  it('are changed for good by an update, and run further processes in the unit', async () => {
    const container = await sandbox.create(
      specOf(['sleep', '1000'], { linux: within('update', { pids: { limit: 50 } }) }),
      asSystemd,
    )
    await container.start()
    const unit = 'test-update.scope'
    await container.update({ pids: { limit: 60 }, memory: { limit: 32 << 20 } })
    execFileSync('systemctl', ['daemon-reload'])
    expect(propertiesOf(unit, 'TasksMax', 'MemoryMax')).toMatchObject({ TasksMax: '60', MemoryMax: `${32 << 20}` })
    expect([fileOf(unit, 'pids.max'), fileOf(unit, 'memory.max')]).toEqual(['60', String(32 << 20)])
    const process = await container.exec({ args: ['sleep', '1000'] })
    expect(fileOf(unit, 'cgroup.procs').split('\n')).toEqual([container.pid, process.pid].map(String))
    await container.delete({ force: true })
    expect(gone(unit)).toBe(true)
  })

  it('leave no unit when they ran out of memory, or when systemd stops it', async () => {
    const memory = { limit: 8 << 20, swap: 8 << 20 }
    let oomKilled = false
    // systemd may take the count away before it is read, on a machine that is slow to schedule: see docs/limits.md.
    for (let attempt = 0; attempt < 5 && !oomKilled; attempt += 1) {
      const hungry = await sandbox.create(
        specOf(['tail', '/dev/zero'], { linux: within('oom', { memory }) }),
        asSystemd,
      )
      await hungry.start()
      const status = await hungry.exited
      expect(status).toMatchObject({ signal: 'SIGKILL' })
      oomKilled = status.oomKilled
      await hungry.delete()
      await until('systemd has forgotten it', () => gone('test-oom.scope'))
    }
    expect(oomKilled).toBe(true)
    const stopped = await sandbox.create(specOf(['sleep', '1000'], { linux: within('stop') }), asSystemd)
    await stopped.start()
    execFileSync('systemctl', ['kill', '--signal=KILL', 'test-stop.scope'])
    expect(await stopped.exited).toMatchObject({ signal: 'SIGKILL' })
    await stopped.delete()
    await until('systemd has forgotten it', () => gone('test-stop.scope'))
  })

  it('are refused for a unit that is there, and for a property that systemd does not know; the other stays', async () => {
    const first = await sandbox.create(specOf(['sleep', '1000'], { linux: within('taken') }), asSystemd)
    onTestFinished(() => first.delete({ force: true }))
    const again = sandbox.create(specOf(['true'], { linux: within('taken') }), asSystemd)
    await expect(again).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
    const annotations = { 'org.systemd.property.NoSuchThing': "'x'" }
    const unknown = sandbox.create(specOf(['true'], { linux: within('unknown'), annotations }), asSystemd)
    await expect(unknown).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', message: /NoSuchThing/ })
    expect([gone('test-unknown.scope'), fileOf('test-taken.scope', 'cgroup.procs')]).toEqual([true, `${first.pid}`])
  })

  it('run by the command line with --systemd-cgroup', () => {
    const bundle = join(sandbox.directory, 'command-line')
    mkdirSync(bundle)
    const namespaces = (['mount', 'pid'] as const).map((type) => ({ type }))
    const root = { path: sandbox.rootfs }
    const spec = specOf(['cat', '/proc/self/cgroup'], { root, linux: { ...within('line'), namespaces } })
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec))
    const globals = ['--root', join(bundle, 'state'), '--systemd-cgroup']
    const args = [commandLine, ...globals, 'run', '--bundle', bundle, sandbox.id()]
    const { stdout, stderr } = spawnSync('node', args, { encoding: 'utf8' })
    expect([stdout, stderr]).toEqual([`0::/ocits.slice/${slice}/test-line.scope\n`, ''])
    expect(gone('test-line.scope')).toBe(true)
  })

  describe('of an ordinary user', () => {
    const home = (): string => join(sandbox.directory, 'home')
    beforeAll(() => {
      mkdirSync(home())
      for (const path of [sandbox.directory, sandbox.bundle, home()]) chownSync(path, user, user)
      execFileSync('chown', ['-R', `${user}:${user}`, sandbox.rootfs])
    })

    const ids = [{ containerID: 0, hostID: user, size: 1 }]

    it.each([
      ['that user', [], { namespaces: [{ type: 'user' } as const], uidMappings: ids, gidMappings: ids }],
      [
        'who is root in a user namespace, as under podman',
        ['unshare', '--user', '--map-root-user'],
        { namespaces: [] },
      ],
    ])('are in a cgroup with limits, by the systemd of that user, when run by %s', (_, before, more) => {
      const namespaces = [...more.namespaces, { type: 'mount' } as const, { type: 'pid' } as const]
      const linux = { ...more, namespaces, resources: { pids: { limit: 20 } } }
      const mounts = [{ destination: '/proc', type: 'proc', source: 'proc' }]
      const spec = specOf(['cat', '/proc/self/cgroup'], { mounts, linux })
      const id = sandbox.id()
      const options = { id, spec, bundle: sandbox.bundle, stateRoot: join(home(), 'state'), ...asSystemd }
      const [program = '', ...args] = [...before, 'node', outcome, JSON.stringify(options), home()]
      const env = { PATH: '/bin', HOME: home(), XDG_RUNTIME_DIR: `/run/user/${user}` }
      const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env, uid: user, gid: user })
      expect([JSON.parse(stdout), stderr]).toMatchObject([
        { output: `0::/user.slice/user@${user}.service/user.slice/oci-ts-${id}.scope\n`, status: { code: 0 } },
        '',
      ])
    })
  })
})

function asText(value: unknown): unknown {
  return typeof value === 'number' ? String(value) : value
}
