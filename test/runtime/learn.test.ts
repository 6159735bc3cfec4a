import { chmodSync, closeSync, existsSync, mkdirSync, readdirSync, realpathSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LinuxSeccomp, Mount } from '../../src/bundle/index.ts'
import { fsconfigCreate, fsmount, fsopen } from '../../src/linux/calls/mounts.ts'
import { capabilityNames } from '../../src/linux/capabilities.ts'
import { perform } from '../../src/linux/local.ts'
import { exec, Learning, type LearnReport } from '../../src/runtime/index.ts'
import { cannotRun, type Outcome, Sandbox, type SpecChanges, specOf } from './support.ts'

/** What the kernel traces of capabilities, mounted nowhere; undefined where it does not. */
function tracefs(): number | undefined {
  try {
    const context = perform(fsopen('tracefs'))
    try {
      perform(fsconfigCreate(context))
      const mount = perform(fsmount(context))
      if (readdirSync(`/proc/self/fd/${mount}/events`).includes('capability')) return mount
      closeSync(mount)
    } finally {
      closeSync(context)
    }
  } catch {
    // There is none.
  }
  return undefined
}

const tracing = cannotRun === undefined ? tracefs() : undefined
const cannotTrace = tracing === undefined ? 'needs Linux 6.13, tracefs and root' : undefined

/** The instances of this process. */
function instances(): readonly string[] {
  if (tracing === undefined) return []
  return readdirSync(`/proc/self/fd/${tracing}/instances`).filter((name) => name.startsWith(`oci-ts-${process.pid}-`))
}

const countOf = ({ calls }: LearnReport, ...names: readonly string[]): number =>
  calls.filter(({ name }) => names.includes(name)).reduce((all, { count }) => all + count, 0)
const namesIn = ({ syscalls = [] }: LinuxSeccomp): readonly string[] => syscalls.flatMap(({ names }) => names)
const under = (seccomp: LinuxSeccomp): SpecChanges => ({ linux: { ...specOf([]).linux, seccomp } })

describe.skipIf(cannotRun)(`learn (${cannotRun ?? 'with real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(async () => {
    await sandbox.expectNothingLeft()
    expect(instances()).toEqual([])
  })
  afterAll(() => {
    sandbox.remove()
    if (tracing !== undefined) closeSync(tracing)
  })

  /** Runs `args` in learn mode. */
  const learn = async (
    args: readonly string[],
    changes: SpecChanges = {},
    learning = new Learning(),
  ): Promise<{ readonly outcome: Outcome; readonly report: LearnReport }> => {
    const outcome = await sandbox.run(specOf(args, changes), { learn: learning })
    return { outcome, report: learning.report() }
  }
  const sh = (script: string): readonly string[] => ['sh', '-c', script]

  it.each([
    ['a program', ['ls', '-l', '/bin/busybox']],
    [
      'a script with children, pipes, signals and files',
      sh(
        'trap "echo caught" USR1; for i in 1 2 3; do echo $i > /tmp/$i; done; cat /tmp/[123] | sort -r; kill -USR1 $$;' +
          ' rm /tmp/[123]; (exit 3); echo $?; sleep 0.01 & wait; ls /none',
      ),
    ],
  ])('gives a profile under which %s does the same again', async (_, args) => {
    const { outcome, report } = await learn(args)
    expect(await sandbox.run(specOf(args, under(report.seccomp)))).toEqual(outcome)
    expect(countOf(report, 'execve')).toBeGreaterThanOrEqual(1)
    // As a rule that config.json can have.
    expect(JSON.parse(JSON.stringify(report.seccomp))).toEqual(report.seccomp)
  })

  it('gives a profile that refuses what was not done', async () => {
    const { report } = await learn(sh('mkdir /tmp/made; rmdir /tmp/made; echo done'))
    const { stdout, stderr } = await sandbox.run(
      specOf(sh('mkdir /tmp/made; rmdir /tmp/made; chown 5 /tmp || echo refused'), under(report.seccomp)),
    )
    expect(stdout).toBe('refused\n')
    expect(stderr).toMatch(/chown: \/tmp: Operation not permitted/)
  })

  it.each([true, false])('counts the calls of the program, and none of ours (no_new_privs: %s)', async (no) => {
    const changes = { process: { noNewPrivileges: no, capabilities: {} } }
    const { report } = await learn(['true'], changes)
    expect(countOf(report, 'execve')).toBe(1)
    expect(countOf(report, 'exit_group')).toBe(1)
    expect(countOf(report, 'capset', 'seccomp', 'sendmsg', 'dup3', 'close')).toBe(0)
    // What gives up the right to load a filter is part of the start.
    expect(namesIn(report.seccomp).includes('capset')).toBe(!no)
    const { status } = await sandbox.run(specOf(['true'], { ...changes, ...under(report.seccomp) }))
    expect(status.code).toBe(0)
  })

  it('sees also the calls by which the filter is handed over', async () => {
    // Netlink requests of busybox are sent by sendmsg.
    const args = sh('ip addr add 127.0.0.2/8 dev lo && ip addr show lo')
    const { outcome, report } = await learn(args)
    expect(outcome.stderr).toBe('')
    expect(countOf(report, 'sendmsg')).toBeGreaterThanOrEqual(1)
    expect(await sandbox.run(specOf(args, under(report.seccomp)))).toEqual(outcome)
    expect(namesIn((await learn(['true'])).report.seccomp)).not.toContain('sendmsg')
  })

  it('counts what enters the container, by way of its maker alone', async () => {
    const learning = new Learning()
    const container = await sandbox.create(specOf(['sleep', '1000']), { learn: learning })
    await container.start()
    expect(countOf(learning.report(), 'mkdir', 'mkdirat')).toBe(0)
    const codes = await Promise.all(
      ['/tmp/a', '/tmp/b'].map(
        async (path) => (await (await container.exec({ args: sh(`mkdir ${path} && rmdir ${path}`) })).exited).code,
      ),
    )
    expect(codes).toEqual([0, 0])
    expect(countOf(learning.report(), 'mkdir', 'mkdirat')).toBe(2)
    const { stateRoot } = sandbox
    await expect(exec(container.id, { args: ['true'] }, { stateRoot })).rejects.toMatchObject({
      code: 'ERR_OCI_INVALID_ARGUMENT',
      message: expect.stringContaining('exec there'),
    })
    await container.delete({ force: true })
    const again = await sandbox.create(specOf(['sleep', '1000'], under(learning.report().seccomp)))
    await again.start()
    const entered = await again.exec({ args: sh('mkdir /tmp/a && rmdir /tmp/a') })
    expect((await entered.exited).code).toBe(0)
    await again.delete({ force: true })
  })

  it('adds up what several containers do', async () => {
    const learning = new Learning()
    await Promise.all(
      ['mkdir /tmp/a; rmdir /tmp/a', 'ln -s x /tmp/l; rm /tmp/l'].map((s) => learn(sh(s), {}, learning)),
    )
    const { calls } = learning.report()
    const names = calls.map(({ name }) => name)
    expect(names).toEqual(names.toSorted())
    for (const made of [/^mkdir/, /^symlink/, /^rmdir|^unlinkat/])
      expect(names).toContainEqual(expect.stringMatching(made))
  })

  it('refuses what the profile of the container refuses, and says so', async () => {
    const own: LinuxSeccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['chmod', 'fchmodat', 'fchmodat2'], action: 'SCMP_ACT_ERRNO', errnoRet: 28 },
        { names: ['symlink', 'symlinkat'], action: 'SCMP_ACT_KILL_PROCESS' },
        { names: ['sendmsg', 'dup3'], action: 'SCMP_ACT_ERRNO' },
        // Personality of 32 bits (PER_LINUX32).
        {
          names: ['personality'],
          action: 'SCMP_ACT_ERRNO',
          errnoRet: 5,
          args: [{ index: 0, value: 8, op: 'SCMP_CMP_EQ' }],
        },
      ],
    }
    const script = sh('chmod 700 /tmp; ln -s a /tmp/l; linux32 true; linux64 echo here')
    const { outcome, report } = await learn(script, under(own))
    expect(outcome.stdout).toBe('here\n')
    expect(outcome.stderr).toMatch(
      /chmod: .*No space left on device\n.*ln: .*Operation not permitted\n.*linux32: .*rror/,
    )
    const refused = report.calls
      .filter((call) => call.refused > 0)
      .map(({ name, count, refused }) => [name, count - refused])
    expect(refused).toEqual([
      [expect.stringMatching(/chmod/), 0],
      ['personality', 1],
      [expect.stringMatching(/symlink/), 0],
    ])
    const again = await sandbox.run(specOf(sh('chmod 700 /tmp; linux64 echo here'), under(report.seccomp)))
    expect(again.stdout).toBe('here\n')
    expect(again.stderr).toMatch(/No space left on device/)
  })

  it('follows threads', async () => {
    const node = realpathSync(process.execPath)
    const bind = (path: string): Mount => ({
      ...{ destination: path, source: path, type: 'bind', options: ['rbind', 'ro'] },
    })
    const code = `
      const { Worker } = require('node:worker_threads')
      const workers = [1, 2].map((n) => new Worker('require("node:fs").mkdirSync("/tmp/" + ' + n + ')', { eval: true }))
      Promise.all(workers.map((w) => new Promise((r) => w.on('exit', r)))).then((codes) => {
        console.log(codes, require('node:fs').readdirSync('/tmp').length)
        for (const n of [1, 2]) require('node:fs').rmdirSync('/tmp/' + n)
      })`
    const mounts = ['/usr', '/lib', '/lib64', dirname(node)].map(bind)
    const changes: SpecChanges = { mounts: [...(specOf([]).mounts ?? []), ...mounts] }
    const args = [join(dirname(node), basename(node)), '-e', code]
    const { outcome, report } = await learn(args, changes)
    expect(outcome).toMatchObject({ stdout: '[ 0, 0 ] 2\n', stderr: '', status: { code: 0 } })
    expect(countOf(report, 'mkdir', 'mkdirat')).toBe(2)
    expect(countOf(report, 'clone', 'clone3')).toBeGreaterThanOrEqual(2)
  })

  it('takes a bounded time for each call, and no more memory for many of them', async () => {
    const calls = 4000
    const count = { args: ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=1', `count=${calls / 2}`] }
    const started = performance.now()
    const { report } = await learn(count.args)
    const took = performance.now() - started
    expect(countOf(report, 'read', 'write')).toBeGreaterThanOrEqual(calls)
    expect(report.calls.length).toBeLessThan(60)
    // 0.1 ms on a quiet machine.
    expect(took / calls).toBeLessThan(5)
  })

  it('keeps what it has seen of a container that is killed in the middle of it', async () => {
    const learning = new Learning()
    const container = await sandbox.create(specOf(sh('while :; do mkdir /tmp/x; rmdir /tmp/x; done')), {
      learn: learning,
    })
    await container.start()
    while (countOf(learning.report(), 'mkdir', 'mkdirat') < 5) await new Promise((resolve) => setImmediate(resolve))
    await container.delete({ force: true })
    await sandbox.sh('rm -rf /tmp/x')
    expect(countOf(learning.report(), 'mkdir', 'mkdirat')).toBeGreaterThanOrEqual(5)
    expect(await container.exited).toMatchObject({ signal: 'SIGKILL' })
  })

  it('leaves nothing of a container that can not be started', async () => {
    writeFileSync(join(sandbox.rootfs, 'bin/broken'), 'no program\n', { mode: 0o755 })
    const learning = new Learning()
    const container = await sandbox.create(specOf(['broken']), { learn: learning })
    await expect(container.start()).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'execute /bin/broken' })
    await container.delete()
    expect(countOf(learning.report(), 'execve')).toBe(1)
    await expect(sandbox.create(specOf(['none']), { learn: learning })).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
    })
  })

  it('can not be what no filter can have', async () => {
    const refused = async (more: object, code = 'ERR_OCI_INVALID_ARGUMENT', changes: SpecChanges = {}) =>
      expect(sandbox.create(specOf(['true'], changes), { learn: new Learning(), ...more })).rejects.toMatchObject({
        code,
      })
    await refused({ detach: true })
    await refused({ handOver: true })
    await refused({ onSyscall: { mkdir: async () => 'continue' } })
    await refused({}, undefined, under({ defaultAction: 'SCMP_ACT_NOTIFY' }))
    const learning = new Learning()
    await learn(['true'], {}, learning)
    await refused({ learn: learning }, 'ERR_OCI_CONFLICT', under({ defaultAction: 'SCMP_ACT_ALLOW' }))
  })

  describe.skipIf(cannotTrace)(`tells capabilities (${cannotTrace ?? 'by the tracepoint'})`, () => {
    const all = { bounding: capabilityNames, permitted: capabilityNames, effective: capabilityNames }
    const only = (names: readonly string[]) => ({ bounding: names, permitted: names, effective: names })

    it.each([
      ['none for a plain echo', 'echo hello', []],
      ['that of chown', 'echo hello; chown 5:5 /tmp/f', ['CAP_CHOWN']],
      ['that of what a child does', '(hostname box; hostname)', ['CAP_SYS_ADMIN']],
    ])('%s', async (_, script, capabilities) => {
      writeFileSync(join(sandbox.rootfs, 'tmp/f'), '')
      const args = sh(script)
      const { outcome, report } = await learn(args, { process: { capabilities: all } })
      expect(report).toMatchObject({ capabilities, capabilitiesUnknown: undefined })
      expect(outcome.status.code).toBe(0)
      // They are enough, and without them it fails.
      const again = (names: readonly string[]): Promise<Outcome> =>
        sandbox.run(specOf(args, { process: { capabilities: only(names) }, ...under(report.seccomp) }))
      expect(await again(capabilities)).toEqual(outcome)
      const without = await again([])
      if (capabilities.length > 0) expect(without.stderr).toContain('not permitted')
    })

    it('and removes what a process that was killed has left in tracefs', async () => {
      const left = `/proc/self/fd/${tracing}/instances/oci-ts-${process.pid}-1-1`
      mkdirSync(left)
      await learn(['true'])
      expect(existsSync(left)).toBe(false)
    })

    it('that of what enters the container with more than it has itself', async () => {
      const learning = new Learning()
      const container = await sandbox.create(
        specOf(['sleep', '1000'], { process: { capabilities: only(['CAP_CHOWN']) } }),
        { learn: learning },
      )
      await container.start()
      const entered = await container.exec({ args: ['hostname', 'box'], capabilities: all })
      expect((await entered.exited).code).toBe(0)
      expect(learning.report().capabilities).toEqual(['CAP_SYS_ADMIN'])
      await container.delete({ force: true })
    })

    it('only those that were granted, in a user namespace as well', async () => {
      for (const path of [sandbox.directory, sandbox.bundle]) chmodSync(path, 0o755)
      const mapping = { containerID: 0, hostID: 100_000, size: 65_536 }
      const { linux } = specOf([])
      const changes: SpecChanges = {
        process: { capabilities: only(['CAP_SYS_ADMIN', 'CAP_CHOWN']) },
        linux: {
          ...{ namespaces: [...(linux?.namespaces ?? []), { type: 'user' }] },
          ...{ uidMappings: [mapping], gidMappings: [mapping] },
        },
      }
      const { outcome, report } = await learn(sh('hostname box; hostname; mknod /dev/shm/n c 1 3'), changes)
      expect(outcome.stdout).toBe('box\n')
      expect(report.capabilities).toEqual(['CAP_SYS_ADMIN'])
    })
  })
})
