import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Container, createEngine, type Engine, OciError } from '../../src/index.ts'
import { cannotRun } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

/** What a caller without types may give. */
const wrong: readonly (readonly [string, unknown])[] = [
  ['undefined', undefined],
  ['null', null],
  ['a number', 7],
  ['an empty string', ''],
  ['an object', {}],
  ['an array', []],
  ['true', true],
  ['a symbol', Symbol.iterator],
]
/** Nothing of it is an object with options; undefined is none at all. */
const noOptions = wrong.filter(([name]) => name !== 'undefined' && name !== 'an object')

type Call = (value: unknown) => unknown

/** What came of a call, whether it throws, rejects, or is iterated. */
async function outcome(call: Call, value: unknown): Promise<unknown> {
  try {
    const made = call(value)
    if (typeof made === 'object' && made !== null && Symbol.asyncIterator in made && !('then' in made)) {
      for await (const _ of made as AsyncIterable<unknown>) break
    } else await made
    return 'no error'
  } catch (error) {
    return error
  }
}

/** Calls that must fail with an error of this library for each of the values, and at once. */
function table(calls: () => Readonly<Record<string, Call>>, names: readonly string[], values: typeof wrong): void {
  const rows = names.flatMap((name) => values.map(([kind, value]) => [name, kind, value] as const))
  it.each(rows)('%s: %s', async (name, _, value) => {
    const error = await outcome(calls()[name] as Call, value)
    expect(error).toBeInstanceOf(OciError)
    expect((error as OciError).code).toMatch(/^ERR_OCI_(INVALID_|NOT_FOUND|SYSCALL)/)
    // In words, not in those of a JavaScript engine.
    expect((error as OciError).message).not.toMatch(/Cannot |undefined \(|is not a function|argument must be of type/)
  })
}

const imageVerbs = [
  'push',
  'run',
  'createPool',
  'removeImage',
  'tag',
  'inspect',
  'history',
  'squash',
  'convert',
  'save',
]
const otherVerbs = ['pull', 'attach', 'commit', 'importRootfs', 'load', 'tag name', 'save target']
const volumeVerbs = ['volumes.inspect', 'volumes.remove', 'volumes.export', 'volumes.import', 'volumes.import archive']
const optionVerbs = ['pull', 'push', 'run', 'createPool', 'removeImage', 'inspect', 'history', 'squash', 'convert']
const listVerbs = ['images', 'prune', 'check', 'repair', 'volumes.list', 'volumes.prune', 'createEngine', 'load']

describe('an engine tells what is wrong with an argument', () => {
  let directory: string
  let engine: Engine
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-arguments-'))
    engine = createEngine({ root: join(directory, 'store'), state: join(directory, 'state') })
  })
  afterAll(() => {
    // Nothing was made of what was wrong.
    expect(readdirSync(join(directory, 'store/volumes'))).toEqual([])
    rmSync(directory, { recursive: true, force: true })
  })

  const verb = (name: string, ...more: readonly unknown[]): Call => {
    const of = engine as unknown as Record<string, (...args: readonly unknown[]) => unknown>
    return (value) => of[name]?.(value, ...more)
  }
  const volumes = (): Record<string, (...args: readonly unknown[]) => unknown> => engine.volumes as never

  describe('which image, container or archive', () => {
    const calls = (): Readonly<Record<string, Call>> => ({
      ...Object.fromEntries(
        [
          'push',
          'run',
          'inspect',
          'history',
          'commit',
          'squash',
          'convert',
          'load',
          'pull',
          'attach',
          'importRootfs',
          'removeImage',
        ].map((name) => [name, verb(name)]),
      ),
      createPool: verb('createPool', { size: 1 }),
      tag: verb('tag', 'name:1'),
      save: verb('save', join(directory, 'x.tar')),
      'tag name': (value) => engine.tag('a', value as string),
      'save target': (value) => engine.save('a', value as string),
      ...Object.fromEntries(
        ['inspect', 'remove', 'export'].map((name) => [
          `volumes.${name}`,
          (value: unknown) => volumes()[name]?.(value),
        ]),
      ),
      'volumes.import': (value) => volumes().import?.(value, Buffer.alloc(1024)),
      'volumes.import archive': (value) => volumes().import?.('v', value),
    })
    table(calls, [...imageVerbs, ...otherVerbs, ...volumeVerbs], wrong)
    const creating = (): Readonly<Record<string, Call>> => ({ 'volumes.create': (value) => volumes().create?.(value) })
    table(
      creating,
      ['volumes.create'],
      wrong.filter(([name]) => name !== 'undefined'),
    )
  })

  describe('which options', () => {
    const calls = (): Readonly<Record<string, Call>> => ({
      ...Object.fromEntries(optionVerbs.map((name) => [name, (value: unknown) => verb(name, value)('nothing:1')])),
      ...Object.fromEntries(['images', 'prune', 'check', 'repair'].map((name) => [name, verb(name)])),
      ...Object.fromEntries(
        ['list', 'prune'].map((name) => [`volumes.${name}`, (value: unknown) => volumes()[name]?.(value)]),
      ),
      createEngine: (value) => createEngine(value as object),
      load: (value) => verb('load', value)('/nowhere.tar'),
    })
    table(calls, [...optionVerbs, ...listVerbs], noOptions)
  })

  describe('which store', () => {
    const opening =
      (option: string): Call =>
      (value) => {
        const root = join(directory, 'other')
        const options = option === 'root' ? { root: value } : { root, store: { [option]: value } }
        return createEngine(options as object).store()
      }
    const calls = (): Readonly<Record<string, Call>> =>
      Object.fromEntries(['root', 'rootfs', 'durability'].map((name) => [name, opening(name)]))
    table(
      calls,
      ['root', 'rootfs', 'durability'],
      wrong.filter(([name]) => name !== 'undefined'),
    )
    it('is not made', () => expect(existsSync(join(directory, 'other'))).toBe(false))
  })
})

describe.skipIf(cannotRun)(`a container tells what is wrong with an argument (${cannotRun ?? 'a real one'})`, () => {
  let sandbox: Sandbox
  let box: Container
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.put('busybox')
    box = await sandbox.run(['sleep', '1000'])
  })
  afterAll(async () => {
    await box.remove()
    sandbox.remove()
  })

  const method = (name: string, ...more: readonly unknown[]): Call => {
    return (value) =>
      (box as unknown as Record<string, (...args: readonly unknown[]) => unknown>)[name]?.(value, ...more)
  }
  const first = ['copyIn', 'copyOut', 'exec', 'spawn', 'removeMount', 'addMount']
  const calls = (): Readonly<Record<string, Call>> => ({
    copyIn: method('copyIn', '/tmp'),
    copyOut: method('copyOut', '/nowhere/at/all'),
    ...Object.fromEntries(['exec', 'spawn', 'removeMount', 'addMount'].map((name) => [name, method(name)])),
    'copyIn path': (value) => box.copyIn('/etc/passwd', value as string),
    'copyOut target': (value) => box.copyOut('/etc/passwd', value as string),
  })
  table(calls, first, wrong)
  table(calls, ['copyIn path', 'copyOut target'], wrong)
  const optioned = ['copyIn', 'copyOut', 'exec', 'spawn', 'pause', 'stats', 'events', 'stop', 'logs', 'update', 'kill']
  const withOptions = (): Readonly<Record<string, Call>> => ({
    copyIn: (value) => box.copyIn('/etc/passwd', '/tmp', value as object),
    copyOut: (value) => box.copyOut('/etc/passwd', '/nowhere/at/all', value as object),
    exec: (value) => box.exec(['true'], value as object),
    spawn: (value) => box.spawn(['true'], value as object),
    kill: (value) => box.kill('SIGCONT', value as object),
    ...Object.fromEntries(['pause', 'stats', 'events', 'stop', 'logs', 'update'].map((name) => [name, method(name)])),
  })
  table(withOptions, optioned, noOptions)
  const killing = (): Readonly<Record<string, Call>> => ({ kill: method('kill') })
  table(
    killing,
    ['kill'],
    wrong.filter(([name]) => !['undefined', 'a number'].includes(name)),
  )

  it('and goes on', async () => {
    expect((await box.exec(['echo', 'x'])).stdout).toBe('x\n')
  })
})
