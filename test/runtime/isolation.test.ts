import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LinuxNamespaceType } from '../../src/bundle/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

const files: Readonly<Record<string, LinuxNamespaceType>> = {
  pid: 'pid',
  net: 'network',
  ipc: 'ipc',
  uts: 'uts',
  mnt: 'mount',
  cgroup: 'cgroup',
}

describe.skipIf(cannotRun)(`isolation (${cannotRun ?? 'real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('gives every namespace of its own that is asked for', async () => {
    const stdout = await sandbox.sh(`for ns in ${Object.keys(files).join(' ')}; do readlink /proc/self/ns/$ns; done`)
    const own = Object.keys(files).map((ns) => readlinkSync(`/proc/self/ns/${ns}`))
    const inside = stdout.trim().split('\n')
    expect(inside).toHaveLength(own.length)
    inside.forEach((ns, index) => {
      expect(ns).not.toBe(own[index])
    })
  })

  it.each(Object.entries(files).filter(([, type]) => type !== 'mount'))(
    'shares the namespace %s when it is not asked for',
    async (file, type) => {
      const namespaces = Object.values(files)
        .filter((each) => each !== type)
        .map((each) => ({ type: each }))
      const mounts = [{ destination: '/proc', type: 'proc', source: 'proc' }]
      const stdout = await sandbox.sh(`readlink /proc/self/ns/${file}`, { mounts, linux: { namespaces } })
      expect(stdout.trim()).toBe(readlinkSync(`/proc/self/ns/${file}`))
    },
  )

  it('joins namespaces by path', async () => {
    const first = await sandbox.create(specOf(['sleep', '1000'], { hostname: 'first' }))
    try {
      await first.start()
      const namespaces = Object.entries(files).map(([file, type]) =>
        type === 'mount' || type === 'cgroup' ? { type } : { type, path: `/proc/${first.pid}/ns/${file}` },
      )
      const stdout = await sandbox.sh('hostname; readlink /proc/self/ns/net; ps', { linux: { namespaces } })
      const [name, network, ...processes] = stdout.trim().split('\n')
      expect(name).toBe('first')
      expect(network).toBe(readlinkSync(`/proc/${first.pid}/ns/net`))
      expect(processes.join('\n')).toContain('sleep 1000')
    } finally {
      await first.delete({ force: true })
    }
  })

  it('names the namespace that can not be joined', async () => {
    const namespaces = [{ type: 'mount' as const }, { type: 'network' as const, path: '/proc/self/ns/uts' }]
    const made = sandbox.create(specOf(['true'], { linux: { namespaces } }))
    await expect(made).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'join the network namespace',
      pointer: '/linux/namespaces/1/path',
    })
  })

  it('sets host name and domain name inside only', async () => {
    const before = hostname()
    const stdout = await sandbox.sh('hostname; cat /proc/sys/kernel/domainname', {
      hostname: 'box',
      domainname: 'example.org',
    })
    expect(stdout).toBe('box\nexample.org\n')
    expect(hostname()).toBe(before)
  })

  it('runs its program as pid 1, and shows no process of the host', async () => {
    const stdout = await sandbox.sh('echo $$; ls /proc | grep "^[0-9]*$" | head -3')
    expect(stdout.split('\n')[0]).toBe('1')
    expect(stdout.trim().split('\n').length).toBeLessThanOrEqual(4)
  })

  it('has loopback up and no other interface', async () => {
    const stdout = await sandbox.sh(
      'ls /sys/class/net; cat /sys/class/net/lo/flags; ping -c1 -W5 127.0.0.1 >/dev/null && echo answers',
      {
        process: { capabilities: sets(['CAP_NET_RAW']) },
      },
    )
    const lines = stdout.trim().split('\n')
    expect(lines.filter((line) => /^(?:lo|eth)/.test(line))).toEqual(['lo'])
    expect(lines.at(-1)).toBe('answers')
  })

  it('sets kernel parameters of its namespaces only', async () => {
    const path = '/proc/sys/net/ipv4/ip_unprivileged_port_start'
    const before = readFileSync(path, 'utf8')
    const sysctl = { 'net.ipv4.ip_unprivileged_port_start': '77', 'kernel.shmmni': '123' }
    const stdout = await sandbox.sh(`cat ${path} /proc/sys/kernel/shmmni`, { linux: { sysctl, namespaces: all() } })
    expect(stdout).toBe('77\n123\n')
    expect(readFileSync(path, 'utf8')).toBe(before)
  })

  it('names the kernel parameter that can not be set', async () => {
    const sysctl = { 'net.ipv4.no_such_parameter': '1' }
    const made = sandbox.create(specOf(['true'], { linux: { sysctl, namespaces: all() } }))
    await expect(made).rejects.toMatchObject({ pointer: '/linux/sysctl/net.ipv4.no_such_parameter' })
    const climbing = sandbox.create(specOf(['true'], { linux: { sysctl: { '../../etc/x': '1' }, namespaces: all() } }))
    await expect(climbing).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
  })

  it('has a session of its own, and no descriptor but the standard ones', async () => {
    const stdout = await sandbox.sh('ls /proc/1/fd; cut -d" " -f6 /proc/1/stat')
    expect(stdout.trim().split('\n').slice(0, 3)).toEqual(['0', '1', '2'])
    // A shell may open further ones for itself; here none was, so the session follows at once.
    expect(stdout.trim().split('\n')[3]).toBe('1')
  })
})

function all() {
  return Object.values(files).map((type) => ({ type }))
}

function sets(names: readonly string[]) {
  return { bounding: names, permitted: names, effective: names }
}
