import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'
import { createContainer, deleteContainer, restore, state, update } from '../../../src/runtime/index.ts'
import { noBus, TestBus } from '../../linux/dbus/support.ts'
import { cannotRun, Sandbox, specOf } from '../support.ts'
import { PlayedSystemd } from './support.ts'

const reason = cannotRun ?? noBus ?? (hostHierarchies().v2 === undefined ? 'needs a version 2 tree' : undefined)

describe.skipIf(reason !== undefined)('containers whose cgroup systemd makes', () => {
  const sandbox = new Sandbox()
  let bus: TestBus
  let systemd: PlayedSystemd
  const before = process.env.DBUS_SYSTEM_BUS_ADDRESS
  beforeAll(async () => {
    bus = await TestBus.start()
    process.env.DBUS_SYSTEM_BUS_ADDRESS = `unix:path=${bus.path}`
    systemd = await PlayedSystemd.start(bus.path)
  })
  afterAll(async () => {
    await sandbox.remove()
    systemd.stop()
    if (before === undefined) delete process.env.DBUS_SYSTEM_BUS_ADDRESS
    else process.env.DBUS_SYSTEM_BUS_ADDRESS = before
    await bus[Symbol.asyncDispose]()
  })
  const slice = `ocits-t${process.pid}.slice`
  const within = (name: string): { readonly cgroupsPath: string } => ({ cgroupsPath: `${slice}:test:${name}` })

  it('run in a scope of the slice, with limits in place before the program starts', async () => {
    const spec = specOf(['sleep', '1000'], {
      linux: {
        ...within('limits'),
        resources: { memory: { limit: 64 << 20 }, pids: { limit: 50 }, cpu: { quota: 50_000 } },
      },
      annotations: { 'org.systemd.property.TimeoutStopSec': '5', 'org.systemd.property.CollectMode': "'inactive'" },
    })
    const container = await sandbox.create(spec, { cgroupManager: 'systemd' })
    const unit = 'test-limits.scope'
    const directory = systemd.directoryOf(unit)
    expect(Object.fromEntries(systemd.units.get(unit) ?? [])).toMatchObject({
      ...{ Slice: slice, PIDs: [container.pid], Delegate: true, DefaultDependencies: false },
      ...{ CollectMode: 'inactive', TimeoutStopUSec: 5_000_000n, TasksMax: 50n, CPUQuotaPerSecUSec: 500_000n },
    })
    expect(readFileSync(join(directory, 'cgroup.procs'), 'utf8').trim()).toBe(String(container.pid))
    const own = readFileSync(`/proc/${container.pid}/cgroup`, 'utf8')
    expect(own).toContain(`/ocits.slice/${slice}/${unit}\n`)
    await container.start()
    expect((await container.stats()).memory.limit).toBe(64 << 20)
    await container.delete({ force: true })
    expect([existsSync(directory), systemd.units.has(unit)]).toEqual([false, false])
    expect(systemd.calls).toContain(`StopUnit ${unit}`)
  })

  it('are updated and deleted by their id, which knows of the unit', async () => {
    const spec = specOf(['sleep', '1000'], { linux: { ...within('by-id'), resources: { pids: { limit: 50 } } } })
    const { bundle, stateRoot } = sandbox
    const id = sandbox.id()
    const container = await createContainer({ id, spec, bundle, stateRoot, detach: true, cgroupManager: 'systemd' })
    await container.start()
    await container.release()
    await update(id, { pids: { limit: 60 } }, { stateRoot })
    expect(systemd.units.get('test-by-id.scope')?.get('TasksMax')).toBe(60n)
    await deleteContainer(id, { stateRoot, force: true })
    expect(systemd.units.has('test-by-id.scope')).toBe(false)
    await expect(state(id, { stateRoot })).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
  })

  it('with a user namespace of their own are placed before they go on', async () => {
    const maps = [{ containerID: 0, hostID: 0, size: 65_536 }]
    const namespaces = (['user', 'pid', 'mount', 'cgroup'] as const).map((type) => ({ type }))
    const container = await sandbox.create(
      specOf(['cat', '/proc/self/cgroup'], {
        mounts: [],
        linux: { ...within('mapped'), namespaces, uidMappings: maps, gidMappings: maps },
      }),
      { cgroupManager: 'systemd' },
    )
    expect(readFileSync(`/proc/${container.pid}/cgroup`, 'utf8')).toContain('/test-mapped.scope\n')
    await container.delete()
  })

  it('are refused when the job fails, or the unit is there; nothing is left, and the other unit stays', async () => {
    const made = systemd.calls.length
    systemd.result = 'failed'
    onTestFinished(() => {
      systemd.result = 'done'
    })
    const create = (): Promise<unknown> =>
      sandbox.create(specOf(['true'], { linux: within('refused') }), { cgroupManager: 'systemd' })
    await expect(create()).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', pointer: '/linux/cgroupsPath' })
    systemd.units.set('test-refused.scope', new Map([['Slice', slice]]))
    await expect(create()).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT', subject: 'test-refused.scope' })
    expect(systemd.units.delete('test-refused.scope')).toBe(true)
    expect(systemd.calls.slice(made).filter((call) => call.startsWith('StopUnit'))).toEqual([])
  })

  it('are restored in a scope, in which CRIU works; nothing is left when it fails', async () => {
    const [imagePath, told, program] = ['images', 'told', 'criu'].map((name) => join(sandbox.directory, name)) as [
      ...[string, string, string],
    ]
    mkdirSync(imagePath)
    writeFileSync(join(imagePath, 'oci-ts.json'), JSON.stringify({ streams: [], mounts: [] }))
    // A program that stands for CRIU.
    const script = `[ "$1" = check ] && exit 0; cat /proc/self/cgroup >${told}; echo "$@" >>${told}; exit 1`
    writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const spec = specOf(['true'], {
      linux: { ...specOf([]).linux, ...within('saved'), resources: { pids: { limit: 50 } } },
    })
    const { bundle, stateRoot } = sandbox
    const common = { spec, bundle, stateRoot, imagePath, criu: program, cgroupManager: 'systemd' } as const
    const failed = restore({ id: sandbox.id(), ...common })
    await expect(failed).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'restore the container' })
    const text = readFileSync(told, 'utf8')
    expect(text).toMatch(/\/test-saved\.scope$/m)
    expect(text).toMatch(/--cgroup-root \S*\/test-saved\.scope/)
    expect(systemd.calls).toContain('StopUnit test-saved.scope')
    expect([existsSync(systemd.directoryOf('test-saved.scope')), systemd.units.has('test-saved.scope')]).toEqual([
      ...[false, false],
    ])
  })

  it('are refused where no systemd answers', async () => {
    const address = process.env.DBUS_SYSTEM_BUS_ADDRESS
    onTestFinished(() => {
      process.env.DBUS_SYSTEM_BUS_ADDRESS = address
    })
    process.env.DBUS_SYSTEM_BUS_ADDRESS = 'unix:path=/nowhere/bus'
    const created = sandbox.create(specOf(['true']), { cgroupManager: 'systemd' })
    await expect(created).rejects.toMatchObject({
      code: 'ERR_OCI_UNSUPPORTED',
      reason: expect.stringContaining('/nowhere/bus'),
    })
  })
})
