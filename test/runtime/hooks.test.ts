import { chmodSync, existsSync, mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Hook, Hooks, State } from '../../src/bundle/index.ts'
import {
  createContainer,
  deleteContainer,
  type HookFunctions,
  type HookKind,
  type RuntimeContainer,
  start,
} from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, type SpecChanges, specOf, until } from './support.ts'

const kinds: readonly HookKind[] = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
]

describe.skipIf(cannotRun)(`hooks (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  let shared: string
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  beforeEach(() => {
    shared = join(sandbox.directory, 'shared')
    mkdirSync(shared)
  })
  afterEach(async () => {
    rmSync(shared, { recursive: true })
    await sandbox.expectNothingLeft()
  })
  afterAll(() => sandbox.remove())

  /** A hook that runs a script; `$D` is a directory that both sides have, under two names. */
  function script(kind: HookKind, text: string, more: Partial<Hook> = {}): Hook {
    const directory = kind === 'startContainer' ? '/shared' : shared
    return { path: '/bin/sh', args: ['sh', '-c', text], env: [`D=${directory}`, 'PATH=/bin:/usr/bin'], ...more }
  }

  const mounts = () => [
    ...(specOf([]).mounts ?? []),
    { destination: '/shared', type: 'bind', source: shared, options: ['bind', 'rw'] },
  ]

  const create = (hooks: Hooks, changes: SpecChanges = {}, functions?: HookFunctions): Promise<RuntimeContainer> =>
    sandbox.create(
      specOf(['sh', '-c', 'echo program >>/shared/log; sleep 1000'], { mounts: mounts(), hooks, ...changes }),
      {
        hooks: functions,
      },
    )

  const log = (): readonly string[] => readFileSync(join(shared, 'log'), 'utf8').trim().split('\n')

  it('run in the order of the specification, each with the state of its moment', async () => {
    const all = Object.fromEntries(
      kinds.map((kind) => [kind, [1, 2].map((n) => script(kind, `echo ${kind} ${n} >>$D/log; cat >$D/${kind}-${n}`))]),
    )
    const container = await create(all, { annotations: { a: 'b' } })
    const { pid } = container
    expect(log()).toEqual(
      ['prestart', 'createRuntime', 'createContainer'].flatMap((kind) => [`${kind} 1`, `${kind} 2`]),
    )
    await container.start()
    await container.delete({ force: true })
    const names = log().filter((line) => line !== 'program')
    expect(names).toEqual(kinds.flatMap((kind) => [`${kind} 1`, `${kind} 2`]))
    const stateOf = (kind: HookKind): State => JSON.parse(readFileSync(join(shared, `${kind}-2`), 'utf8'))
    const { ociVersion } = specOf([])
    const common = { ociVersion, id: container.id, bundle: sandbox.bundle, annotations: { a: 'b' } }
    for (const kind of ['createRuntime', 'createContainer'] as const) {
      expect(stateOf(kind)).toEqual({ ...common, status: 'creating', pid })
    }
    expect(stateOf('prestart')).toEqual({ ...common, status: 'created', pid })
    expect(stateOf('startContainer')).toEqual({ ...common, status: 'created', pid })
    expect(stateOf('poststart')).toEqual({ ...common, status: 'running', pid })
    expect(stateOf('poststop')).toEqual({ ...common, status: 'stopped' })
  })

  it('run before the program, and after it', async () => {
    const container = await create({ startContainer: [script('startContainer', 'sleep 0.2; echo before >>$D/log')] })
    await container.start()
    await until('the program has run', () => log().length === 2)
    expect(log()).toEqual(['before', 'program'])
    await container.delete({ force: true })
  })

  it('run in the namespaces of their kind, with the environment that they are given only', async () => {
    const show =
      'readlink /proc/self/ns/mnt >$D/$K; readlink /proc/self/ns/pid >>$D/$K; ls / >>$D/$K; env | sort >>$D/$K'
    const all = Object.fromEntries(
      kinds.map((kind) => [
        kind,
        [
          script(kind, show, {
            env: [`D=${kind === 'startContainer' ? '/shared' : shared}`, `K=${kind}`, 'PATH=/bin:/usr/bin'],
          }),
        ],
      ]),
    )
    const container = await create(all)
    const [mount, pid] = ['mnt', 'pid'].map((name) => readlinkSync(`/proc/${container.pid}/ns/${name}`))
    await container.start()
    await container.delete({ force: true })
    const shown = (kind: HookKind): readonly string[] => readFileSync(join(shared, kind), 'utf8').trim().split('\n')
    for (const kind of kinds) {
      const inside = kind === 'createContainer' || kind === 'startContainer'
      const own = ['mnt', 'pid'].map((name) => readlinkSync(`/proc/self/ns/${name}`))
      expect(shown(kind).slice(0, 2), kind).toEqual(inside ? [mount, pid] : own)
      // The root of the container has this directory; before it is entered, that of the host is in sight.
      expect(shown(kind).includes('shared'), kind).toBe(kind === 'startContainer')
      expect(
        shown(kind).filter((line) => line.startsWith('HOME=') || line.startsWith('USER=')),
        kind,
      ).toEqual([])
    }
  })

  it.each(['prestart', 'createRuntime', 'createContainer'] as const)(
    '%s: when it fails, so does create',
    async (kind) => {
      const made = create({
        [kind]: [script(kind, 'echo no way >&2; exit 3'), script(kind, 'echo second >>$D/log')],
        poststop: [script('poststop', 'echo poststop >>$D/log')],
      })
      await expect(made).rejects.toMatchObject({
        code: 'ERR_OCI_RUNTIME',
        pointer: `/hooks/${kind}/0`,
        message: expect.stringMatching(/exit code 3: no way/),
      })
      expect(log()).toEqual(['poststop'])
    },
  )

  it.each(['startContainer', 'poststart'] as const)(
    '%s: when it fails, so does start, and the container ends',
    async (kind) => {
      const container = await create({
        [kind]: [script(kind, 'exit 3')],
        poststop: [script('poststop', 'echo poststop >>$D/log')],
      })
      await expect(container.start()).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', pointer: `/hooks/${kind}/0` })
      expect(container.state.status).toBe('stopped')
      expect((await container.exited).signal).toBe('SIGKILL')
      await container.delete()
      expect(log().at(-1)).toBe('poststop')
      if (kind === 'startContainer') expect(log()).not.toContain('program')
    },
  )

  it('poststop: when one fails, that is a warning, and the others run', async () => {
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve))
    const container = await create({
      poststop: [script('poststop', 'exit 3'), { path: '/nowhere' }, script('poststop', 'echo last >>$D/log')],
    })
    await container.delete({ force: true })
    expect((await warned).message).toContain('poststop hook /bin/sh failed: exit code 3')
    expect(log()).toEqual(['last'])
  })

  it.each(['createRuntime', 'startContainer'] as const)(
    '%s: is killed with all it has started when its time is over',
    async (kind) => {
      const hook = script(kind, 'echo late >&2; sleep 1000', { timeout: 1 })
      const run = async (): Promise<void> => {
        const container = await create({ [kind]: [hook] })
        await container.start()
      }
      await expect(run()).rejects.toMatchObject({
        code: 'ERR_OCI_RUNTIME',
        message: expect.stringMatching(/did not finish within 1000 ms: late/),
      })
    },
  )

  it('says what is wrong with the program of a hook', async () => {
    await expect(create({ createRuntime: [{ path: '/nowhere' }] })).rejects.toMatchObject({
      pointer: '/hooks/createRuntime/0',
    })
    await expect(create({ createContainer: [{ path: '/nowhere' }] })).rejects.toMatchObject({
      pointer: '/hooks/createContainer/0',
    })
  })

  it('may be functions, after the programs', async () => {
    const seen: string[] = []
    const functions = Object.fromEntries(
      kinds.map((kind) => [
        kind,
        [
          async (state: State, context: { readonly pid: number; readonly signal: AbortSignal }) => {
            seen.push(`${kind} ${state.status} ${existsSync(`/proc/${context.pid}/ns/mnt`)}`)
            expect(context.signal.aborted).toBe(false)
          },
        ],
      ]),
    )
    const container = await create({ createRuntime: [script('createRuntime', 'echo first >>$D/log')] }, {}, functions)
    await container.start()
    await container.delete({ force: true })
    expect(seen).toEqual([
      'prestart created true',
      'createRuntime creating true',
      'createContainer creating true',
      'startContainer created true',
      'poststart running true',
      'poststop stopped false',
    ])
    const failing = create({}, {}, { createRuntime: [() => Promise.reject(new Error('not today'))] })
    await expect(failing).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      message: expect.stringContaining('not today'),
    })
  })

  it('run for a container that is started and deleted by its id', async () => {
    const all = Object.fromEntries(kinds.map((kind) => [kind, [script(kind, `echo ${kind} >>$D/log`)]]))
    const { bundle, stateRoot } = sandbox
    const spec = specOf(['sleep', '1000'], { mounts: mounts(), hooks: all })
    const container = await createContainer({ id: sandbox.id(), spec, bundle, stateRoot, handOver: true })
    await container.release()
    await start(container.id, { stateRoot })
    await deleteContainer(container.id, { force: true, stateRoot })
    expect(log()).toEqual(kinds)
  })

  it('have the rights of the container inside of it, and no more', async () => {
    writeFileSync(join(shared, 'caps'), '')
    chmodSync(join(shared, 'caps'), 0o666)
    const container = await create(
      { startContainer: [script('startContainer', 'id -u >$D/caps; grep CapBnd /proc/self/status >>$D/caps')] },
      { process: { user: { uid: 12, gid: 13 }, capabilities: { bounding: ['CAP_CHOWN'] } } },
    )
    await container.start()
    await container.delete({ force: true })
    expect(readFileSync(join(shared, 'caps'), 'utf8')).toBe('12\nCapBnd:\t0000000000000001\n')
  })
})
