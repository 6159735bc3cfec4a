import { execFileSync } from 'node:child_process'
import {
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Spec } from '../../src/bundle/index.ts'
import { hostHierarchies } from '../../src/runtime/cgroups/hierarchies.ts'
import {
  createContainer,
  deleteContainer,
  type ExecOptions,
  type ExecProcess,
  exec,
  type ProcessStatus,
  type RuntimeContainer,
} from '../../src/runtime/index.ts'
import { cannotRun, cgroupsOf, Sandbox, type SpecChanges, specOf } from './support.ts'

describe.skipIf(cannotRun)(`exec (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  let count = 0
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  /** A container that runs until it is deleted. */
  async function running(changes: SpecChanges = {}, options: Parameters<Sandbox['create']>[1] = {}) {
    const container = await sandbox.create(specOf(['sleep', '1000'], changes), options)
    await container.start()
    return container
  }

  interface Said {
    readonly stdout: string
    readonly stderr: string
    readonly status: ProcessStatus
  }

  /** Runs a process to its end. */
  async function run(
    container: RuntimeContainer | string,
    process: ExecProcess,
    options: ExecOptions = {},
  ): Promise<Said> {
    const files = ['out', 'err'].map((name) => join(sandbox.directory, `exec-${++count}-${name}`))
    const [out, err] = files.map((path) => openSync(path, 'w')) as [number, number]
    try {
      const all = { stdio: [undefined, out, err], ...options } as const
      const ran =
        typeof container === 'string'
          ? await exec(container, process, { ...all, stateRoot: sandbox.stateRoot })
          : await container.exec(process, all)
      const status = await ran.exited
      const [stdout, stderr] = files.map((path) => readFileSync(path, 'utf8')) as [string, string]
      return { stdout, stderr, status }
    } finally {
      closeSync(out)
      closeSync(err)
      for (const path of files) rmSync(path)
    }
  }

  async function sh(
    container: RuntimeContainer | string,
    script: string,
    process: Partial<ExecProcess> = {},
    options: ExecOptions = {},
  ) {
    const { stdout, stderr, status } = await run(container, { args: ['sh', '-c', script], ...process }, options)
    expect({ stderr, code: status.code }).toEqual({ stderr: '', code: 0 })
    return stdout
  }

  it('goes to the cgroup of the first process when that of the container has handed controllers down', async (context) => {
    const v2 = hostHierarchies().v2?.mountPoint
    const container = await running()
    const own = v2 === undefined ? undefined : cgroupsOf(container.id).find((path) => path.startsWith(`${v2}/`))
    const [controller] =
      own === undefined ? [] : readFileSync(join(own, 'cgroup.controllers'), 'utf8').trim().split(' ')
    if (own === undefined || !controller) return context.skip('needs a cgroup of version 2 with a controller')
    mkdirSync(join(own, 'init'))
    writeFileSync(join(own, 'init/cgroup.procs'), String(container.pid))
    writeFileSync(join(own, 'cgroup.subtree_control'), `+${controller}`)
    expect(await sh(container, 'grep ^0: /proc/self/cgroup')).toBe('0::/init\n')
    expect(await sh(container, 'echo again')).toBe('again\n')
    const refused = run(container, { args: ['true'] }, { cgroup: '/' })
    await expect(refused).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', cause: { errnoName: 'EBUSY' } })
  })

  it('runs in all namespaces and the root of the container', async () => {
    const container = await running({ hostname: 'box' })
    const script = 'for ns in pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$ns; done; hostname; ls -di /'
    const own = await sh(container, script)
    const first = await sh(container, script.replaceAll('/self/', '/1/'))
    expect(own).toBe(first)
    expect(own).toContain('box')
    for (const name of ['mnt', 'net', 'ipc', 'uts', 'cgroup']) {
      expect(own).not.toContain(readlinkSync(`/proc/self/ns/${name}`))
    }
    await container.delete({ force: true })
  })

  it('tells exit code, signal and what was used', async () => {
    const container = await running()
    expect((await run(container, { args: ['sh', '-c', 'exit 7'] })).status).toMatchObject({
      code: 7,
      signal: undefined,
    })
    expect((await run(container, { args: ['sh', '-c', 'kill -TERM $$'] })).status).toMatchObject({
      code: 143,
      signal: 'SIGTERM',
    })
    const { usage } = (await run(container, { args: ['sh', '-c', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'] }))
      .status
    expect((usage?.userTime ?? 0) + (usage?.systemTime ?? 0)).toBeGreaterThan(1)
    expect(usage?.maxResident).toBeGreaterThan(100_000)
    await container.delete({ force: true })
  })

  it('takes what is not given from the process of the container', async () => {
    const container = await running({
      process: {
        cwd: '/tmp',
        env: ['PATH=/bin', 'A=b'],
        user: { uid: 1000, gid: 1000, additionalGids: [5, 6], umask: 0o077 },
        rlimits: [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }],
        noNewPrivileges: true,
        oomScoreAdj: 77,
      },
    })
    const script =
      'id -u; id -G; pwd; echo $A; umask; ulimit -n; grep NoNew /proc/self/status; cat /proc/self/oom_score_adj'
    expect(await sh(container, script)).toBe('1000\n1000 5 6\n/tmp\nb\n0077\n100\nNoNewPrivs:\t1\n77\n')
    await container.delete({ force: true })
  })

  it('has what it is given', async () => {
    const container = await running()
    const process = {
      cwd: '/etc',
      env: ['PATH=/bin', 'X=y'],
      user: { uid: 7, gid: 8, additionalGids: [9], umask: 0o027 },
      rlimits: [
        { type: 'RLIMIT_NOFILE', soft: 64, hard: 64 },
        { type: 'RLIMIT_NPROC', soft: 50, hard: 60 },
      ],
      noNewPrivileges: true,
      oomScoreAdj: 5,
    }
    const script =
      'id -u; id -G; pwd; echo $X; umask; ulimit -n; grep processes /proc/self/limits | tr -s " "; grep NoNew /proc/self/status; cat /proc/self/oom_score_adj'
    expect(await sh(container, script, process)).toBe(
      '7\n8 9\n/etc\ny\n0027\n64\nMax processes 50 60 processes \nNoNewPrivs:\t1\n5\n',
    )
    await container.delete({ force: true })
  })

  it('has exactly the capabilities of its sets, and inherits none (CVE-2022-29162)', async () => {
    const container = await running({
      process: { capabilities: { bounding: ['CAP_CHOWN'], effective: ['CAP_CHOWN'], permitted: ['CAP_CHOWN'] } },
    })
    const status = 'grep Cap /proc/self/status | tr -s "\\t" " "'
    const sets = (mask: string): string =>
      ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb']
        .map((name) => `Cap${name}: ${(name === 'Inh' || name === 'Amb' ? '0' : mask).padStart(16, '0')}\n`)
        .join('')
    expect(await sh(container, status)).toBe(sets('1'))
    const all = ['CAP_CHOWN', 'CAP_KILL']
    const capabilities = { bounding: all, effective: all, permitted: all }
    expect(await sh(container, status, { capabilities })).toBe(sets('21'))
    await container.delete({ force: true })
  })

  it('is under the seccomp filter of the container', async () => {
    const seccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
    } as const
    for (const noNewPrivileges of [true, false]) {
      const container = await running({ process: { noNewPrivileges }, linux: { ...specOf([]).linux, seccomp } })
      const script = 'mkdir /tmp/x; grep Seccomp: /proc/self/status'
      const { stdout, stderr } = await run(container, { args: ['sh', '-c', script] })
      expect([stdout, stderr]).toEqual(['Seccomp:\t2\n', expect.stringContaining('Operation not permitted')])
      await container.delete({ force: true })
    }
  })

  it('has no descriptor but its own, and those that are handed to it', async () => {
    const container = await running()
    const leak = openSync('/', 'r')
    try {
      expect(await sh(container, 'ls /proc/self/fd')).toBe('0\n1\n2\n3\n') // 3 is the directory itself
    } finally {
      closeSync(leak)
    }
    await container.delete({ force: true })
  })

  it('is told what is wrong with the program', async () => {
    writeFileSync(join(sandbox.rootfs, 'plain'), 'x', { mode: 0o644 })
    writeFileSync(join(sandbox.rootfs, 'script'), '#!/nowhere\n', { mode: 0o755 })
    writeFileSync(join(sandbox.rootfs, 'garbage'), 'garbage', { mode: 0o755 })
    const container = await running()
    const failed = (name: string) => container.exec({ args: [name] }).catch((error: unknown) => error)
    const pointer = '/process/args/0'
    expect(await failed('nonsense')).toMatchObject({
      message: expect.stringContaining('exec: "nonsense": executable file not found in $PATH'),
      pointer,
    })
    expect(await failed('/nonsense')).toMatchObject({
      message: expect.stringContaining('no such file or directory'),
      pointer,
    })
    expect(await failed('/plain')).toMatchObject({ message: expect.stringContaining('permission denied'), pointer })
    expect(await failed('/script')).toMatchObject({
      step: 'execute /script',
      hint: expect.stringContaining('interpreter'),
      pointer: '/process/args',
    })
    expect(await failed('/garbage')).toMatchObject({
      step: 'execute /garbage',
      hint: expect.stringContaining('platform'),
    })
    for (const name of ['plain', 'script', 'garbage']) rmSync(join(sandbox.rootfs, name))
    await container.delete({ force: true })
  })

  it('works by the id, in a detached container, too', async () => {
    const { bundle, stateRoot } = sandbox
    const spec = specOf(['sleep', '1000'], { hostname: 'by-id' })
    const container = await createContainer({ id: sandbox.id(), spec, bundle, stateRoot, detach: true })
    await container.start()
    await container.release()
    expect(await sh(container.id, 'hostname')).toBe('by-id\n')
    await deleteContainer(container.id, { force: true, stateRoot })
  })

  it('is refused in a container that has ended, or that is none', async () => {
    const container = await running()
    container.kill('SIGKILL')
    await container.exited
    const refused = { code: 'ERR_OCI_CONFLICT', message: expect.stringContaining('not running') }
    await expect(container.exec({ args: ['true'] })).rejects.toMatchObject(refused)
    await expect(exec(container.id, { args: ['true'] }, { stateRoot: sandbox.stateRoot })).rejects.toMatchObject(
      refused,
    )
    await container.delete()
    await expect(exec(container.id, { args: ['true'] }, { stateRoot: sandbox.stateRoot })).rejects.toMatchObject({
      code: 'ERR_OCI_NOT_FOUND',
    })
  })

  it('ends with the container', async () => {
    const container = await running()
    const ran = await container.exec({ args: ['sleep', '1000'] })
    await container.delete({ force: true })
    expect(await ran.exited).toMatchObject({ code: 137, signal: 'SIGKILL' })
  })

  it('writes the pid as the host sees it', async () => {
    const container = await running()
    const pidFile = join(sandbox.directory, 'pid')
    const ran = await container.exec({ args: ['sleep', '1000'] }, { pidFile })
    expect(readFileSync(pidFile, 'utf8')).toBe(String(ran.pid))
    expect(readFileSync(`/proc/${ran.pid}/cmdline`, 'latin1')).toBe('sleep\u00001000\u0000')
    ran.kill('KILL')
    await ran.exited
    expect(() => ran.kill()).toThrow(expect.objectContaining({ code: 'ERR_OCI_CONFLICT' }))
    rmSync(pidFile)
    await container.delete({ force: true })
  })

  it('runs on the processors that it is given', async () => {
    const container = await running()
    const allowed = 'grep Cpus_allowed_list /proc/self/status'
    expect(await sh(container, allowed, { execCPUAffinity: { initial: '0' } })).toMatch(/\t0$/m)
    expect(await sh(container, allowed, { execCPUAffinity: { initial: '0', final: '1' } })).toMatch(/\t1$/m)
    await expect(container.exec({ args: ['true'], execCPUAffinity: { final: '1-' } })).rejects.toMatchObject({
      code: 'ERR_OCI_INVALID_ARGUMENT',
      subject: '/process/execCPUAffinity/final',
    })
    await container.delete({ force: true })
  })

  it('is aborted without leaving anything', async () => {
    const container = await running()
    for (let wait = 0; wait < 5; wait++) {
      const abort = new AbortController()
      const made = container.exec({ args: ['sleep', '1000'] }, { signal: abort.signal })
      setTimeout(() => abort.abort(new Error('enough')), wait)
      const outcome = await made.catch((error: unknown) => error)
      if (outcome instanceof Error) expect(outcome.message).toBe('enough')
      else await (outcome as AsyncDisposable)[Symbol.asyncDispose]()
    }
    expect(readdirSync(`/proc/${container.pid}/task`)).toHaveLength(1)
    await container.delete({ force: true })
  })

  it('leaves nothing behind when 200 run at once', { timeout: 60_000 }, async () => {
    const container = await running({ linux: { ...specOf([]).linux, resources: { memory: { limit: 256 << 20 } } } })
    const all = await Promise.all(
      Array.from({ length: 200 }, (_, index) => container.exec({ args: ['sh', '-c', `exit ${index}`] })),
    )
    const codes = (await Promise.all(all.map((ran) => ran.exited))).map(({ code }) => code)
    expect(codes).toEqual(Array.from({ length: 200 }, (_, index) => index))
    await container.delete({ force: true })
  })

  it('is refused in a paused container, or waits for it', async () => {
    const container = await running()
    await container.pause()
    await expect(container.exec({ args: ['true'] })).rejects.toMatchObject({
      code: 'ERR_OCI_CONFLICT',
      message: expect.stringContaining('paused'),
    })
    const ran = container.exec({ args: ['sh', '-c', 'exit 4'] }, { ignorePaused: true })
    await container.resume()
    expect((await (await ran).exited).code).toBe(4)
    await container.delete({ force: true })
  })

  it('works in a user namespace', async () => {
    const maps = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
    const linux: Spec['linux'] = {
      namespaces: [...(specOf([]).linux?.namespaces ?? []), { type: 'user' }],
      uidMappings: maps,
      gidMappings: maps,
    }
    execFileSync('chmod', ['755', sandbox.directory])
    chownSync(sandbox.rootfs, 100_000, 100_000)
    const container = await running({ linux })
    const script = 'id -u; id -G; grep -c . /proc/self/uid_map; readlink /proc/self/ns/user'
    const said = await sh(container, script, { user: { uid: 3, gid: 4, additionalGids: [5] } })
    expect(said.split('\n').slice(0, 3)).toEqual(['3', '4 5', '1'])
    expect(said).toContain(readlinkSync(`/proc/${container.pid}/ns/user`))
    await container.delete({ force: true })
    chownSync(sandbox.rootfs, 0, 0)
  })
})
