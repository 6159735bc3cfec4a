import { chmodSync, closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { defaultSeccomp, type LinuxSeccomp } from '../../src/bundle/index.ts'
import { type Call, call } from '../../src/linux/call.ts'
import { createPool, type PoolProcess, type PoolRunOptions, state } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, type SpecChanges, specOf, until } from './support.ts'

/** Name of the call that the kernel is to refuse when it is made early. */
let broken: string | undefined
vi.mock('../../src/runtime/early.ts', async (original) => {
  const module = await original<typeof import('../../src/runtime/early.ts')>()
  const planEarly: typeof module.planEarly = (...args) => {
    const early = module.planEarly(...args)
    const spoil = (each: Call): Call => ({ ...each, ...call('close', [-1], { step: each.step ?? '' }) })
    return { ...early, calls: early.calls.map((each) => (each.name === broken ? spoil(each) : each)) }
  }
  return { ...module, planEarly }
})

describe.skipIf(cannotRun)(
  `the filter of a warm pool, and what else it does early (${cannotRun ?? 'of real containers'})`,
  () => {
    let sandbox: Sandbox
    beforeAll(async () => {
      sandbox = new Sandbox()
      // The root of a user namespace gets there as any user.
      chmodSync(sandbox.directory, 0o755)
      await sandbox.remember()
    })
    afterEach(() => sandbox.expectNothingLeft())
    afterAll(() => sandbox.remove())

    const capabilities = ['CAP_CHOWN', 'CAP_SETUID', 'CAP_SETGID']
    const sets = { bounding: capabilities, permitted: capabilities, effective: capabilities }
    const docker = defaultSeccomp({ architecture: process.arch === 'arm64' ? 'arm64' : 'amd64', capabilities })
    const pool = (seccomp: LinuxSeccomp, changes: SpecChanges = {}, size = 1) => {
      const { bundle, stateRoot } = sandbox
      const linux = { ...specOf([]).linux, ...changes.linux, seccomp }
      const process = { capabilities: sets, ...changes.process }
      return createPool({
        size,
        spec: specOf(['true'], { ...changes, process, linux }),
        bundle,
        stateRoot,
        id: sandbox.id(),
      })
    }
    type AnyPool = ReturnType<typeof pool>

    /** What the kernel says of the filters of the containers that wait, as `Seccomp Seccomp_filters`. */
    const waiting = async (from: AnyPool): Promise<readonly string[]> => {
      await from.full()
      const { stateRoot } = sandbox
      const states = await Promise.all(readdirSync(stateRoot).map((id) => state(id, { stateRoot })))
      return states.map(({ pid }) => seccompOf(readFileSync(`/proc/${pid}/status`, 'utf8')))
    }
    const seccompOf = (status: string): string =>
      [...status.matchAll(/^Seccomp\w*:\s*(\d+)$/gm)].map(([, n]) => n).join(' ')
    const [early, late] = ['2 1', '0 0']

    /** Runs a script to its end, which tells of its filters and capabilities then. */
    const run = async (from: AnyPool, script: string, given: PoolProcess = {}, options: PoolRunOptions = {}) => {
      const file = join(sandbox.directory, 'output')
      const fd = openSync(file, 'w')
      try {
        const args = ['sh', '-c', `${script}; grep -E "^(Seccomp|Cap(Prm|Eff|Bnd)|NoNew)" /proc/1/status`]
        await using container = await from.run({ args, ...given }, { stdio: [undefined, fd, fd], ...options })
        const { code } = await container.exited
        const text = readFileSync(file, 'utf8')
        return { code, text, filters: seccompOf(text) }
      } finally {
        closeSync(fd)
      }
    }
    const refusal = (
      names: readonly string[],
      action: LinuxSeccomp['defaultAction'] = 'SCMP_ACT_ERRNO',
    ): LinuxSeccomp => ({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' },
        { names, action },
      ],
    })
    const tryIt = 'mkdir /tmp/x 2>/dev/null || echo refused'

    it.each([true, false])('is in force before it is known what is run (no_new_privs: %s)', async (noNewPrivileges) => {
      await using one = pool(docker, { process: { noNewPrivileges } })
      expect(await waiting(one)).toEqual([early])
      const { code, text, filters } = await run(one, 'unshare -u true 2>/dev/null || echo refused', {
        user: { uid: 1000, gid: 1000, additionalGids: [5] },
        rlimits: [{ type: 'RLIMIT_NOFILE', soft: 99, hard: 99 }],
        cwd: '/tmp',
      })
      expect({ code, filters }).toEqual({ code: 0, filters: early })
      expect(text).toContain('refused\n')
      expect(text).toContain(`NoNewPrivs:\t${noNewPrivileges ? 1 : 0}\n`)
    })

    it('leaves the program no capability that loading it has taken', async () => {
      await using one = pool(docker)
      expect(await waiting(one)).toEqual([early])
      const { text } = await run(one, 'true')
      for (const set of ['Prm', 'Eff', 'Bnd']) expect(text).toContain(`Cap${set}:\t00000000000000c1\n`)
    })

    it('is in force early in a user namespace', async () => {
      const mapped = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
      const namespaces = [...(specOf([]).linux?.namespaces ?? []), { type: 'user' } as const]
      await using one = pool(refusal(['swapon']), { linux: { namespaces, uidMappings: mapped, gidMappings: mapped } })
      expect(await waiting(one)).toEqual([early])
      expect(await run(one, tryIt)).toMatchObject({ code: 0, filters: early, text: expect.stringMatching(/^refused/) })
    })

    it.each([
      ['what a run calls', ['setresuid']],
      ['what takes over the standard streams', ['recvmsg']],
      ['what enters the working directory', ['openat2']],
      ['what a remote process waits by', ['recvfrom']],
      ['what a remote process answers by', ['sendto']],
    ])('waits for the program when it refuses %s', async (_, names) => {
      for (const action of ['SCMP_ACT_ERRNO', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_LOG'] as const) {
        await using one = pool(refusal(names, action))
        expect(await waiting(one)).toEqual([late])
        expect(await run(one, tryIt)).toMatchObject({
          code: 0,
          filters: early,
          text: expect.stringMatching(/^refused/),
        })
      }
    })

    it('waits for the program when it looks at what is not known before', async () => {
      const args = [{ index: 0, value: 4096, op: 'SCMP_CMP_EQ' }] as const
      const profile = (name: string): LinuxSeccomp => ({
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' },
          { names: [name], action: 'SCMP_ACT_ERRNO', args },
        ],
      })
      for (const [name, when] of [
        ['execve', late],
        ['prctl', early],
      ] as const) {
        await using one = pool(profile(name))
        expect(await waiting(one)).toEqual([when])
        expect(await run(one, tryIt)).toMatchObject({
          code: 0,
          filters: early,
          text: expect.stringMatching(/^refused/),
        })
      }
    })

    it('waits for the program from the first run on that needs what it refuses', async () => {
      await using three = pool(docker, {}, 3)
      expect(await waiting(three)).toEqual([early, early, early])
      const named = await run(three, 'hostname', {}, { hostname: 'chosen' })
      expect(named).toMatchObject({ code: 0, filters: early, text: expect.stringMatching(/^chosen\n/) })
      await until('there are three again', () => three.ready === 3)
      expect(await waiting(three)).toEqual([late, late, late])
      expect(await run(three, 'hostname')).toMatchObject({ code: 0, filters: early })
      expect(await run(three, 'hostname', {}, { hostname: 'chosen' })).toMatchObject({ filters: early })
    })

    it('is in force once for runs that were planned both ways', async () => {
      await using two = pool(refusal(['sethostname']), {}, 2)
      expect(await waiting(two)).toEqual([early, early])
      expect(await run(two, tryIt)).toMatchObject({ filters: early, text: expect.stringMatching(/^refused/) })
      expect((await run(two, 'hostname', {}, { hostname: 'a' })).text).toMatch(/^a\n/)
      expect(await run(two, tryIt)).toMatchObject({ filters: early, text: expect.stringMatching(/^refused/) })
    })

    it('takes a run that chooses what it lets through as any other', async () => {
      await using one = pool(refusal(['swapon']))
      expect((await run(one, 'hostname', {}, { hostname: 'chosen' })).text).toMatch(/^chosen\n/)
      expect(await waiting(one)).toEqual([early])
    })

    it.each([
      ['seccomp', 'swapoff', { step: 'load the seccomp filter', pointer: '/linux/seccomp' }],
      ['prctl', 'reboot', { step: 'drop CAP_DAC_OVERRIDE' }],
    ])('names the step when %s fails', async (name, refused, failure) => {
      broken = name
      try {
        // No other test has planned for that profile.
        await using one = pool(refusal([refused]))
        const failed = { code: 'ERR_OCI_RUNTIME', ...failure }
        await expect(one.full()).rejects.toMatchObject(failed)
        await expect(one.run()).rejects.toMatchObject(failed)
      } finally {
        broken = undefined
      }
    })

    it('leaves each run the capabilities that it chooses, more than the config has as well', async () => {
      await using two = pool(docker, {}, 2)
      const setsOf = (text: string) =>
        [...text.matchAll(/^Cap(?:Prm|Eff|Bnd):\t0*([0-9a-f]+)$/gm)].map(([, set]) => set)
      const choose = (names: readonly string[]): PoolProcess => ({
        capabilities: { bounding: names, permitted: names, effective: names },
      })
      expect(setsOf((await run(two, 'true', choose(['CAP_CHOWN']))).text)).toEqual(['1', '1', '1'])
      expect(await waiting(two)).toEqual([early, early])
      const more = await run(two, 'true', choose(['CAP_CHOWN', 'CAP_KILL']))
      expect(setsOf(more.text)).toEqual(['21', '21', '21'])
      expect(more.filters).toBe(early)
      const unchosen = { capabilities: undefined } as unknown as PoolProcess
      expect(setsOf((await run(two, 'true', unchosen)).text)).toEqual(['c1', 'c1', 'c1'])
      expect(setsOf((await run(two, 'true')).text)).toEqual(['c1', 'c1', 'c1'])
    })

    it('lets a program that can not be run be told as without it', async () => {
      await using one = pool(docker)
      expect(await waiting(one)).toEqual([early])
      await expect(one.run({ args: ['no-such-program'] })).rejects.toMatchObject({
        message: expect.stringContaining('executable file not found in $PATH'),
      })
      expect((await run(one, 'echo ok')).text).toMatch(/^ok\n/)
    })
  },
)
