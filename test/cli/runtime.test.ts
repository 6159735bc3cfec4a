import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { validateSpec } from '../../src/bundle/index.ts'
import { cannotRun, cgroupsOf, makeRootfs, type SpecChanges, specOf, until } from '../runtime/support.ts'
import { CommandLine, type Ran, runInTerminal, sh } from './support.ts'

let oci: CommandLine
let directory: string
beforeAll(() => {
  oci = new CommandLine()
  directory = mkdtempSync(join(tmpdir(), 'oci-ts-cli-'))
  if (cannotRun === undefined) makeRootfs(join(directory, 'rootfs'))
})
afterAll(() => {
  rmSync(directory, { recursive: true, force: true })
  oci.remove()
})

const root = () => join(directory, 'state')

function run(...args: readonly string[]): Ran {
  return oci.run(['--root', root(), ...args])
}

let count = 0

/** Writes a bundle for a script. @returns its directory, and an id that no other test has. */
function bundle(script: string, changes: SpecChanges = {}): readonly [directory: string, id: string] {
  const id = `cli-${process.pid}-${++count}`
  const path = join(directory, id)
  mkdirSync(path)
  const spec = specOf(['sh', '-c', script], { root: { path: join(directory, 'rootfs') }, ...changes })
  writeFileSync(join(path, 'config.json'), JSON.stringify(spec))
  return [path, id]
}

const fine = { status: 0, stdout: '', stderr: '' }

describe.skipIf(cannotRun)(`the runtime's command line (${cannotRun ?? 'real containers'})`, () => {
  afterAll(() => {
    expect(cgroupsOf(`cli-${process.pid}-`)).toEqual([])
  })

  it('creates a container in one process, starts it in another, and deletes it in a third', async () => {
    const [path, id] = bundle('echo started > /tmp/started; sleep 1000')
    const pidFile = join(path, 'pid')
    expect(run('create', '--bundle', path, '--pid-file', pidFile, id)).toEqual(fine)
    const pid = Number(readFileSync(pidFile, 'utf8'))
    expect(JSON.parse(run('state', id).stdout)).toMatchObject({ id, pid, status: 'created', bundle: path })
    expect(existsSync(join(directory, 'rootfs/tmp/started'))).toBe(false)
    expect(run('start', id)).toEqual(fine)
    await until('it has started', () => existsSync(join(directory, 'rootfs/tmp/started')))
    expect(JSON.parse(run('state', id).stdout)).toMatchObject({ pid, status: 'running' })
    expect(run('delete', id)).toMatchObject({
      status: 1,
      stderr: `oci-ts: cannot delete container ${id} that is not stopped: running\n`,
    })
    expect(run('kill', id, 'KILL')).toEqual(fine)
    await until('it has stopped', () => JSON.parse(run('state', id).stdout).status === 'stopped')
    expect(JSON.parse(run('state', id).stdout)).toMatchObject({ pid: 0 })
    expect(run('kill', id, '9')).toMatchObject({ status: 1, stderr: 'oci-ts: container not running\n' })
    expect(run('delete', id)).toEqual(fine)
    expect(run('state', id)).toMatchObject({ status: 1, stderr: 'oci-ts: container does not exist\n' })
  })

  it('hands its standard streams to the container as they are', () => {
    const [path, id] = bundle('read line; echo "got $line"; echo oops >&2')
    expect(oci.run(['--root', root(), 'run', '-b', path, id], { input: 'this\n' })).toEqual({
      status: 0,
      stdout: 'got this\n',
      stderr: 'oops\n',
    })
  })

  it('ends with the exit code of what it ran', () => {
    const [path, id] = bundle('exit 42')
    expect(run('run', '-b', path, id)).toMatchObject({ status: 42 })
    expect(run('list', '-q')).toEqual(fine)
    const [killed, other] = bundle('kill -9 $$; sleep 10', { linux: { namespaces: [{ type: 'mount' }] } })
    expect(run('run', '-b', killed, other)).toMatchObject({ status: 137 })
  })

  it('hands signals on to what it runs', async () => {
    const [path, id] = bundle("trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done")
    const child = oci.start(['--root', root(), 'run', '--bundle', path, id])
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    child.kill('SIGUSR1')
    expect(await ended).toBe(5)
  })

  it('runs a container that goes on, and further processes in it', () => {
    const [path, id] = bundle('sleep 1000', { process: { env: ['PATH=/bin', 'A=1'] } })
    expect(run('run', '--detach', '--bundle', path, id)).toEqual(fine)
    const { pid } = JSON.parse(run('state', id).stdout) as { readonly pid: number }
    expect(readdirSync(`/proc/${pid}/fd`).sort()).toEqual(['0', '1', '2'])
    expect(run('exec', id, 'sh', '-c', 'echo $A; exit 3')).toMatchObject({ status: 3, stdout: '1\n' })
    expect(run('exec', '--env', 'B=2', '--cwd', '/tmp', '--user', '1:2', id, 'sh', '-c', 'echo $A$B; pwd; id')).toEqual(
      {
        status: 0,
        stdout: '12\n/tmp\nuid=1 gid=2\n',
        stderr: '',
      },
    )
    const file = join(path, 'process.json')
    writeFileSync(file, JSON.stringify({ cwd: '/', args: ['/bin/echo', 'of a file'], env: [] }))
    expect(run('exec', '--process', file, id)).toEqual({ ...fine, stdout: 'of a file\n' })
    expect(run('delete', '--force', id)).toEqual(fine)
  })

  it.each(['1:2:3', '', '01', '1:', '-1', '4294967295', '1x'])(
    'runs nothing as the user %j (CVE-2026-30892)',
    (user) => {
      const [path, id] = bundle('sleep 1000')
      run('run', '-d', '--bundle', path, id)
      expect(run('exec', `--user=${user}`, id, 'id')).toMatchObject({ status: 255, stdout: '' })
      expect(run('delete', '--force', id)).toEqual(fine)
    },
  )

  it('adds capabilities that are not inheritable (CVE-2022-29162)', () => {
    const [path, id] = bundle('sleep 1000', { process: { capabilities: {} } })
    run('run', '-d', '--bundle', path, id)
    const { stdout } = run('exec', '--cap', 'CAP_KILL', id, 'grep', 'Cap', '/proc/self/status')
    expect(stdout).toMatch(/CapInh:\s+0000000000000000\n/)
    expect(stdout).toMatch(/CapEff:\s+0000000000000020\n/)
    run('delete', '--force', id)
  })

  it('takes options behind the id, as contest gives them', () => {
    const [path, id] = bundle('true')
    expect(oci.run(['--root', root(), 'create', id, '--bundle', path])).toEqual(fine)
    expect(run('delete', id, '--force')).toEqual(fine)
  })

  it('lists containers', () => {
    const [path, id] = bundle('true')
    run('create', '--bundle', path, id)
    expect(run('list').stdout).toMatch(new RegExp(`^ID +PID +STATUS +BUNDLE +CREATED +OWNER\n${id} +\\d+ +created `))
    expect(JSON.parse(run('list', '--format', 'json').stdout)).toMatchObject([{ id, status: 'created', bundle: path }])
    expect(run('list', '--quiet').stdout).toBe(`${id}\n`)
    expect(run('create', '--bundle', path, id)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('container with given ID already exists'),
    })
    run('delete', id)
  })

  it('tells what engines look for when the command is missing or may not be run', () => {
    const [path, id] = bundle('true', { process: { args: ['nonsense'] } })
    const log = join(path, 'log.json')
    const { status, stderr } = run('--log', log, '--log-format', 'json', 'create', '--bundle', path, id)
    expect([status, stderr]).toEqual([
      1,
      expect.stringContaining('exec: "nonsense": executable file not found in $PATH'),
    ])
    const last = JSON.parse(readFileSync(log, 'utf8').trim().split('\n').at(-1) as string)
    expect(last).toEqual({ level: 'error', msg: stderr.trim(), time: expect.stringMatching(/^\d{4}-.*Z$/) })
    writeFileSync(join(directory, 'rootfs/etc/data'), '')
    const denied = bundle('true', { process: { args: ['/etc/data'] } })
    expect(run('run', '--bundle', denied[0], denied[1]).stderr).toContain('exec: "/etc/data": permission denied')
    const missing = bundle('true', { process: { args: ['/etc/none'] } })
    expect(run('run', '--bundle', missing[0], missing[1]).stderr).toContain('no such file or directory')
    expect(run('list', '-q').stdout).toBe('')
  })

  it('hands preserved descriptors on', () => {
    const [path, id] = bundle('cat <&3; cat <&4; ls /proc/self/fd')
    const script = 'exec 3<"$0" 4<"$1"; shift; exec "$@"'
    const files = ['three', 'four'].map((text) => {
      const file = join(path, text)
      writeFileSync(file, `${text}\n`)
      return file
    })
    const command = [process.execPath, oci.path, '--root', root(), 'run', '--preserve-fds', '2', '-b', path, id]
    const { stdout } = sh(script, ...files, ...command)
    expect(stdout).toBe('three\nfour\n0\n1\n2\n3\n4\n5\n')
  })

  it('deletes with force what is not there, and without only what is', () => {
    expect(run('delete', '--force', 'nonsense')).toEqual(fine)
    expect(run('delete', 'nonsense')).toMatchObject({ status: 1, stderr: 'oci-ts: container does not exist\n' })
  })

  it('gives a terminal, in the foreground and to whoever waits for it at a socket', async () => {
    const [path, id] = bundle('tty; stty size; test -t 0; exit $?', { process: { terminal: true } })
    const typed = runInTerminal(process.execPath, [oci.path, '--root', root(), 'run', '-b', path, id])
    expect(typed.stdout).toMatch(/^\/dev\/pts\/0\r+\n33 77\r+\n$/)
    expect(typed.status).toBe(0)
    const socket = join(path, 'socket')
    const taken = new Promise<void>((resolve) => {
      const server = createServer((connection) => {
        connection.once('data', () => {
          server.close(() => resolve())
          connection.destroy()
        })
      }).listen(socket)
    })
    await new Promise((resolve) => setImmediate(resolve))
    const child = oci.start(['--root', root(), 'create', '--bundle', path, '--console-socket', socket, id])
    await taken
    await new Promise((resolve) => child.once('exit', resolve))
    expect(JSON.parse(run('state', id).stdout)).toMatchObject({ status: 'created' })
    run('delete', id)
  })

  it('sends a pidfd to whoever waits for it, by the name that runc has for it', async () => {
    const [path, id] = bundle('sleep 1000')
    const names: string[] = []
    const socket = join(path, 'socket')
    const server = createServer((connection) => {
      connection.once('data', (data) => names.push(data.toString('utf8').replaceAll('\0', '')))
    }).listen(socket)
    const start = async (...args: readonly string[]): Promise<void> => {
      const child = oci.start(['--root', root(), ...args])
      child.stdin?.end()
      await new Promise((resolve) => child.once('exit', resolve))
    }
    await start('run', '--detach', '--bundle', path, '--pidfd-socket', socket, id)
    await start('exec', '--pidfd-socket', socket, id, 'true')
    await until('both are there', () => names.length === 2)
    server.close()
    expect(names).toEqual(['standard', 'setns'])
    expect(run('delete', '--force', id)).toEqual(fine)
  })

  it('adds mounts to a running container, all or none, and removes them', () => {
    const [path, id] = bundle('sleep 1000')
    expect(run('run', '-d', '--bundle', path, id)).toEqual(fine)
    const file = join(path, 'mounts.json')
    const mount = (destination: string, source: string) => ({
      destination,
      type: 'bind',
      source,
      options: ['bind', 'ro'],
    })
    writeFileSync(file, JSON.stringify([mount('/a', path), { destination: '/b', type: 'tmpfs', source: 'tmpfs' }]))
    expect(run('mounts', 'add', id, file)).toEqual(fine)
    expect(run('exec', id, 'ls', '/a/config.json').status).toBe(0)
    expect(run('exec', id, 'cat', '/proc/mounts').stdout).toMatch(/ \/b tmpfs /)
    expect(run('mounts', 'remove', id, file)).toEqual(fine)
    const half = JSON.stringify({ mounts: [mount('/a', path), mount('/c', '/no/such/directory')] })
    expect(oci.run(['--root', root(), 'mounts', 'add', id, '-'], { input: half }).status).not.toBe(0)
    expect(run('exec', id, 'cat', '/proc/mounts').stdout).not.toMatch(/ \/[abc] /)
    expect(run('mounts', 'change', id, file).status).not.toBe(0)
    expect(run('delete', '--force', id)).toEqual(fine)
    for (const name of ['a', 'b', 'c']) rmSync(join(directory, 'rootfs', name), { recursive: true, force: true })
  })

  it('runs a process in a paused container when it is resumed, if it is told to', async () => {
    const [path, id] = bundle('sleep 1000')
    run('run', '-d', '--bundle', path, id)
    run('pause', id)
    const child = oci.start(['--root', root(), 'exec', '--ignore-paused', id, 'sh', '-c', 'echo ran; exit 4'])
    const ended = once(child, 'exit')
    const told = once(child.stdout as NodeJS.ReadableStream, 'data')
    await until('it is there', () => run('ps', '--format', 'json', id).stdout.includes(','))
    expect(run('resume', id)).toEqual(fine)
    expect(String(await told)).toBe('ran\n')
    expect(await ended).toEqual([4, null])
    run('delete', '--force', id)
  })

  it('takes memory with a unit, and shows processes by the options of ps', () => {
    const [path, id] = bundle('sleep 1000')
    run('run', '-d', '--bundle', path, id)
    expect(run('update', '--memory', '64m', '--memory-swap', '-1', id)).toEqual(fine)
    expect(JSON.parse(run('events', '--stats', id).stdout).data.memory.usage.limit).toBe(64 << 20)
    expect(run('update', '--memory', '64x', id)).toMatchObject({ status: 1, stderr: expect.stringContaining('"64x"') })
    expect(run('update', '--memory', '9999999g', id).stderr).toContain('too large')
    expect(run('ps', id, '-eo', 'args,pid').stdout).toMatch(/^COMMAND +PID\nsleep 1000 +\d+\n$/)
    expect(run('ps', id, '--format', 'json').stdout).toMatch(/^\[\d+\]\n$/)
    expect(run('ps', id, '-eo', 'args').stderr).toContain('shows no column PID')
    expect(run('ps', id, '--nonsense').status).toBe(1)
    run('delete', '--force', id)
  })

  it('tells why there is no checkpoint', () => {
    const [path, id] = bundle('sleep 1000')
    expect(run('run', '-d', '--bundle', path, id)).toEqual(fine)
    const images = join(path, 'images')
    const options = ['--image-path', images, '--leave-running', '--tcp-established', '--manage-cgroups-mode', 'soft']
    expect(run('--criu', '/no/criu', 'checkpoint', ...options, id)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('CRIU is not installed'),
    })
    expect(run('restore', '--image-path', images, '--bundle', path, '--detach', 'other').status).toBe(1)
    expect(run('delete', '--force', id)).toEqual(fine)
  })

  it('pauses, resumes, updates and measures a container', () => {
    const [path, id] = bundle('sleep 1000 & sleep 1000', { linux: { resources: { pids: { limit: 20 } } } })
    expect(run('run', '-d', '--bundle', path, id)).toEqual(fine)
    expect(run('resume', id)).toMatchObject({ status: 1, stderr: 'oci-ts: container not paused\n' })
    expect(run('pause', id)).toEqual(fine)
    expect(JSON.parse(run('state', id).stdout)).toMatchObject({ status: 'paused' })
    expect(run('exec', id, 'true')).toMatchObject({ status: 255, stderr: expect.stringContaining('paused container') })
    expect(run('resume', id)).toEqual(fine)
    const pids = JSON.parse(run('ps', '--format', 'json', id).stdout) as readonly number[]
    expect(pids).toContain(JSON.parse(run('state', id).stdout).pid)
    expect(run('ps', id).stdout).toMatch(/^UID +PID .*\n.* sleep 1000\n/)
    const limit = (): unknown => JSON.parse(run('events', '--stats', id).stdout).data.pids.limit
    expect(limit()).toBe(20)
    expect(run('update', '--pids-limit', '30', id)).toEqual(fine)
    expect(limit()).toBe(30)
    const resources = JSON.stringify({ pids: { limit: 40 } })
    expect(oci.run(['--root', root(), 'update', '--resources=-', id], { input: resources })).toEqual(fine)
    expect(limit()).toBe(40)
    expect(run('update', '--pids-limit', '1x', id)).toMatchObject({ status: 1 })
    expect(JSON.parse(run('events', '--stats', id).stdout)).toMatchObject({
      type: 'stats',
      id,
      data: { cpu: { usage: { total: expect.any(Number) } }, memory: { usage: { usage: expect.any(Number) } } },
    })
    expect(run('kill', '--all', id, 'KILL')).toEqual(fine)
    expect(run('kill', '--all', id, 'KILL')).toEqual(fine)
    expect(run('delete', '--force', id)).toEqual(fine)
  })

  it('runs containers of an ordinary user, in one process and across several', (context) => {
    const user = { uid: 1234, gid: 1234 }
    if (oci.run(['--version'], user).status !== 0) context.skip('an ordinary user can not read this project')
    const path = mkdtempSync(join(tmpdir(), 'oci-ts-cli-user-'))
    try {
      makeRootfs(join(path, 'rootfs'))
      chownSync(path, user.uid, user.gid)
      const own = (...args: readonly string[]): Ran =>
        oci.run(['--root', join(path, 'state'), ...args], { ...user, cwd: path })
      expect(own('spec', '--rootless')).toEqual(fine)
      const spec = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'))
      const process = { ...spec.process, terminal: false, args: ['sh', '-c', 'id -u; exit 3'], env: ['PATH=/bin'] }
      writeFileSync(join(path, 'config.json'), JSON.stringify({ ...spec, process }))
      expect(own('run', 'one')).toEqual({ status: 3, stdout: '0\n', stderr: '' })
      expect(own('create', 'two')).toEqual(fine)
      expect(own('start', 'two')).toEqual(fine)
      expect(own('delete', '--force', 'two')).toEqual(fine)
    } finally {
      rmSync(path, { recursive: true })
    }
  })

  it('leaves cgroups alone when it is told so', () => {
    const [path, id] = bundle('cat /proc/self/cgroup', {
      linux: { resources: { pids: { limit: 5 } }, namespaces: [{ type: 'mount' }, { type: 'pid' }] },
    })
    const { stdout } = oci.run(['--cgroup-manager', 'disabled', '--root', root(), 'run', '-b', path, id])
    expect(stdout).toBe(readFileSync('/proc/self/cgroup', 'utf8'))
  })

  it('has systemd make the cgroup when it is told so, and then takes only slice:prefix:name', () => {
    const [path, id] = bundle('true', { linux: { cgroupsPath: '/a/b' } })
    const { status, stderr } = oci.run(['--root', root(), '--systemd-cgroup', 'run', '-b', path, id])
    expect(status).toBe(1)
    expect(stderr).toContain('linux.cgroupsPath must be slice:prefix:name for cgroups through systemd: "/a/b"')
  })
})

describe('oci-ts spec', () => {
  it('writes a config.json that is valid, once', () => {
    for (const args of [[], ['--rootless']]) {
      const path = mkdtempSync(join(directory, 'spec-'))
      expect(oci.run(['spec', '--bundle', path, ...args])).toEqual(fine)
      const spec = validateSpec(JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')))
      expect(spec.process).toMatchObject({ terminal: true, args: ['sh'] })
      expect(spec.linux?.namespaces?.some(({ type }) => type === 'user')).toBe(args.length > 0)
      expect(oci.run(['spec', ...args], { cwd: path })).toMatchObject({
        status: 1,
        stderr: 'oci-ts: File config.json exists. Remove it first\n',
      })
    }
  })
})
