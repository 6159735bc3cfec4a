import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  containerSpec,
  createPool,
  deleteContainer,
  type PoolOptions,
  type PoolProcess,
  type PoolRunOptions,
  state,
  update,
} from '../../src/runtime/index.ts'
import { readRecord } from '../../src/runtime/state-directory.ts'
import { cannotRun, cgroupsOf, Sandbox, type SpecChanges, specOf, until } from './support.ts'

describe.skipIf(cannotRun)(`a warm pool (${cannotRun ?? 'of real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const pool = (size: number, changes: SpecChanges = {}, options: Partial<PoolOptions> = {}) => {
    const { bundle, stateRoot } = sandbox
    const resources = { memory: { limit: 64 << 20 }, pids: { limit: 20 } }
    const spec = specOf(['true'], { ...changes, linux: { ...specOf([]).linux, resources, ...changes.linux } })
    return createPool({ size, spec, bundle, stateRoot, id: sandbox.id(), ...options })
  }
  type AnyPool = ReturnType<typeof pool>

  /** Runs a process to its end. */
  const outcome = async (from: AnyPool, process: PoolProcess, options: PoolRunOptions = {}) => {
    const file = join(sandbox.directory, 'output')
    const fd = openSync(file, 'w')
    try {
      await using container = await from.run(process, { stdio: [undefined, fd, fd], ...options })
      return { status: await container.exited, text: readFileSync(file, 'utf8') }
    } finally {
      closeSync(fd)
    }
  }
  const sh = (script: string): PoolProcess => ({ args: ['sh', '-c', script] })

  it('runs a program in a container that was ready, and makes another one in its place', async () => {
    await using two = pool(2)
    await two.full()
    expect(two.ready).toBe(2)
    const { status, text } = await outcome(two, sh('echo $$; ls /proc | grep -c "^[0-9]"'))
    expect(status).toEqual({ code: 0, signal: undefined, oomKilled: false })
    expect(text).toMatch(/^1\n\d\n$/)
    await until('the pool is full again', () => two.ready === 2)
  })

  it('lets each run choose command, environment, directory, user, limits and hostname', async () => {
    await using one = pool(1)
    const run: PoolProcess = {
      args: ['sh', '-c', 'echo $A; pwd; id -u; id -g; ulimit -n; hostname; umask'],
      env: ['PATH=/bin', 'A=b'],
      cwd: '/made/for/it',
      user: { uid: 1000, gid: 1001, umask: 0o077 },
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 99, hard: 99 }],
    }
    const { text } = await outcome(one, run, { hostname: 'chosen' })
    expect(text).toBe('b\n/made/for/it\n1000\n1001\n99\nchosen\n0077\n')
    // The next one knows nothing of it.
    expect((await outcome(one, sh('echo $A; pwd; id -u'))).text).toBe('\n/\n0\n')
  })

  it('gives the program its standard streams and no other descriptor', async () => {
    await using one = pool(1)
    const input = join(sandbox.directory, 'input')
    writeFileSync(input, 'what is read\n')
    const fd = openSync(input, 'r')
    const file = openSync(join(sandbox.directory, 'output'), 'w')
    try {
      await using container = await one.run(sh('cat; ls /proc/self/fd; echo lost >&2'), {
        stdio: [fd, file, undefined],
      })
      await container.exited
      // 3 is the directory that ls reads.
      expect(readFileSync(join(sandbox.directory, 'output'), 'utf8')).toBe('what is read\n0\n1\n2\n3\n')
    } finally {
      closeSync(fd)
      closeSync(file)
    }
  })

  it("can't be made to enter a directory of the host by a descriptor that it is given", async () => {
    await using one = pool(1)
    const directory = openSync(sandbox.directory, 'r')
    try {
      const run = one.run({ args: ['true'], cwd: '/proc/self/fd/0' }, { stdio: [directory, undefined, undefined] })
      await expect(run).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'enter the working directory' })
    } finally {
      closeSync(directory)
    }
  })

  it('applies the limits, capabilities and the seccomp filter of the config to each run', async () => {
    const seccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
    } as const
    const capabilities = { bounding: ['CAP_CHOWN'], permitted: ['CAP_CHOWN'], effective: ['CAP_CHOWN'] }
    await using one = pool(1, { process: { capabilities, noNewPrivileges: true }, linux: { seccomp } })
    const { text } = await outcome(
      one,
      sh('mkdir /tmp/x 2>/dev/null || echo refused; grep -E "CapEff|NoNew|Seccomp:" /proc/1/status'),
    )
    expect(text).toBe('refused\nCapEff:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t2\n')
  })

  it('tells other processes of what runs, with its own config for exec', async () => {
    await using one = pool(1)
    await using container = await one.run({ args: ['sleep', '1000'], env: ['PATH=/bin', 'A=b'] })
    const { stateRoot } = sandbox
    expect(await state(container.id, { stateRoot })).toMatchObject({ status: 'running', pid: container.pid })
    const config = await containerSpec(container.id, { stateRoot })
    expect(config.process?.args).toEqual(['sleep', '1000'])
    const process = await container.exec({ args: ['sh', '-c', 'test "$A" = b'] })
    expect(await process.exited).toMatchObject({ code: 0 })
  })

  it('says why a program can not be run, and the next run is not touched by it', async () => {
    await using one = pool(1)
    await expect(one.run({ args: ['no-such-program'] })).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      message: expect.stringContaining('executable file not found in $PATH'),
    })
    writeFileSync(join(sandbox.rootfs, 'etc/script'), '#!/no/interpreter\n', { mode: 0o755 })
    await expect(one.run({ args: ['/etc/script'] })).rejects.toMatchObject({ step: 'execute /etc/script' })
    expect((await outcome(one, sh('echo ok'))).text).toBe('ok\n')
  })

  it('refuses what is the same for all, and what only one container can have', async () => {
    await using one = pool(1)
    const refused = { code: 'ERR_OCI_INVALID_ARGUMENT' }
    await expect(one.run({ terminal: true } as PoolProcess)).rejects.toMatchObject({ ...refused, subject: 'terminal' })
    await expect(one.run({ cwd: 'relative' })).rejects.toMatchObject(refused)
    for (const make of [
      () => pool(0),
      () => pool(1, { process: { terminal: true } }),
      () => pool(1, { linux: { cgroupsPath: '/shared' } }),
      () => pool(1, {}, { overlay: { lower: ['/a'], upper: '/b', work: '/c' } }),
    ]) {
      expect(make).toThrow(expect.objectContaining(refused))
    }
  })

  it('serves more runs at once than it has containers', async () => {
    await using two = pool(2)
    const runs = await Promise.all(Array.from({ length: 10 }, (_, n) => two.run(sh(`exit ${n}`))))
    expect(await Promise.all(runs.map(async ({ exited }) => (await exited).code))).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ])
    await Promise.all(runs.map((container) => container.delete()))
  })

  it('replaces containers that are killed while they wait', async () => {
    await using three = pool(3)
    await three.full()
    const { stateRoot } = sandbox
    const states = await Promise.all(readdirSync(stateRoot).map((id) => state(id, { stateRoot })))
    for (const { pid } of states) if (pid !== undefined) process.kill(pid, 'SIGKILL')
    await until('they are missed', () => three.ready < 3)
    await until('there are three again', () => three.ready === 3)
    expect((await outcome(three, sh('echo ok'))).text).toBe('ok\n')
  })

  it('rejects with what making a container throws', async () => {
    await using broken = pool(1, {}, { overlay: { lower: [join(sandbox.directory, 'no-layer')] } })
    await expect(broken.full()).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME' })
    await expect(broken.run()).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME' })
  })

  it('shows each container the same layers, read-only', async () => {
    const layer = join(sandbox.directory, 'layer')
    mkdirSync(layer, { recursive: true })
    for (const name of ['dev', 'proc', 'sys']) mkdirSync(join(layer, name), { recursive: true })
    await using two = pool(2, {}, { overlay: { lower: [layer, sandbox.rootfs] } })
    const results = await Promise.all([1, 2].map(() => two.run(sh('touch /x 2>/dev/null; test ! -e /x'))))
    expect(await Promise.all(results.map(async ({ exited }) => (await exited).code))).toEqual([0, 0])
    await Promise.all(results.map((container) => container.delete()))
  })

  it('is closed with all that waits; runs then are refused', async () => {
    const three = pool(3)
    const running = await three.run({ args: ['sleep', '1000'] })
    await three.full()
    const asked = Promise.allSettled(Array.from({ length: 8 }, () => three.run()))
    await three.close()
    await expect(three.run()).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
    const results = await asked
    // Three were ready; those that were not taken from them, or not made in time, are refused.
    for (const result of results) {
      if (result.status === 'fulfilled') await result.value.delete({ force: true })
      else expect(result.reason).toMatchObject({ code: 'ERR_OCI_CONFLICT' })
    }
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(3)
    // What runs is its user's.
    expect(running.state.status).toBe('running')
    await running.delete({ force: true })
  })

  it('is interrupted by a signal', async () => {
    await using one = pool(1)
    await expect(one.run({}, { signal: AbortSignal.abort(new Error('why')) })).rejects.toThrow('why')
    expect((await outcome(one, sh('echo ok'))).text).toBe('ok\n')
  })

  /** What a process is run with that fills a pool of three. */
  const holder = () => {
    const { bundle, stateRoot } = sandbox
    const id = sandbox.id()
    const file = join(sandbox.directory, `${id}.json`)
    writeFileSync(file, JSON.stringify({ id, size: 3, spec: specOf(['true']), bundle, stateRoot }))
    const script = fileURLToPath(new URL('pool-child.ts', import.meta.url))
    return { id, args: ['--import', 'tsx', script, file] }
  }
  const limits = { memory: { limit: 48 << 20 }, cpu: { shares: 512 } }

  it('keeps in mind what another process has added to a container that waits', async () => {
    await using one = pool(1)
    await one.full()
    const { stateRoot } = sandbox
    const [id = ''] = readdirSync(stateRoot)
    const before = cgroupsOf(id)
    await update(id, limits, { stateRoot })
    const added = cgroupsOf(id).filter((each) => !before.includes(each))
    const container = await one.run({ args: ['sleep', '1000'] })
    expect(container.id).toBe(id)
    expect((await containerSpec(id, { stateRoot })).process?.args).toEqual(['sleep', '1000'])
    expect((await readRecord(stateRoot, id)).cgroups).toEqual(expect.arrayContaining([...added]))
    // Another one may be of the same kind, and at the same time.
    await Promise.all([update(id, limits, { stateRoot }), container.update(limits)])
    await container.delete({ force: true })
    expect(cgroupsOf(id)).toEqual([])
  })

  it('leaves what was added to a container to whoever comes next, when its process is killed', async () => {
    const { stateRoot } = sandbox
    const { id: pooled, args } = holder()
    const child = spawn(process.execPath, [...args, 'hold'], { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await new Promise((resolve) => child.stdout.once('data', resolve))
    const id = `${pooled}-1`
    await update(id, limits, { stateRoot })
    child.kill('SIGKILL')
    await ended
    await until('the state is gone', () => !existsSync(join(stateRoot, id, 'state.json')))
    await expect(deleteContainer(id, { stateRoot })).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
    await until('the others are gone', () => readdirSync(stateRoot).length === 0)
    expect(cgroupsOf(id)).toEqual([])
  })

  it.each(['SIGKILL', 'end'] as const)('dies with its process: %s', async (how) => {
    const { stateRoot } = sandbox
    const { id, args: held } = holder()
    const args = [...held, ...(how === 'end' ? [] : ['hold'])]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await new Promise((resolve) => child.stdout.once('data', resolve))
    if (how === 'SIGKILL') {
      expect(cgroupsOf(id).length).toBeGreaterThan(0)
      child.kill('SIGKILL')
    }
    // A process that has nothing else to do ends, though the pool is not closed.
    await ended
    await until('the cgroups are gone', () => cgroupsOf(id).length === 0)
    await until('the state is gone', () => readdirSync(stateRoot).length === 0)
  })
})
