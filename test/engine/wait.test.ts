import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { InvalidArgumentError, StartupError, TimeoutError } from '../../src/errors.ts'
import { type WaitStrategy, wait } from '../../src/index.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

/** A strategy that is never satisfied. */
const never: WaitStrategy = { name: 'doomsday', wait: () => new Promise(() => {}) }

describe('wait strategies', () => {
  it('are named by what they wait for', () => {
    expect(wait.log('up').name).toBe('log "up"')
    expect(wait.all(wait.log(/up/i, { count: 2 }), wait.exit(1, 2)).name).toBe('log /up/i 2 times and exit with 1 or 2')
    expect(wait.any(never, wait.exit()).name).toBe('doomsday or exit with 0')
  })

  it('must have something to wait for', () => {
    expect(() => wait.log('x', { count: 0 })).toThrow(InvalidArgumentError)
    expect(() => wait.all()).toThrow(InvalidArgumentError)
    expect(() => wait.any()).toThrow(InvalidArgumentError)
  })
})

describe.skipIf(cannotRunAsRoot)(`a container is ready (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const ready = async (script: string, strategy: WaitStrategy): Promise<void> => {
    const box = await sandbox.run(['sh', '-c', script], { ready: strategy, timeout: '20s' })
    await box.remove()
  }
  const failure = async (
    script: string,
    strategy: WaitStrategy,
    timeout: `${number}s` = '20s',
  ): Promise<StartupError> => {
    const made = sandbox.run(['sh', '-c', script], { ready: strategy, timeout, name: 'box' })
    const error: unknown = await made.then(() => undefined).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(StartupError)
    return error as StartupError
  }

  it('when its log says so, so many times, in the stream that is meant', async () => {
    await ready('echo up; sleep 1000', wait.log('up'))
    await ready('echo "it is up"; sleep 1000', wait.log(/is\s+up/g))
    await ready('echo up; echo up; sleep 1000', wait.log(/up/g, { count: 2 }))
    await ready('echo up; echo up >&2; sleep 1000', wait.log('up', { stream: 'stderr' }))
    const lonely = await failure('echo up; exit 0', wait.log('up', { count: 2 }))
    expect(lonely.exit).toMatchObject({ code: 0 })
    expect((await failure('echo up', wait.log('up', { stream: 'stderr' }))).exit).toMatchObject({ code: 0 })
  })

  it('also when it says so and ends', async () => {
    await ready('seq 1000; echo up', wait.log('up'))
  })

  it('when it has ended with the right code', async () => {
    await ready('exit 0', wait.exit())
    await ready('exit 3', wait.exit(1, 3))
    expect((await failure('exit 3', wait.exit())).exit).toMatchObject({ code: 3 })
  })

  it('when all of it or any of it is', async () => {
    await ready('echo a; echo b; sleep 1000', wait.all(wait.log('a'), wait.log('b')))
    await ready('echo a; exit 0', wait.all(wait.log('a'), wait.exit(0)))
    await ready('echo a; sleep 1000', wait.any(wait.log('x'), wait.log('a'), never))
    await ready('exit 0', wait.any(never, wait.exit(0)))
    await failure('exit 1', wait.any(never, wait.exit(0)))
    await failure('exit 0', wait.all(wait.log('a'), wait.exit(0)))
    await failure('exit 0', wait.all(never, wait.exit(0)))
  })

  it('or has crashed: known at once, with its end and its last 50 lines', async () => {
    const began = Date.now()
    const error = await failure('seq 100; echo oops >&2; exit 9', wait.log('never'))
    expect(Date.now() - began).toBeLessThan(5000)
    expect(error).toMatchObject({ code: 'ERR_OCI_STARTUP', subject: 'box', exit: { code: 9, oomKilled: false } })
    expect(error.logs).toHaveLength(50)
    expect(error.logs).toContain('oops')
    expect(error.logs).toContain('100')
    expect(error.message).toMatch(/^container box .* exited with code 9 while waiting for log "never" \(\d+\.\d s\)/)
  })

  it('or is not in time: with what it wrote so far', async () => {
    const error = await failure('echo still busy; sleep 1000', never, '0.5s')
    expect(error).toMatchObject({ exit: undefined, logs: ['still busy'], cause: expect.any(TimeoutError) })
    expect(error.message).toMatch(/was not ready in time while waiting for doomsday/)
  })

  it('never, when a strategy of a user fails: with its own error', async () => {
    const own = new Error('own')
    const strategy: WaitStrategy = { name: 'own', wait: () => Promise.reject(own) }
    await expect(sandbox.run(['sleep', '1000'], { ready: strategy })).rejects.toBe(own)
    const throws: WaitStrategy = {
      name: 'own',
      wait() {
        throw own
      },
    }
    await expect(sandbox.run(['sleep', '1000'], { ready: throws })).rejects.toBe(own)
  })
})
