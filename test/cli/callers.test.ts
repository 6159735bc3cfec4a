import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { NotFoundError } from '../../src/errors.ts'
import { deleteContainer, kill, pause, resume, start, state, stats, update } from '../../src/runtime/index.ts'
import { cannotRun, dockerMounts, makeRootfs, type SpecChanges, specOf, until } from '../runtime/support.ts'
import { CommandLine, type Ran, run, sh } from './support.ts'

/** Who runs a runtime: what stands before each command, and the commands. Words in capitals stand for values. */
interface Caller {
  readonly globals: string
  readonly commands: readonly string[]
}

const page = readFileSync(new URL('../../docs/peers.md', import.meta.url), 'utf8')

/** The table of the page: caller, what stands before, and the commands in code. */
function callersOf(text: string): Readonly<Record<string, Caller>> {
  const [, section = ''] = /## What engines run\n([\s\S]*?)\n\nThe words/.exec(text) ?? []
  const rows = section.split('\n').filter((line) => line.startsWith('| ') && line.includes('`'))
  return Object.fromEntries(
    rows.map((row) => {
      const [, name = '', before = '', after = ''] = row.split(/ *\| */)
      const code = (cell: string): readonly string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, each]) => each ?? '')
      return [name, { globals: code(before)[0] ?? '', commands: code(after) }]
    }),
  )
}

const fine: Ran = { status: 0, stdout: '', stderr: '' }
const forever = 'trap "exit 15" TERM; trap "exit 10" USR1; echo ready >/tmp/$ID; while sleep 0.05; do :; done'

let oci: CommandLine
let directory: string
/** A container that goes on, for what changes nothing for good. */
let running: Place
beforeAll(async () => {
  oci = new CommandLine()
  directory = mkdtempSync(join(tmpdir(), 'oci-ts-callers-'))
  if (cannotRun !== undefined) return
  makeRootfs(join(directory, 'rootfs'))
  writeFileSync(join(directory, 'rootfs/etc/garbage'), 'garbage', { mode: 0o755 })
  running = await started()
})
afterAll(async () => {
  await running?.remove()
  rmSync(directory, { recursive: true, force: true })
  oci.remove()
})

let count = 0

/** Where all containers here are recorded. */
const recorded = (): { readonly stateRoot: string } => ({ stateRoot: join(directory, 'state') })

/** A bundle, and the files that a caller names. */
class Place {
  readonly id: string
  readonly bundle: string

  constructor(script: string, changes: SpecChanges = {}) {
    this.id = `caller-${process.pid}-${++count}`
    this.bundle = join(directory, this.id)
    mkdirSync(this.bundle)
    const root = { path: join(directory, 'rootfs') }
    const given = { env: ['PATH=/bin', `ID=${this.id}`], ...changes.process }
    this.write('config.json', specOf(['sh', '-c', script], { root, ...changes, process: given }))
    this.write('RESOURCES', { pids: { limit: 77 } })
  }

  /** Idempotent. */
  remove(): Promise<void> {
    return deleteContainer(this.id, { ...recorded(), force: true }).catch((error) => {
      if (!(error instanceof NotFoundError)) throw error
    })
  }

  write(name: string, document: unknown): void {
    writeFileSync(join(this.bundle, name), JSON.stringify(document))
  }

  read(name: string): string {
    return readFileSync(join(this.bundle, name), 'utf8')
  }

  /** A command of the test's own about the container. */
  own(...args: readonly string[]): Ran {
    return oci.run(['--root', join(directory, 'state'), ...args])
  }

  get state(): ReturnType<typeof state> {
    return state(this.id, recorded())
  }

  /** Resolves when it has ended, of which only its parent is told. */
  get ended(): Promise<void> {
    return until('it has ended', async () => (await this.state).status === 'stopped')
  }

  /** What the program has written below /tmp. */
  told(name: string = this.id): string {
    const path = join(directory, 'rootfs/tmp', name)
    return existsSync(path) ? readFileSync(path, 'utf8') : ''
  }

  /** Runs a command of a caller. With descriptors 3 and 4, which are for the container when it asks for them. */
  run(line: string, input = ''): Ran {
    writeFileSync(join(this.bundle, 'input'), input)
    const script = 'cd "$1"; shift; exec "$@" <input 3<three 4<four >stdout 2>stderr'
    for (const name of ['three', 'four']) writeFileSync(join(this.bundle, name), `${name}\n`)
    const words = this.words(line)
    const variables = words.filter((word) => word.startsWith('LISTEN_'))
    const args = [process.execPath, oci.path, ...words.slice(variables.length)]
    const { status } = sh(script, 'sh', this.bundle, 'env', ...variables, ...args)
    return { status, stdout: this.read('stdout'), stderr: this.read('stderr') }
  }

  /** Runs a command of a caller who waits at a socket for a terminal. */
  async runWithSocket(line: string): Promise<void> {
    // What is not read stays: the terminal must not be closed.
    const server = createServer({ pauseOnConnect: true }).listen(join(this.bundle, 'SOCKET'))
    await once(server, 'listening')
    const child = oci.start(this.words(line))
    const [[connection], [code]] = await Promise.all([once(server, 'connection'), once(child, 'exit')])
    server.close()
    onTestFinished(() => connection.destroy())
    expect(code).toBe(0)
  }

  /** The words of a command, with what the capitals stand for. */
  words(line: string): readonly string[] {
    const values: Readonly<Record<string, string>> = {
      ...{ ROOT: join(directory, 'state'), BUNDLE: this.bundle, ID: this.id, OPTIONS: '-ef' },
      ...{ KILL: 'KILL', TERM: 'TERM', SIGTERM: 'SIGTERM', OTHER: 'other' },
    }
    return line
      .split(' ')
      .map((word) => word.replace(/\b[A-Z]{2,}\b/, (name) => values[name] ?? join(this.bundle, name)))
  }
}

/** Is removed when the test ends, whatever it ends with. */
function temporary(place: Place): Place {
  onTestFinished(() => place.remove())
  return place
}

/** A container that runs until it is told to end. */
async function started(): Promise<Place> {
  const place = new Place(forever)
  expect(place.own('run', '--detach', '--bundle', place.bundle, place.id).stderr).toBe('')
  await until('it is ready', () => place.told() === 'ready\n')
  return place
}

function created(): Place {
  const place = new Place(forever)
  expect(place.own('create', '--bundle', place.bundle, place.id)).toEqual(fine)
  return place
}

/** What shows that a command has done what it is to do, by its verb. */
const proofs: Readonly<Record<string, (line: string) => Promise<void> | void>> = {
  async create(line) {
    const terminal = line.includes('--console-socket')
    const script = '(tty; cat /proc/keys /proc/self/cgroup; cat <&3; cat <&4) >/tmp/$ID 2>&1'
    const namespaces = (['mount', 'pid'] as const).map((type) => ({ type }))
    const place = temporary(new Place(script, { process: { terminal }, linux: { namespaces } }))
    if (terminal) await place.runWithSocket(line)
    else expect(place.run(line)).toEqual(fine)
    const { status, pid } = await place.state
    expect([status, place.told()]).toEqual(['created', ''])
    if (line.includes('--pid-file')) expect(place.read('FILE')).toBe(String(pid))
    await start(place.id, recorded())
    await place.ended
    expect(place.told().split('\n')[0]).toBe(terminal ? '/dev/pts/0' : 'not a tty')
    expect(place.told().includes(`_ses.${place.id}`)).toBe(!line.includes('--no-new-keyring'))
    expect(place.told().includes('three\nfour\n')).toBe(line.includes('--preserve-fds'))
    const cgroup = readFileSync('/proc/self/cgroup', 'utf8')
    expect(place.told().includes(cgroup)).toBe(line.includes('--cgroup-manager disabled'))
  },
  async start(line) {
    const place = temporary(created())
    expect(place.run(line)).toEqual(fine)
    expect(await place.state).toMatchObject({ status: 'running' })
  },
  async exec(line) {
    const name = `${running.id}.exec`
    const terminal = line.includes('--console-socket')
    const script = `(tty; cat <&3; cat <&4) >/tmp/part 2>&1; mv /tmp/part /tmp/${name}; echo out; exit 3`
    running.write('PROCESS', { cwd: '/', args: ['sh', '-c', script], env: ['PATH=/bin'], terminal })
    if (terminal) await running.runWithSocket(line)
    else if (line.includes('--detach')) expect(running.run(line)).toMatchObject({ status: 0, stderr: '' })
    else expect(running.run(line)).toEqual({ status: 3, stdout: 'out\n', stderr: '' })
    await until('it has told', () => running.told(name) !== '')
    expect(running.told(name).split('\n')[0]).toBe(terminal ? '/dev/pts/0' : 'not a tty')
    expect(running.told(name).includes('three\nfour\n')).toBe(line.includes('--preserve-fds'))
    if (line.includes('--pid-file')) expect(running.read('FILE')).toMatch(/^\d+$/)
    for (const path of [join(running.bundle, 'FILE'), join(directory, 'rootfs/tmp', name)])
      rmSync(path, { force: true })
  },
  state(line) {
    const { status, stdout } = running.run(line)
    expect(status).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ id: running.id, status: 'running', bundle: running.bundle })
  },
  list(line) {
    expect(JSON.parse(running.run(line).stdout)).toMatchObject([{ id: running.id, status: 'running' }])
  },
  async ps(line) {
    const { pid } = await running.state
    const { stdout, stderr } = running.run(line)
    expect(stderr).toBe('')
    if (line.includes('--format json ID')) expect(JSON.parse(stdout)).toContain(pid)
    else expect(stdout).toMatch(new RegExp(`^UID +PID .*\nroot +${pid} .* sh -c trap .*\n(?:.* sleep 0.05\n)?$`))
  },
  async pause(line) {
    onTestFinished(() => resume(running.id, recorded()).catch(() => {}))
    expect(running.run(line)).toEqual(fine)
    expect(await running.state).toMatchObject({ status: 'paused' })
  },
  async resume(line) {
    await pause(running.id, recorded())
    expect(running.run(line)).toEqual(fine)
    expect(await running.state).toMatchObject({ status: 'running' })
  },
  async update(line) {
    await update(running.id, { pids: { limit: 90 } }, recorded())
    expect(running.run(line, running.read('RESOURCES'))).toEqual(fine)
    expect(await stats(running.id, recorded())).toMatchObject({ pids: { limit: 77 } })
  },
  async events(line) {
    const child = oci.start(running.words(line))
    const [data] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
    child.kill('SIGKILL')
    expect(JSON.parse(data.toString().split('\n')[0] ?? '')).toMatchObject({ type: 'stats', id: running.id })
  },
  async kill(line) {
    const place = temporary(await started())
    expect(place.run(line)).toEqual(fine)
    await place.ended
  },
  async delete(line) {
    const place = temporary(line.includes('--force') ? await started() : created())
    expect(place.run(line)).toEqual(fine)
    await expect(place.state).rejects.toThrow(NotFoundError)
  },
  checkpoint: untilCriu,
  restore: untilCriu,
  version(line) {
    expect(running.run(line).stdout).toMatch(/^oci-ts version \d.*\ncommit: .+\nspec: \d+\.\d+\.\d+\n/)
  },
  features(line) {
    expect(JSON.parse(running.run(line).stdout)).toMatchObject({ ociVersionMin: '1.0.0', hooks: expect.any(Array) })
  },
}

/** CRIU does not know the kernels of all test machines: here it is not found, when all options have been read. */
function untilCriu(line: string): void {
  const [verb = ''] = line.split(' ').filter((word) => Object.hasOwn(proofs, word))
  const { status, stderr } = running.run(
    line.replace(` ${verb} `, ` --criu /no/criu ${verb} `).replace(/^(.* restore .*)ID$/, '$1OTHER'),
  )
  expect([status, stderr]).toEqual([1, expect.stringContaining('CRIU is not installed')])
}

const callers = callersOf(page)
const all = Object.entries(callers).flatMap(([caller, { globals, commands }]) =>
  commands.map((command) => [caller, `${globals} ${command}`] as const),
)

describe.skipIf(cannotRun)(`what callers run (${cannotRun ?? 'real containers'})`, () => {
  it('is on the page', () => {
    expect(Object.keys(callers)).toEqual(["containerd's shim", 'podman', 'CRI-O', 'Docker', 'contest'])
  })

  it.each(all)('%s: %s', async (_, line) => {
    const verb = line.split(/ +(?:--(?=version))?/).find((word) => Object.hasOwn(proofs, word)) ?? ''
    await proofs[verb]?.(line.includes('--root') ? line : `--root ROOT ${line}`)
  })
})

const lacking = (program: string): SpecChanges => ({ process: { args: [program] } })

const bound = (source: string, destination: string): SpecChanges => ({
  mounts: [...dockerMounts, { type: 'bind', source, destination, options: ['bind'] }],
})

/** A mount that nobody may make in a user namespace. */
function refused(): SpecChanges {
  const ids = [{ containerID: 0, hostID: 0, size: 65_536 }]
  const namespaces = (['user', 'mount'] as const).map((type) => ({ type }))
  const mounts = [{ type: 'ext4', source: 'none', destination: '/mnt' }]
  return { mounts, linux: { namespaces, uidMappings: ids, gidMappings: ids } }
}

describe.skipIf(cannotRun)(`what callers look for in errors (${cannotRun ?? 'real containers'})`, () => {
  it.each([
    ['executable file not found in', 'a program that is not in PATH', lacking('nonsense')],
    ['no such file or directory', 'one that is not there', lacking('/bin/nonsense')],
    ['permission denied', 'one that may not be executed', lacking('/etc/passwd')],
    ['no such file or directory', 'a mount of nothing', bound('/no/such/source', '/mnt')],
    ['not a directory', 'a file mounted on a directory', bound('/etc/passwd', '/tmp')],
    ['not a directory', 'a directory mounted on a file', bound('/etc', '/etc/passwd')],
    ['operation not permitted', 'a mount that the kernel refuses', refused()],
  ])('have "%s" for %s: in the log, whose only line it is, and on standard error', async (words, _, changes) => {
    const place = temporary(new Place('true', changes))
    const { status, stderr } = place.run(
      `--root ROOT ${callers.podman?.globals} create --bundle BUNDLE --pid-file FILE ID`,
    )
    expect([status, stderr]).toEqual([1, expect.stringContaining(words)])
    expect(JSON.parse(place.read('LOG'))).toMatchObject({ level: 'error', msg: stderr.trim() })
    await expect(place.state).rejects.toThrow(NotFoundError)
  })

  it('have "exec format error" for a program that is for no machine', () => {
    const place = new Place('true', lacking('/etc/garbage'))
    expect(place.run('--root ROOT run --bundle BUNDLE ID').stderr).toContain('exec format error')
  })

  it('have "container not running" when what is to get a signal has ended', async () => {
    const place = temporary(await started())
    await kill(place.id, 'KILL', recorded())
    await place.ended
    const error = { status: 1, stderr: expect.stringContaining('container not running') }
    for (const signal of ['15', 'KILL']) expect(place.own('kill', place.id, signal)).toMatchObject(error)
  })

  it.each([
    ...['state OTHER', 'kill OTHER 9', 'delete OTHER', 'start OTHER', 'pause OTHER', 'resume OTHER', 'ps OTHER'],
    ...['exec OTHER true', 'update --pids-limit 9 OTHER', 'events --stats OTHER', 'checkpoint OTHER'],
  ])('have "does not exist" for %s', (line) => {
    const { status, stderr } = running.run(`--root ROOT ${line}`)
    expect([status, stderr]).toEqual([line.startsWith('exec') ? 255 : 1, 'oci-ts: container does not exist\n'])
  })

  const runc = ['/usr/sbin/runc', '/usr/bin/runc'].find((path) => existsSync(path))

  it
    .skipIf(runc === undefined)
    .each([
      ...['nonsense', 'help', '--nonsense state x', '--log-format xml state x', 'create', 'create --nonsense x'],
      ...['exec', 'exec x', 'exec x true', 'state', 'state x', 'state x y', 'list x', 'list --format xml', 'kill x 9'],
      ...['delete x', 'delete --force x', 'start x', 'features x', 'run --bundle /no/bundle x', 'create --help', ''],
    ])('come with the exit code of runc: %s', (line) => {
    const args = ['--root', join(directory, 'none'), ...line.split(' ').filter((word) => word !== '')]
    expect(oci.run(args).status).toBe(run(runc as string, args).status)
  })
})

describe.skipIf(cannotRun)(`where callers run it (${cannotRun ?? 'real containers'})`, () => {
  it('needs no environment: podman gives it nothing but XDG_RUNTIME_DIR', () => {
    const state = ['--root', join(directory, 'state'), 'state', running.id]
    const { status, stdout } = run('env', ['-i', 'XDG_RUNTIME_DIR=/tmp', process.execPath, oci.path, ...state])
    expect([status, JSON.parse(stdout).status]).toEqual([0, 'running'])
  })

  it('hands on sockets that a service manager has opened, and says so', () => {
    const place = new Place('echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cat <&3')
    const line = 'LISTEN_FDS=2 LISTEN_FDNAMES=a:b --root ROOT run --bundle BUNDLE ID'
    expect(place.run(line)).toEqual({ ...fine, stdout: '2 1 a:b\nthree\n' })
    // More than there are: they were somebody else's.
    expect(place.run(line.replace('=2', '=9'))).toMatchObject({ stdout: '\n' })
  })

  it('refuses to hand on descriptors that are not there, instead of its own', () => {
    const place = new Place('true')
    expect(place.run('--root ROOT run --preserve-fds 3 --bundle BUNDLE ID')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('there is no descriptor 5'),
    })
    expect(running.run('--root ROOT exec --preserve-fds 3 ID true')).toMatchObject({
      status: 255,
      stderr: expect.stringContaining('there is no descriptor 5'),
    })
  })
})
