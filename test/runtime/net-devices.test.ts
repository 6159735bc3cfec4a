import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LinuxNetDevice } from '../../src/bundle/index.ts'
import { allNamespaces, cannotRun, Sandbox, specOf } from './support.ts'

const why = cannotRun ?? (spawnSync('ip', ['-Version']).status === 0 ? undefined : 'needs ip of iproute2')

describe.skipIf(why)(`network devices of the host (${why ?? 'that move into containers'})`, () => {
  let sandbox: Sandbox
  const made = new Set<string>()
  let count = 0
  beforeAll(async () => {
    sandbox = new Sandbox()
    for (const path of [sandbox.directory, sandbox.bundle]) chmodSync(path, 0o755)
    await sandbox.remember()
  })
  afterEach(async () => {
    try {
      await sandbox.expectNothingLeft()
    } finally {
      // The other end goes with it. One that was in a container has gone with that.
      for (const name of made) spawnSync('ip', ['link', 'delete', name])
      made.clear()
    }
  })
  afterAll(() => sandbox.remove())

  const ip = (...args: readonly string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
  /** One end of a pair of devices, and the other. */
  const pair = (): readonly [string, string] => {
    const names = ['a', 'b'].map((end) => `ot${process.pid % 100_000}${end}${++count}`) as [string, string]
    ip('link', 'add', names[0], 'type', 'veth', 'peer', 'name', names[1])
    for (const name of names) made.add(name)
    return names
  }
  const linuxOf = (netDevices: Readonly<Record<string, LinuxNetDevice>>, user = false) => {
    const mapped = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
    const types = user ? [...allNamespaces, 'user' as const] : allNamespaces
    const namespaces = types.map((type) => ({ type }))
    return { netDevices, namespaces, ...(user ? { uidMappings: mapped, gidMappings: mapped } : {}) }
  }

  it.each([false, true])('keep their global addresses and are up (user namespace: %s)', async (user) => {
    const [name, peer] = pair()
    ip('address', 'add', '10.98.7.1/24', 'broadcast', '10.98.7.255', 'dev', name)
    ip('address', 'add', 'fd98:7::1/64', 'dev', name, 'nodad')
    ip('address', 'add', '169.254.98.7/16', 'scope', 'link', 'dev', name)
    ip('link', 'set', name, 'up')
    ip('link', 'set', peer, 'up')
    const stdout = await sandbox.sh('ip -o address; ip -o link', { linux: linuxOf({ [name]: {} }, user) })
    expect(stdout).toMatch(new RegExp(`${name} .*inet 10\\.98\\.7\\.1/24 brd 10\\.98\\.7\\.255 scope global`))
    expect(stdout).toMatch(new RegExp(`${name} .*inet6 fd98:7::1/64 scope global`))
    expect(stdout).not.toContain('169.254.98.7')
    expect(stdout).toMatch(new RegExp(`${name}@\\S+: <[^>]*\\bUP\\b`))
    expect(ip('-o', 'link')).not.toContain(`${name}@`)
  })

  it('get the name that the config gives them, or a number from the kernel', async () => {
    const [first] = pair()
    const [second] = pair()
    const [third] = pair()
    const netDevices = { [first]: { name: 'inside' }, [second]: { name: 'eth%d' }, [third]: { name: 'eth%d' } }
    const stdout = await sandbox.sh('ls /sys/class/net', { linux: linuxOf(netDevices) })
    expect(stdout.trim().split(/\s+/).sort()).toEqual(['eth0', 'eth1', 'inside', 'lo'])
  })

  it('that are not there are named, and none has moved', async () => {
    const [name] = pair()
    const linux = linuxOf({ [name]: {}, nosuchdevice: {} })
    await expect(sandbox.create(specOf(['true'], { linux }))).rejects.toMatchObject({
      code: 'ERR_OCI_NOT_FOUND',
      subject: 'nosuchdevice',
    })
    expect(ip('-o', 'link')).toContain(`${name}@`)
  })

  it('can not have a name that is taken', async () => {
    const [name] = pair()
    const made = sandbox.create(specOf(['true'], { linux: linuxOf({ [name]: { name: 'lo' } }) }))
    await expect(made).rejects.toMatchObject({
      code: 'ERR_OCI_CONFLICT',
      message: expect.stringContaining(`/linux/netDevices/${name}`),
    })
    expect(ip('-o', 'link')).toContain(`${name}@`)
  })

  it('go back to the host, as they were, when the container can not be made', async () => {
    const [name, other] = pair()
    ip('address', 'add', '10.98.8.1/24', 'dev', name)
    ip('link', 'set', name, 'up')
    const linux = linuxOf({ [name]: { name: 'inside' }, [other]: {} })
    const failed = sandbox.create(specOf(['/no/such/program'], { linux }))
    await expect(failed).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'find the program' })
    expect(ip('-o', 'address')).toMatch(new RegExp(`${name} .*inet 10\\.98\\.8\\.1/24`))
    expect(ip('-o', 'link', 'show', name)).toMatch(/<[^>]*\bUP\b/)
    expect(ip('-o', 'link', 'show', other)).not.toMatch(/<[^>]*\bUP\b/)
    const taken = sandbox.create(specOf(['true'], { linux: linuxOf({ [other]: {}, [name]: { name: 'lo' } }) }))
    await expect(taken).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
    expect(ip('-o', 'link')).toContain(`${other}@`)
  })

  it('need a network namespace', async () => {
    const [name] = pair()
    const linux = { ...linuxOf({ [name]: {} }), namespaces: [{ type: 'mount' as const }] }
    await expect(sandbox.create(specOf(['true'], { linux }))).rejects.toMatchObject({
      code: 'ERR_OCI_INVALID_ARGUMENT',
    })
  })
})
