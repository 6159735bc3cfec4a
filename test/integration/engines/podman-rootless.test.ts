import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine, type Ran, run, runInTerminal } from '../../cli/support.ts'
import { cannotRunWith, Place, untilTold } from './support.ts'

const reason = cannotRunWith({ podman: 'podman', conmon: 'conmon', newuidmap: 'uidmap', setpriv: 'util-linux' })

describe.skipIf(reason)(`podman --runtime oci-ts of an ordinary user (${reason ?? 'for real'})`, () => {
  const name = `ocitspod${process.pid}`
  let oci: CommandLine
  let place: Place
  beforeAll(() => {
    oci = new CommandLine()
    place = new Place('podman-rootless')
    execFileSync('useradd', ['--no-create-home', '--shell', '/bin/sh', name])
    const archive = place.archive()
    for (const each of ['home', 'run']) mkdirSync(place.path(each), { mode: 0o700 })
    execFileSync('chown', ['-R', `${name}:${name}`, place.directory])
    expect(podman('import', archive, 'box:1').stderr).toContain('Storing signatures')
  }, 120_000)
  afterAll(async () => {
    podman('rm', '--all', '--force', '--time', '0')
    // It keeps the user's namespaces for the next podman.
    const pidFile = place.path('run/libpod/tmp/pause.pid')
    if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL')
    spawnSync('userdel', [name])
    await place.remove()
    oci.remove()
  })

  const limits = ['--network', 'none']

  function line(...args: readonly string[]): readonly string[] {
    const environment = [`HOME=${place.path('home')}`, `XDG_RUNTIME_DIR=${place.path('run')}`]
    const globals = ['--runtime', oci.path, '--cgroup-manager', 'cgroupfs', '--events-backend', 'none']
    const user = [`--reuid=${name}`, `--regid=${name}`, '--clear-groups']
    return [...user, 'env', '-C', place.path('home'), ...environment, 'podman', ...globals, ...args]
  }

  function podman(...args: readonly string[]): Ran {
    return run('setpriv', line(...args))
  }

  it('runs a container as root of the ids of that user', () => {
    const command = ['/bin/sh', '-c', 'id -u; cat /proc/self/uid_map; echo oops >&2; exit 7']
    const { status, stdout, stderr } = podman('run', '--rm', ...limits, 'box:1', ...command)
    const id = execFileSync('id', ['-u', name], { encoding: 'utf8' }).trim()
    expect([status, stderr]).toEqual([7, 'oops\n'])
    expect(stdout).toMatch(new RegExp(`^0\n +0 +${id} +1\n +1 +\\d+ +\\d+\n$`))
  })

  it('executes in, stops, starts and removes a container, which is recorded below the directory of that user', () => {
    const { stdout: id } = podman('run', '-d', '--name', 'box', ...limits, 'box:1', ...untilTold)
    expect(existsSync(place.path('run/oci-ts', id.trim(), 'state.json'))).toBe(true)
    expect(podman('exec', 'box', '/bin/sh', '-c', 'echo in; exit 5')).toMatchObject({ status: 5, stdout: 'in\n' })
    expect(podman('exec', '-u', '1000', 'box', 'id', '-u').stdout).toBe('1000\n')
    expect(runInTerminal('setpriv', line('exec', '-t', 'box', 'tty')).stdout).toContain('/dev/pts/0')
    expect(podman('top', 'box', 'args').stdout).toContain('trap')
    expect(podman('stop', '--time', '20', 'box').status).toBe(0)
    expect(podman('inspect', '--format', '{{.State.ExitCode}}', 'box').stdout).toBe('9\n')
    expect(podman('start', 'box').status).toBe(0)
    expect(podman('kill', 'box').status).toBe(0)
    expect(podman('rm', '--force', 'box').status).toBe(0)
    expect(existsSync(place.path('run/oci-ts', id.trim()))).toBe(false)
  }, 180_000)

  it.each([
    ['keeps the id of that user', ['--userns=keep-id'], ['id', '-un'], `${name}\n`],
    ['gives devices', ['--device', '/dev/zero:/dev/other'], ['sh', '-c', 'head -c 1 /dev/other | wc -c'], '1\n'],
    ['takes privileges away', ['--cap-drop', 'all', '--read-only'], ['grep', '-c', 'Eff:\t0000000000000000'], '1\n'],
  ])('%s', (_, options, command, expected) => {
    const program = command[0] === 'grep' ? [...command, '/proc/self/status'] : command
    expect(podman('run', '--rm', ...options, ...limits, 'box:1', ...program).stdout).toBe(expected)
  })

  it('tells its user of a missing command', () => {
    expect(podman('run', '--rm', ...limits, 'box:1', '/bin/nonsense')).toMatchObject({
      status: 127,
      stderr: expect.stringContaining('no such file or directory'),
    })
  })
})
