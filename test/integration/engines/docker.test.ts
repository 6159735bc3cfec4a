import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine, type Ran, run, runInTerminal } from '../../cli/support.ts'
import { cannotRunWith, find, Place, untilTold } from './support.ts'

const reason = cannotRunWith({ dockerd: 'docker.io', docker: 'docker.io', containerd: 'containerd', runc: 'runc' })

describe.skipIf(reason)(`docker --add-runtime oci-ts (${reason ?? 'for real'})`, () => {
  let oci: CommandLine
  let place: Place
  beforeAll(async () => {
    oci = new CommandLine()
    place = new Place('docker')
    const paths = ['--data-root', place.path('data'), '--exec-root', place.path('exec'), '--pidfile', place.path('pid')]
    // Nothing of the machine's network is touched.
    const network = ['--bridge', 'none', '--iptables=false', '--ip-forward=false', '--ip-masq=false']
    const runtime = ['--add-runtime', `oci-ts=${oci.path}`, '--default-runtime', 'oci-ts']
    const socket = place.path('socket')
    await place.start(
      find('dockerd') as string,
      [...paths, ...network, ...runtime, '--host', `unix://${socket}`],
      socket,
    )
    expect(docker('import', place.archive(), 'box:1').status).toBe(0)
  }, 120_000)
  afterAll(async () => {
    const ids = docker('ps', '--all', '--quiet')
      .stdout.split('\n')
      .filter((id) => id !== '')
    if (ids.length > 0) docker('rm', '--force', ...ids)
    await place.remove()
    oci.remove()
  })

  const client = find('docker') as string
  const globals = () => ['--host', `unix://${place.path('socket')}`]

  function docker(...args: readonly string[]): Ran {
    return run(client, [...globals(), ...args])
  }

  it('knows its version', () => {
    expect(docker('info', '--format', '{{.DefaultRuntime}}').stdout).toBe('oci-ts\n')
    expect(docker('info').stdout).toMatch(/runc version: v\d/)
  })

  it('runs a container, with its streams, and ends with its exit code', () => {
    const args = ['run', '--rm', '-i', '--network', 'none', 'box:1', '/bin/sh', '-c', 'cat; echo oops >&2; exit 7']
    expect(run(client, [...globals(), ...args], { input: 'in\n' })).toMatchObject({
      status: 7,
      stdout: 'in\n',
      stderr: expect.stringContaining('oops\n'),
    })
  })

  it('runs a container with a terminal', () => {
    const args = [...globals(), 'run', '--rm', '-t', '--network', 'none', 'box:1', '/bin/tty']
    expect(runInTerminal(client, args).stdout).toContain('/dev/pts/0')
  })

  it('executes in, pauses, updates, measures, stops, starts and removes a container', () => {
    const args = ['--name', 'box', '-m', '64m', '--network', 'none', 'box:1', ...untilTold]
    expect(docker('run', '-d', ...args).status).toBe(0)
    expect(docker('exec', 'box', '/bin/sh', '-c', 'echo in; exit 5')).toMatchObject({ status: 5, stdout: 'in\n' })
    expect(runInTerminal(client, [...globals(), 'exec', '-t', 'box', 'tty']).stdout).toContain('/dev/pts/0')
    expect(docker('exec', '-u', '1000', 'box', 'id', '-u').stdout).toBe('1000\n')
    expect(docker('pause', 'box').status).toBe(0)
    expect(docker('inspect', '--format', '{{.State.Status}}', 'box').stdout).toBe('paused\n')
    expect(docker('unpause', 'box').status).toBe(0)
    expect(docker('update', '-m', '128m', '--memory-swap', '256m', 'box').status).toBe(0)
    const limit = 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'
    expect(docker('exec', 'box', 'sh', '-c', limit).stdout).toBe('134217728\n')
    expect(docker('top', 'box').stdout).toContain('trap')
    expect(docker('stats', '--no-stream', '--format', '{{.MemUsage}}', 'box').stdout).toContain('128MiB')
    expect(docker('stop', '--time', '20', 'box').status).toBe(0)
    expect(docker('inspect', '--format', '{{.State.ExitCode}}', 'box').stdout).toBe('9\n')
    expect(docker('start', 'box').status).toBe(0)
    expect(docker('kill', 'box').status).toBe(0)
    expect(docker('rm', '--force', 'box').status).toBe(0)
    expect(oci.run(['--root', join(place.path('exec'), 'runtime-runc/moby'), 'list', '-q']).stdout).toBe('')
  }, 180_000)

  it.each([
    ['a missing command', '/bin/nonsense'],
    ['a command that is not in PATH', 'nonsense'],
    ['a command that nobody may execute', '/etc/passwd'],
    ['a directory', '/etc'],
  ])('tells its user of %s as it does for runc', (_, command) => {
    const [ours, theirs] = ['oci-ts', 'runc'].map((runtime) =>
      docker('run', '--rm', '--runtime', runtime, '--network', 'none', 'box:1', command),
    ) as [Ran, Ran]
    expect(ours.status).toBe(theirs.status)
    expect(ours.stderr).toMatch(/executable file not found|no such file or directory|permission denied/)
  })
})
