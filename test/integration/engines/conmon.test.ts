import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { Writable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Process } from '../../../src/bundle/index.ts'
import { CommandLine, type Ran } from '../../cli/support.ts'
import { type SpecChanges, specOf, until } from '../../runtime/support.ts'
import { cannotRunWith, find, Place } from './support.ts'

const reason = cannotRunWith({ conmon: 'conmon' })

/** What conmon tells whoever runs it. */
interface Told {
  readonly pid?: number
  readonly exit_code?: number
  readonly message?: string
}

// CRI-O itself has to be built; how it runs conmon, and the runtime, is in its sources (internal/oci/runtime_oci.go).
describe.skipIf(reason)(`conmon with oci-ts, run as CRI-O runs it (${reason ?? 'for real'})`, () => {
  let oci: CommandLine
  let place: Place
  beforeAll(() => {
    oci = new CommandLine()
    place = new Place('conmon')
    for (const name of ['exits', 'sockets', 'state', 'persist']) mkdirSync(place.path(name))
  })
  afterAll(async () => {
    for (const id of runtime('list', '-q').stdout.split('\n')) if (id !== '') runtime('delete', '--force', id)
    await place.remove()
    oci.remove()
  })

  let count = 0

  const runtime = (...args: readonly string[]): Ran => oci.run(['--root', place.path('state'), ...args])

  /** Runs conmon, lets it go on, and waits for what it tells. */
  async function conmon(args: readonly string[]): Promise<Told> {
    const { PATH = '' } = process.env
    const env = { CRI_O_EXTERNAL: '1', PATH, _OCI_SYNCPIPE: '3', _OCI_STARTPIPE: '4' }
    const runtimeArgs = ['-r', oci.path, '--runtime-arg', `--root=${place.path('state')}`, '--log-level', 'info']
    const child: ChildProcess = spawn(find('conmon') as string, [...args, ...runtimeArgs], {
      cwd: place.directory,
      env,
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    })
    const ended = once(child, 'exit')
    ;(child.stdio[4] as Writable).write('\0')
    const told = new Promise<Told>((resolve) => {
      let line = ''
      child.stdio[3]?.on('data', (data) => {
        line += data
        if (line.includes('\n')) resolve(JSON.parse(line))
      })
    })
    await Promise.all([told, ended])
    for (const stream of child.stdio) stream?.destroy()
    return told
  }

  interface Created {
    readonly id: string
    readonly spec: ReturnType<typeof specOf>
    readonly told: Told
    readonly log: () => string
    readonly exit: () => string
  }

  async function create(script: string, changes: SpecChanges = {}): Promise<Created> {
    const id = `cri-${process.pid}-${++count}`
    const bundle = place.path(id)
    mkdirSync(bundle)
    const spec = specOf(['sh', '-c', script], { root: { path: place.rootfs }, ...changes })
    writeFileSync(place.path(id, 'config.json'), JSON.stringify(spec))
    const files = ['-P', place.path(id, 'conmon.pid'), '-p', place.path(id, 'pidfile'), '-l', place.path(id, 'log')]
    const directories = ['--exit-dir', place.path('exits'), '--persist-dir', place.path('persist')]
    const terminal = spec.process?.terminal === true ? ['-t'] : []
    const told = await conmon([
      ...['-b', bundle, '-c', id, '-u', id, '-n', `k8s_${id}`, ...files, ...directories],
      ...['--socket-dir-path', place.path('sockets'), '--syslog', '--log-size-max', '8192', ...terminal],
    ])
    const read = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '')
    return { id, spec, told, log: () => read(place.path(id, 'log')), exit: () => read(place.path('exits', id)) }
  }

  /** A process in a container, waited for, as for probes and `kubectl exec` without a terminal. */
  async function execSync(container: Created, changes: Partial<Process>, ...options: readonly string[]) {
    const files = { spec: place.path(container.id, 'exec.json'), log: place.path(container.id, `exec-${++count}.log`) }
    writeFileSync(files.spec, JSON.stringify({ ...container.spec.process, ...changes }))
    const told = await conmon([
      ...['-c', container.id, '-n', `k8s_${container.id}`, '-p', place.path(container.id, 'exec.pid'), '-e', '--sync'],
      ...['-l', files.log, '--socket-dir-path', place.path('sockets'), '--exec-process-spec', files.spec],
      ...['--log-global-size-max', '16777216', ...options],
    ])
    return { told, log: existsSync(files.log) ? readFileSync(files.log, 'utf8') : '' }
  }

  const untilTold = 'trap "exit 9" TERM; echo up; while sleep 0.05; do :; done'

  it('makes a container that is started, logged, and ends with its code', async () => {
    const { id, told, log, exit } = await create('echo out; echo oops >&2; exit 7')
    expect(told.pid).toBe(Number(readFileSync(place.path(id, 'pidfile'), 'utf8')))
    expect(JSON.parse(runtime('state', id).stdout)).toMatchObject({ status: 'created', pid: told.pid })
    expect(runtime('start', id).status).toBe(0)
    await until('conmon knows its code', () => exit() !== '')
    expect([exit(), log()]).toEqual(['7', expect.stringMatching(/^\S+ stdout F out\n\S+ stderr F oops\n$/)])
    expect(JSON.parse(runtime('state', id).stdout).status).toBe('stopped')
    expect(runtime('delete', '--force', id).status).toBe(0)
  })

  it('executes in a container, and stops it', async () => {
    const container = await create(untilTold)
    const { id, exit } = container
    expect(runtime('start', id).status).toBe(0)
    await until('it is up', () => container.log().includes('up'))
    expect(await execSync(container, { args: ['sh', '-c', 'echo in; exit 5'] })).toEqual({
      told: { exit_code: 5 },
      log: expect.stringMatching(/^\S+ stdout F in\n$/),
    })
    expect(await execSync(container, { args: ['tty'], terminal: true }, '-t')).toMatchObject({
      told: { exit_code: 0 },
      log: expect.stringContaining('/dev/pts/0'),
    })
    const { told } = await execSync(container, { args: ['nonsense'] })
    expect(told).toEqual({ exit_code: -1, message: expect.stringContaining('executable file not found in $PATH') })
    expect(await execSync(container, { args: ['sleep', '1000'] }, '-T', '1')).toMatchObject({
      told: { exit_code: -1, message: expect.stringMatching(/timed out/i) },
    })
    writeFileSync(place.path(id, 'process'), JSON.stringify({ ...container.spec.process, args: ['echo', 'direct'] }))
    expect(runtime('exec', '--process', place.path(id, 'process'), id)).toMatchObject({ status: 0, stdout: 'direct\n' })
    expect(runtime('kill', id, 'SIGTERM').status).toBe(0)
    await until('conmon knows its code', () => exit() === '9')
    expect(runtime('kill', id, 'KILL').stderr).toContain('container not running')
    expect(runtime('delete', '--force', id).status).toBe(0)
  })

  it('gives a container a terminal', async () => {
    const { id, log, exit } = await create('tty; exit 3', { process: { terminal: true } })
    expect(runtime('start', id).status).toBe(0)
    await until('conmon knows its code', () => exit() === '3')
    expect(log()).toMatch(/ stdout F \/dev\/pts\/0\r?\n/)
    expect(runtime('delete', '--force', id).status).toBe(0)
  })

  it('tells what was wrong with a container that can not be made', async () => {
    const { id, told } = await create('true', { process: { args: ['nonsense'] } })
    expect(told).toEqual({ pid: -1, message: expect.stringContaining('executable file not found in $PATH') })
    expect(runtime('state', id).stderr).toContain('does not exist')
  })
})
