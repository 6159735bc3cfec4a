import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hostHierarchies } from '../../src/runtime/cgroups/hierarchies.ts'
import { thisHost } from '../../src/runtime/host.ts'
import { hasAppArmor, hasSelinux } from '../../src/runtime/labels.ts'
import { cannotRun, makeRootfs, specOf } from '../runtime/support.ts'
import { CommandLine, type Ran, runInTerminal } from './support.ts'

const { v1 } = hostHierarchies()
const hasV1 = (controller: string): boolean => v1.some(({ controllers }) => controllers.includes(controller))

describe.skipIf(cannotRun)(`options of runc (${cannotRun ?? 'of a real container'})`, () => {
  const id = `options-${process.pid}`
  let oci: CommandLine
  let directory: string
  beforeAll(() => {
    oci = new CommandLine()
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-options-'))
    makeRootfs(join(directory, 'rootfs'))
    const spec = specOf(['sleep', '1000'], { root: { path: join(directory, 'rootfs') } })
    writeFileSync(join(directory, 'config.json'), JSON.stringify(spec))
    expect(run('run', '--detach', '--bundle', directory, id).stderr).toBe('')
  })
  afterAll(() => {
    run('delete', '--force', id)
    rmSync(directory, { recursive: true })
    oci.remove()
  })

  const globals = (): readonly string[] => ['--root', join(directory, 'state')]
  const run = (...args: readonly string[]): Ran => oci.run([...globals(), ...args])

  it.each([
    ['--additional-gids 5 -g 7', ['id', '-G'], '0 5 7\n'],
    ['--no-new-privs', ['grep', 'NoNewPrivs', '/proc/self/status'], 'NoNewPrivs:\t1\n'],
    ['--cap KILL -c CAP_CHOWN', ['grep', 'CapEff', '/proc/self/status'], 'CapEff:\t0000000000000021\n'],
    ['--user 3:4', ['id', '-u'], '3\n'],
    ['--cwd /etc', ['pwd'], '/etc\n'],
    ['--env A=1 -e B=2', ['sh', '-c', 'echo $A$B'], '12\n'],
    ['--cgroup below', ['sh', '-c', 'grep -c :/below$ /proc/self/cgroup >/dev/null; echo $?'], '0\n'],
    ['--no-subreaper', ['echo', 'ran'], 'ran\n'],
  ])('exec %s', (options, command, expected) => {
    expect(run('exec', ...options.split(' '), id, ...command)).toEqual({ status: 0, stdout: expected, stderr: '' })
  })

  it('exec --tty', () => {
    const args = [oci.path, ...globals(), 'exec', '--tty', id, 'sh', '-c', 'tty; stty size']
    expect(runInTerminal(process.execPath, args).stdout).toMatch(/\/dev\/pts\/0\r+\n33 77\r+\n/)
  })

  it('exec --detach --pid-file', () => {
    const file = join(directory, 'pid')
    expect(run('exec', '--detach', '--pid-file', file, id, 'sleep', '1000').status).toBe(0)
    expect(readFileSync(`/proc/${readFileSync(file, 'utf8')}/cmdline`, 'utf8')).toBe('sleep\0' + '1000\0')
  })

  it.each([
    ['--apparmor', 'AppArmor', hasAppArmor(thisHost())],
    ['--process-label', 'SELinux', hasSelinux(thisHost())],
  ])('exec %s is refused where %s is not active', (option, name, isActive) => {
    if (isActive) return
    expect(run('exec', option, 'x', id, 'true')).toMatchObject({
      status: 255,
      stderr: expect.stringContaining(`${name} is not active on this host`),
    })
  })

  it.skipIf(!['cpu', 'cpuset', 'memory', 'pids', 'blkio'].every(hasV1)).each([
    ['--cpu-period 50000', 'cpu.cfs_period_us', '50000'],
    ['--cpu-quota 20000', 'cpu.cfs_quota_us', '20000'],
    ['--cpu-burst 1000', 'cpu.cfs_burst_us', '1000'],
    ['--cpu-share 512', 'cpu.shares', '512'],
    ['--cpuset-cpus 0', 'cpuset.cpus', '0'],
    ['--cpuset-mems 0', 'cpuset.mems', '0'],
    ['--cpu-idle 1', 'cpu.idle', '1'],
    ['--memory 64m', 'memory.limit_in_bytes', String(64 << 20)],
    ['--memory-swap 128m', 'memory.memsw.limit_in_bytes', String(128 << 20)],
    ['--memory-reservation 33554432', 'memory.soft_limit_in_bytes', String(32 << 20)],
    ['--kernel-memory-tcp 16m', 'memory.kmem.tcp.limit_in_bytes', String(16 << 20)],
    ['--pids-limit 77', 'pids.max', '77'],
  ])('update %s', (option, file, value) => {
    expect(run('update', ...option.split(' '), id)).toEqual({ status: 0, stdout: '', stderr: '' })
    const controller = file.split('.')[0] ?? ''
    const mountPoint = v1.find(({ controllers }) => controllers.includes(controller))?.mountPoint ?? ''
    expect(readFileSync(join(mountPoint, `oci-ts-${id}`, file), 'utf8').trim()).toBe(value)
  })

  it('run --keep leaves the container, which has ended', () => {
    const bundle = join(directory, 'kept')
    mkdirSync(bundle)
    const spec = specOf(['sh', '-c', 'exit 3'], { root: { path: join(directory, 'rootfs') } })
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec))
    expect(run('run', '--keep', '--no-subreaper', '--bundle', bundle, `${id}-kept`).status).toBe(3)
    expect(JSON.parse(run('state', `${id}-kept`).stdout)).toMatchObject({ status: 'stopped', pid: 0 })
    expect(run('delete', `${id}-kept`).status).toBe(0)
  })
})
