import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { cannotRun, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`the program's process (${cannotRun ?? 'real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const status = async (changes: Parameters<Sandbox['sh']>[1]): Promise<ReadonlyMap<string, string>> => {
    const stdout = await sandbox.sh('cat /proc/self/status', changes)
    return new Map(stdout.split('\n').map((line) => [line.split(':')[0] ?? '', (line.split(':')[1] ?? '').trim()]))
  }

  it('has exactly the capabilities of its sets', async () => {
    const found = await status({
      process: {
        capabilities: {
          bounding: ['CAP_CHOWN', 'CAP_KILL', 'CAP_NET_RAW'],
          permitted: ['CAP_CHOWN', 'CAP_KILL'],
          effective: ['CAP_CHOWN'],
          inheritable: ['CAP_KILL'],
          ambient: ['CAP_KILL'],
        },
      },
    })
    const sets = ['CapBnd', 'CapInh', 'CapAmb'].map((name) => Number.parseInt(found.get(name) ?? '', 16))
    expect(sets).toEqual([(1 << 0) | (1 << 5) | (1 << 13), 1 << 5, 1 << 5])
    // A root user's execve adds the bounding set to the permitted and effective one (capabilities(7)).
    expect(Number.parseInt(found.get('CapEff') ?? '', 16)).toBe((1 << 0) | (1 << 5) | (1 << 13))
  })

  it('has only the ambient capabilities as another user', async () => {
    const found = await status({
      process: {
        user: { uid: 1000, gid: 1000 },
        capabilities: {
          bounding: ['CAP_CHOWN', 'CAP_NET_RAW'],
          permitted: ['CAP_CHOWN', 'CAP_NET_RAW'],
          effective: ['CAP_CHOWN', 'CAP_NET_RAW'],
          inheritable: ['CAP_NET_RAW'],
          ambient: ['CAP_NET_RAW'],
        },
      },
    })
    const sets = ['CapBnd', 'CapPrm', 'CapEff', 'CapAmb'].map((name) => Number.parseInt(found.get(name) ?? '', 16))
    expect(sets).toEqual([(1 << 0) | (1 << 13), 1 << 13, 1 << 13, 1 << 13])
  })

  it('has none of the capabilities when the sets are empty', async () => {
    const found = await status({ process: { capabilities: {} } })
    for (const name of ['CapBnd', 'CapPrm', 'CapEff', 'CapInh', 'CapAmb']) expect(found.get(name)).toMatch(/^0+$/)
  })

  it('is warned of capabilities that can not be granted', async () => {
    const names = ['CAP_CHOWN', 'CAP_NO_SUCH_THING']
    const container = await sandbox.create(specOf(['true'], { process: { capabilities: { bounding: names } } }))
    expect(container.warnings).toEqual([expect.stringContaining('CAP_NO_SUCH_THING')])
    await container.delete()
  })

  it.each([true, false])('gets no new privileges: %s', async (noNewPrivileges) => {
    const found = await status({ process: { noNewPrivileges } })
    expect(found.get('NoNewPrivs')).toBe(noNewPrivileges ? '1' : '0')
  })

  it('has the resource limits', async () => {
    const rlimits = [
      { type: 'RLIMIT_NOFILE', soft: 100, hard: 200 },
      { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
    ]
    const stdout = await sandbox.sh('cat /proc/self/limits', { process: { rlimits } })
    expect(stdout).toMatch(/^Max open files +100 +200 /m)
    expect(stdout).toMatch(/^Max core file size +0 +0 /m)
  })

  it('names the resource limit that can not be set', async () => {
    const rlimits = [{ type: 'RLIMIT_NOFILE', soft: 300, hard: 200 }]
    const container = await sandbox.create(specOf(['true'], { process: { rlimits } }))
    const error = { code: 'ERR_OCI_RUNTIME', step: 'set RLIMIT_NOFILE', pointer: '/process/rlimits/0' }
    await expect(container.start()).rejects.toMatchObject(error)
    await container.delete()
    const unknown = sandbox.create(specOf(['true'], { process: { rlimits: [{ type: 'RLIMIT_X', soft: 1, hard: 1 }] } }))
    await expect(unknown).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
  })

  it('has the out-of-memory score', async () => {
    expect(await sandbox.sh('cat /proc/self/oom_score_adj', { process: { oomScoreAdj: 321 } })).toBe('321\n')
    const own = readFileSync('/proc/self/oom_score_adj', 'utf8')
    expect(await sandbox.sh('cat /proc/self/oom_score_adj')).toBe(own)
  })

  it('has user, group, additional groups and umask', async () => {
    const user = { uid: 1000, gid: 1001, additionalGids: [5, 3_000_000_000], umask: 0o077 }
    const script = 'grep -E "^(Uid|Gid|Groups)" /proc/self/status; umask'
    const stdout = await sandbox.sh(script, { process: { user } })
    expect(stdout.replace(/\s+/g, ' ').trim()).toBe(
      'Uid: 1000 1000 1000 1000 Gid: 1001 1001 1001 1001 Groups: 5 3000000000 0077',
    )
  })

  it('has no groups of whoever made the container', async () => {
    expect((await sandbox.sh('grep ^Groups /proc/self/status; umask')).replace(/\s+/g, ' ')).toBe('Groups: 0022 ')
  })

  it('has the environment and nothing else', async () => {
    const env = ['PATH=/bin', 'EMPTY=', 'SPACES=a b', 'NOT ASCII=ä€']
    const { stdout } = await sandbox.run(specOf(['env'], { process: { env } }))
    expect(stdout).toBe(`${env.join('\n')}\n`)
  })

  it('has its arguments as they are', async () => {
    const args = ['printf', '[%s]', '', 'a b', '$HOME', '"', 'ä', 'x'.repeat(100_000)]
    const { stdout } = await sandbox.run(specOf(args))
    expect(stdout).toBe(
      args
        .slice(2)
        .map((arg) => `[${arg}]`)
        .join(''),
    )
  })

  it('starts in its working directory, which is made when it is missing', async () => {
    expect(await sandbox.sh('pwd', { process: { cwd: '/tmp' } })).toBe('/tmp\n')
    expect(await sandbox.sh('pwd', { process: { cwd: '/made/on/the/way' } })).toBe('/made/on/the/way\n')
  })

  it('is found in the PATH of its environment, the first that can be executed', async () => {
    mkdirSync(join(sandbox.rootfs, 'first'))
    mkdirSync(join(sandbox.rootfs, 'second'))
    writeFileSync(join(sandbox.rootfs, 'first/tool'), '#!/bin/sh\necho wrong\n', { mode: 0o644 })
    writeFileSync(join(sandbox.rootfs, 'second/tool'), '#!/bin/sh\necho right\n', { mode: 0o755 })
    const { stdout } = await sandbox.run(specOf(['tool'], { process: { env: ['PATH=/none:/first:/second:/bin'] } }))
    expect(stdout).toBe('right\n')
  })

  it('can be given by a path relative to the working directory', async () => {
    const { stdout } = await sandbox.run(specOf(['./echo', 'x'], { process: { cwd: '/bin' } }))
    expect(stdout).toBe('x\n')
  })

  it('has no signal blocked or ignored', async () => {
    const { stdout } = await sandbox.run(specOf(['cat', '/proc/self/status']))
    const found = new Map(stdout.split('\n').map((line) => line.split(/:\s+/) as [string, string]))
    expect([found.get('SigBlk'), found.get('SigIgn')]).toEqual(['0000000000000000', '0000000000000000'])
  })
})
