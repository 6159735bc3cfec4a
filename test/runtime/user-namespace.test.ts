import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { IdMapping, Mount, Spec } from '../../src/bundle/index.ts'
import type { ExitStatus } from '../../src/errors.ts'
import { createPool, type OverlayRootfs } from '../../src/runtime/index.ts'
import { allNamespaces, cannotRun, dockerMounts, Sandbox, specOf } from './support.ts'

const namespaces = [...allNamespaces, 'user' as const].map((type) => ({ type }))

describe.skipIf(cannotRun)(`a user namespace made by root (${cannotRun ?? 'really'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    for (const path of [sandbox.directory, sandbox.bundle]) chmodSync(path, 0o755)
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const mapped = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
  const linux = { namespaces, uidMappings: mapped, gidMappings: mapped }

  it('maps the ids that it is given, and limits work in it', async () => {
    const resources = { memory: { limit: 64 << 20 }, pids: { limit: 20 } }
    const spec = specOf(['sleep', '1000'], {
      process: { user: { uid: 5, gid: 6, additionalGids: [7] } },
      linux: { ...linux, resources },
    })
    const container = await sandbox.create(spec)
    await container.start()
    const status = readFileSync(`/proc/${container.pid}/status`, 'utf8')
    expect(status).toMatch(/^Uid:\s+100005\s+100005/m)
    expect(status).toMatch(/^Gid:\s+100006\s+100006/m)
    expect(status).toMatch(/^Groups:\s+100007 *$/m)
    expect(readFileSync(`/proc/${container.pid}/cgroup`, 'utf8')).toContain(container.id)
    await container.delete({ force: true })
  })

  it('has the devices of the host, and no right to what belongs to the host', async () => {
    const script = `id -u; echo x >/dev/null; head -c3 /dev/zero | wc -c; stat -c %u /etc; touch /x 2>/dev/null || echo refused`
    const masks = { maskedPaths: ['/proc/keys', '/sys/firmware'], readonlyPaths: ['/proc/sys'] }
    expect(await sandbox.sh(script, { linux: { ...linux, ...masks } })).toBe('0\n3\n65534\nrefused\n')
  })

  it('is there for the containers of a pool, too', async () => {
    const { bundle, stateRoot } = sandbox
    await using pool = createPool({ size: 1, spec: specOf(['true'], { linux }), bundle, stateRoot, id: sandbox.id() })
    const container = await pool.run({ args: ['sleep', '1000'], user: { uid: 5, gid: 6 } })
    expect(readFileSync(`/proc/${container.pid}/status`, 'utf8')).toMatch(/^Uid:\s+100005\s+100005/m)
    await container.delete({ force: true })
  })

  it('is refused with an explanation when the kernel does not take its maps', async () => {
    const overlapping = [...mapped, { containerID: 5, hostID: 5, size: 10 }]
    const made = sandbox.create(specOf(['true'], { linux: { ...linux, uidMappings: overlapping } }))
    await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', subject: 'the user namespace' })
  })
})

const name = `ocits${process.pid}`
const script = fileURLToPath(new URL('./outcome.ts', import.meta.url))
const missing = ['useradd', 'userdel', 'setpriv', 'newuidmap', 'newgidmap'].filter(
  (tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0,
)
const cannotBeUser =
  cannotRun ?? (missing.length === 0 ? undefined : `needs ${missing.join(', ')}: packages passwd, util-linux, uidmap`)

describe.skipIf(cannotBeUser)(`an ordinary user (${cannotBeUser ?? 'a temporary one'})`, () => {
  let sandbox: Sandbox
  let id: number
  let home: string
  let ranges: readonly IdMapping[]
  beforeAll(() => {
    sandbox = new Sandbox()
    execFileSync('useradd', ['--no-create-home', '--shell', '/bin/sh', name])
    id = Number(execFileSync('id', ['-u', name], { encoding: 'utf8' }))
    const [, start, size] =
      /^\S+:(\d+):(\d+)$/.exec(
        readFileSync('/etc/subuid', 'utf8')
          .split('\n')
          .find((line) => line.startsWith(`${name}:`)) ?? '',
      ) ?? []
    ranges = [
      { containerID: 0, hostID: id, size: 1 },
      { containerID: 1, hostID: Number(start), size: Number(size) },
    ]
    home = join(sandbox.directory, 'home')
    mkdirSync(home)
    execFileSync('chown', ['-R', `${id}:${id}`, sandbox.directory])
  })
  afterAll(() => {
    spawnSync('userdel', [name])
    sandbox.remove()
  })

  interface Outcome {
    readonly status?: ExitStatus
    readonly output?: string
    readonly error?: { readonly code: string; readonly hint: string }
    readonly message?: string
  }

  const run = (spec: Spec, overlay?: OverlayRootfs, how = ''): Outcome => {
    const options = JSON.stringify({ id: sandbox.id(), spec, bundle: sandbox.bundle, overlay })
    const args = [
      `--reuid=${id}`,
      `--regid=${id}`,
      '--clear-groups',
      '--inh-caps=-all',
      process.execPath,
      '--import',
      'tsx',
      script,
      options,
      home,
      how,
    ]
    const env = { PATH: process.env.PATH ?? '', HOME: home, XDG_RUNTIME_DIR: home, TMPDIR: home }
    const outcome = JSON.parse(execFileSync('setpriv', args, { encoding: 'utf8', env })) as Outcome
    // Its state is below XDG_RUNTIME_DIR, and gone with the container.
    expect(readdirSync(join(home, 'oci-ts'))).toEqual([])
    return outcome
  }
  const spec = (script: string, mappings: readonly IdMapping[], resources = {}): Spec => {
    // A group that is not mapped can own nothing.
    const mounts = dockerMounts.map(
      (mount): Mount => ({
        ...mount,
        ...(mount.options === undefined ? {} : { options: mount.options.filter((option) => option !== 'gid=5') }),
      }),
    )
    const protect = { maskedPaths: ['/proc/keys', '/sys/firmware'], readonlyPaths: ['/proc/sys'] }
    const linux = { namespaces, uidMappings: mappings, gidMappings: mappings, resources, ...protect }
    return specOf(['sh', '-c', script], { mounts, hostname: 'box', linux })
  }
  const own = (): readonly IdMapping[] => [{ containerID: 0, hostID: id, size: 1 }]

  it('is root of a container with one id, without any helper', () => {
    const { status, output } = run(
      spec('id -u; id -g; hostname; echo $$; cat /proc/self/setgroups; echo x >/dev/null; echo new >/tmp/new', own()),
    )
    expect(output).toBe('0\n0\nbox\n1\ndeny\n')
    expect(status).toEqual({ code: 0, oomKilled: false })
    expect(statSync(join(sandbox.rootfs, 'tmp/new')).uid).toBe(id)
  })

  it('has the ranges of /etc/subuid and /etc/subgid by newuidmap and newgidmap', () => {
    const { status, output } = run(
      spec(
        'touch /tmp/owned; chown 1000:1000 /tmp/owned; stat -c %u:%g /tmp/owned; grep Groups /proc/self/status',
        ranges,
      ),
    )
    expect([status, output]).toEqual([{ code: 0, oomKilled: false }, '1000:1000\nGroups:\t \n'])
    expect(statSync(join(sandbox.rootfs, 'tmp/owned')).uid).toBe((ranges[1]?.hostID ?? 0) + 999)
  })

  it.each(['one id', 'ranges'])('has an overlay as root, with %s', (kind) => {
    const [upper, work] = ['upper', 'work'].map((part) => join(sandbox.directory, `${kind}-${part}`)) as [
      string,
      string,
    ]
    for (const path of [upper, work]) {
      mkdirSync(path)
      chownSync(path, id, id)
    }
    const { status, output } = run(
      spec('rm /etc/group; echo new >/etc/new; ls /etc', kind === 'ranges' ? ranges : own()),
      {
        lower: [sandbox.rootfs],
        upper,
        work,
      },
    )
    expect([status, output]).toEqual([{ code: 0, oomKilled: false }, 'new\npasswd\n'])
    expect(readdirSync(join(sandbox.rootfs, 'etc'))).toEqual(['group', 'passwd'])
    expect(readdirSync(join(upper, 'etc')).sort()).toEqual(['group', 'new'])
  })

  it.each(['one id', 'ranges'])('runs programs in containers of a pool, with %s', (kind) => {
    const script = 'id -u; hostname; echo $$; echo x >/dev/null'
    const { status, output } = run(spec(script, kind === 'ranges' ? ranges : own()), undefined, 'pool')
    expect([status, output]).toEqual([{ code: 0, oomKilled: false }, '0\nbox\n1\n'])
  })

  it('is told that limits need a delegated cgroup', () => {
    const { error } = run(spec('true', own(), { memory: { limit: 64 << 20 } }))
    expect(error).toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', hint: expect.stringContaining('delegated') })
  })

  it('is told what is missing for ranges that are not its own', () => {
    const { error } = run(spec('true', [{ containerID: 0, hostID: 0, size: 10 }]))
    expect(error).toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', hint: expect.stringContaining('/etc/subuid') })
  })

  it('ends a container that can not be made, too', () => {
    const { error, message } = run({ ...spec('true', own()), root: { path: '/no/such/root' } })
    expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME' })
    expect(message).toContain('/no/such/root')
  })
})
