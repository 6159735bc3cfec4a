import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine, type Ran, run, runInTerminal } from '../../cli/support.ts'
import { until } from '../../runtime/support.ts'
import { cannotRunWith, find, Place, untilTold } from './support.ts'

const reason = cannotRunWith({ containerd: 'containerd', ctr: 'containerd', runc: 'runc' })

describe.skipIf(reason)(`containerd with oci-ts (${reason ?? 'for real'})`, () => {
  let oci: CommandLine
  let place: Place
  beforeAll(async () => {
    oci = new CommandLine()
    place = new Place('containerd')
    const config = [
      'version = 2',
      `root = ${JSON.stringify(place.path('root'))}`,
      `state = ${JSON.stringify(place.path('state'))}`,
      'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
      `[grpc]\n  address = ${JSON.stringify(place.path('socket'))}`,
      `[ttrpc]\n  address = ${JSON.stringify(place.path('ttrpc'))}`,
    ]
    writeFileSync(place.path('config.toml'), `${config.join('\n')}\n`)
    await place.start(find('containerd') as string, ['--config', place.path('config.toml')], place.path('socket'))
  }, 120_000)
  afterAll(async () => {
    // Of a test that failed: it would go on without the daemon.
    ctr('task', 'rm', '--force', box)
    await place.remove()
    oci.remove()
  })

  /** Its cgroup is called that, too, whoever else has a containerd. */
  const box = `box-${process.pid}`
  const address = () => ['--address', place.path('socket')]
  const options = (runtime = oci.path) => ['--runc-binary', runtime, '--runc-root', place.path('runc'), '--rootfs']

  function ctr(...args: readonly string[]): Ran {
    return run('ctr', [...address(), ...args])
  }

  const status = (id: string): string =>
    new RegExp(`^${id} +\\d+ +(\\w+)`, 'm').exec(ctr('task', 'ls').stdout)?.[1] ?? ''

  it('runs a container, with its streams, and ends with its exit code', () => {
    const command = ['/bin/sh', '-c', 'echo out; echo oops >&2; exit 7']
    expect(ctr('run', '--rm', ...options(), place.rootfs, 'plain', ...command)).toEqual({
      status: 7,
      stdout: 'out\n',
      stderr: 'oops\n',
    })
  })

  it('runs a container with a terminal', () => {
    const args = ['run', '--rm', '-t', ...options(), place.rootfs, 'terminal', '/bin/tty']
    expect(runInTerminal('ctr', [...address(), ...args]).stdout).toContain('/dev/pts/0')
  })

  it('executes in, pauses, measures, stops and removes a container', async () => {
    expect(ctr('run', '-d', ...options(), place.rootfs, box, ...untilTold)).toMatchObject({ status: 0 })
    // ctr cancels the copying when the process ends: what its pipe still holds then is lost, with every runtime.
    await until('ctr shows what an exec has said', () => {
      const { status, stdout } = ctr('task', 'exec', '--exec-id', 'one', box, '/bin/sh', '-c', 'echo in; exit 5')
      expect(status).toBe(5)
      return stdout === 'in\n'
    })
    // It stays until it has read something: ctr shows nothing of what ends at once.
    const command = ['/bin/sh', '-c', 'tty; read line']
    const inTerminal = ['task', 'exec', '-t', '--exec-id', 'two', box, ...command]
    const typed = runInTerminal('ctr', [...address(), ...inTerminal], '\n')
    expect(typed.stdout).toContain('/dev/pts/0')
    expect(ctr('task', 'pause', box).status).toBe(0)
    expect(status(box)).toBe('PAUSED')
    expect(ctr('task', 'resume', box).status).toBe(0)
    expect(status(box)).toBe('RUNNING')
    expect(ctr('task', 'metrics', box).stdout).toContain('memory')
    expect(ctr('task', 'ps', box).stdout).toMatch(/^\d+/m)
    expect(ctr('task', 'kill', '--signal', 'TERM', box).status).toBe(0)
    await until('it has stopped', () => status(box) === 'STOPPED')
    expect(ctr('task', 'rm', box).stderr).toContain('exit code 9')
    expect(ctr('container', 'rm', box).status).toBe(0)
    expect(oci.run(['--root', join(place.path('runc'), 'default'), 'list', '-q']).stdout).toBe('')
  }, 180_000)

  it.each([
    ['a missing command', '/bin/nonsense', 'no such file or directory'],
    ['a command that is not in PATH', 'nonsense', 'executable file not found in $PATH'],
    ['a command that nobody may execute', '/etc/passwd', 'permission denied'],
    ['a directory', '/etc', 'denied'],
  ])('tells its user of %s as it does for runc', (_, command, text) => {
    const [ours, theirs] = [oci.path, 'runc'].map((runtime) =>
      ctr('run', '--rm', ...options(runtime), place.rootfs, 'bad', command),
    ) as [Ran, Ran]
    expect(ours.status).toBe(theirs.status)
    expect(ours.stderr).toContain(text)
  })
})
