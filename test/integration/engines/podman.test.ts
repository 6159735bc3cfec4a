import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine, type Ran, run, runInTerminal } from '../../cli/support.ts'
import { cannotRunWith, Place, untilTold } from './support.ts'

const reason = cannotRunWith({ podman: 'podman', conmon: 'conmon', runc: 'runc' })

describe.skipIf(reason)(`podman --runtime oci-ts (${reason ?? 'for real'})`, () => {
  let oci: CommandLine
  let place: Place
  beforeAll(() => {
    oci = new CommandLine()
    place = new Place('podman')
    expect(podman('import', place.archive(), 'box:1').status).toBe(0)
  }, 120_000)
  afterAll(async () => {
    podman('rm', '--all', '--force', '--time', '0')
    await place.remove()
    oci.remove()
  })

  const globals = (runtime = oci.path): readonly string[] => [
    ...['--root', place.path('root'), '--runroot', place.path('run'), '--runtime', runtime],
    ...['--cgroup-manager', 'cgroupfs', '--events-backend', 'none'],
  ]
  // Its defaults are above what a machine without CAP_SYS_RESOURCE may set.
  const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024', '--network', 'none']

  function podman(...args: readonly string[]): Ran {
    return run('podman', [...globals(), ...args])
  }

  it('runs a container, with its streams, and ends with its exit code', () => {
    const args = ['run', '--rm', '-i', ...limits, 'box:1', '/bin/sh', '-c', 'cat; echo oops >&2; exit 7']
    expect(run('podman', [...globals(), ...args], { input: 'in\n' })).toEqual({
      status: 7,
      stdout: 'in\n',
      stderr: 'oops\n',
    })
  })

  it('runs a container with a terminal', () => {
    const args = [...globals(), 'run', '--rm', '-t', ...limits, 'box:1', '/bin/sh', '-c', 'tty; stty size']
    expect(runInTerminal('podman', args).stdout).toMatch(/\/dev\/pts\/0\r*\n33 77\r*\n/)
  })

  it('executes in, pauses, updates, stops, starts and removes a container', () => {
    const { stdout: id } = podman('run', '-d', '--name', 'box', '-m', '64m', ...limits, 'box:1', ...untilTold)
    expect(oci.run(['list', '-q']).stdout).toContain(id)
    expect(podman('exec', 'box', '/bin/sh', '-c', 'echo in; exit 5')).toMatchObject({ status: 5, stdout: 'in\n' })
    expect(run('podman', [...globals(), 'exec', '-i', 'box', 'cat'], { input: 'text' }).stdout).toBe('text')
    expect(runInTerminal('podman', [...globals(), 'exec', '-t', 'box', 'tty']).stdout).toContain('/dev/pts/0')
    expect(podman('exec', '-u', '1000', 'box', 'id', '-u').stdout).toBe('1000\n')
    expect(podman('pause', 'box').status).toBe(0)
    expect(podman('inspect', '--format', '{{.State.Status}}', 'box').stdout).toBe('paused\n')
    expect(podman('unpause', 'box').status).toBe(0)
    expect(podman('update', '-m', '128m', 'box').status).toBe(0)
    const limit = 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'
    expect(podman('exec', 'box', 'sh', '-c', limit).stdout).toBe('134217728\n')
    expect(podman('top', 'box', 'args').stdout).toContain('trap')
    expect(podman('stop', '--time', '20', 'box').status).toBe(0)
    expect(podman('inspect', '--format', '{{.State.ExitCode}}', 'box').stdout).toBe('9\n')
    expect(podman('start', 'box').status).toBe(0)
    expect(podman('kill', 'box').status).toBe(0)
    expect(podman('rm', '--force', 'box').status).toBe(0)
    expect(oci.run(['list', '-q']).stdout).not.toContain(id)
  }, 180_000)

  it.each([
    ['a missing command', ['/bin/nonsense']],
    ['a command that is not in PATH', ['nonsense']],
    ['a command that nobody may execute', ['/etc/passwd']],
    ['a directory', ['/etc']],
  ])('tells its user of %s as it does for runc', (_, command) => {
    const [ours, theirs] = [oci.path, 'runc'].map((runtime) =>
      run('podman', [...globals(runtime), 'run', '--rm', ...limits, 'box:1', ...command]),
    ) as [Ran, Ran]
    expect(ours.status).toBe(theirs.status)
    expect(ours.stderr).toMatch(/executable file not found|no such file or directory|[Pp]ermission denied/)
  })
})
