import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { type Container, type PooledRunOptions, wait } from '../../src/index.ts'
import { Channel } from '../../src/linux/remote/channel.ts'
import { containerSpec } from '../../src/runtime/index.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

const original = Channel.prototype.become

describe.skipIf(cannotRunAsRoot)(`a pool of containers of an image (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
    await sandbox.put('box', busyboxImage())
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const pool = (size: number, options: object = {}) => sandbox.engine.createPool('box', { size, ...options })
  type AnyPool = Awaited<ReturnType<typeof pool>>

  const lines = async (container: Container): Promise<readonly string[]> => {
    const all: string[] = []
    for await (const { text } of container.logs({ follow: true })) all.push(text)
    return all
  }
  const sh = async (from: AnyPool, script: string, options: PooledRunOptions = {}): Promise<readonly string[]> => {
    await using container = await from.run({ command: ['sh', '-c', script], ...options })
    const written = await lines(container)
    expect(await container.exited).toMatchObject({ code: 0 })
    return written
  }

  it('gives each run a layer of its own, and its own choices over those of the pool', async () => {
    await using two = await pool(2, { env: { A: 'pool', B: 'pool' }, memory: '64m' })
    expect(await sh(two, 'echo changed >/etc/passwd; cat /etc/passwd')).toEqual(['changed'])
    const script = 'head -n1 /etc/passwd; echo $A $B; id -u; pwd; hostname'
    const chosen = { env: { A: 'run' }, user: 'user', workingDir: '/new/place', hostname: 'chosen' }
    expect(await sh(two, script, chosen)).toEqual([
      'root:x:0:0:root:/root:/bin/sh',
      'run pool',
      '1000',
      '/new/place',
      'chosen',
    ])
  })

  it('plans what it runs again once, also where the id of the container is in it', async () => {
    const batches: unknown[] = []
    const become = vi.spyOn(Channel.prototype, 'become').mockImplementation(function (this: Channel, calls, options) {
      batches.push(calls)
      return original.call(this, calls, options)
    })
    try {
      await using one = await pool(1)
      const command = ['sh', '-c', 'echo $HOSTNAME; hostname; tr "\\0" "\\n" </proc/$$/environ | grep ^OWN']
      for (let run = 0; run < 5; run++) {
        await using container = await one.run({ command, env: { OWN: 'same' } })
        const { id } = container
        const short = id.slice(0, 12)
        expect(await lines(container)).toEqual([short, short, 'OWN=same'])
        const { hostname, process } = await containerSpec(id, { stateRoot: sandbox.state })
        expect({ hostname, env: process?.env }).toMatchObject({
          hostname: short,
          env: expect.arrayContaining([`HOSTNAME=${short}`, 'OWN=same']),
        })
        expect(process?.args).toEqual(command)
      }
      await using other = await one.run({ command: ['sh', '-c', 'echo other'] })
      expect(await lines(other)).toEqual(['other'])
    } finally {
      become.mockRestore()
    }
    expect(batches).toHaveLength(6)
    // The containers of a pool have one plan from the second or third on.
    expect(batches[4]).toBe(batches[3])
    expect(batches[5]).not.toBe(batches[4])
  })

  it('feeds input, waits until it is ready, and executes further programs', async () => {
    await using one = await pool(1)
    expect(await sh(one, 'cat', { input: 'fed' })).toEqual(['fed'])
    const command = ['sh', '-c', 'echo ready; sleep 1000']
    await using container = await one.run({ name: 'named', command, ready: wait.log('ready') })
    expect(container.name).toBe('named')
    expect(await container.exec(['echo', 'inside'])).toMatchObject({ exitCode: 0, stdout: 'inside\n' })
  })

  it('waits with each run for what the pool waits for, unless the run waits for something else', async () => {
    await using one = await pool(1, { ready: wait.log('up') })
    const command = ['sh', '-c', 'sleep 0.1; echo up; sleep 0.1; echo further; sleep 1000']
    const written = async (container: Container): Promise<readonly string[]> => {
      const all: string[] = []
      for await (const { text } of container.logs()) all.push(text)
      return all
    }
    await using first = await one.run({ command })
    expect(await written(first)).toContain('up')
    await using second = await one.run({ command, ready: wait.log('further') })
    expect(await written(second)).toEqual(['up', 'further'])
  })

  it('leaves nothing behind when a run fails, and goes on', async () => {
    await using one = await pool(1)
    await expect(one.run({ command: ['no-such-program'] })).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME' })
    await expect(one.run({ user: 'nobody-knows' })).rejects.toThrow()
    expect(await sh(one, 'echo ok')).toEqual(['ok'])
  })

  it('serves more runs at once than it has containers', async () => {
    await using two = await pool(2)
    const results = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => sh(two, `echo ${n}`)))
    expect(results.flat()).toEqual(['1', '2', '3', '4', '5', '6'])
  })

  it('refuses what its containers can not have', async () => {
    const refused = { code: 'ERR_OCI_INVALID_ARGUMENT' }
    await expect(pool(0)).rejects.toMatchObject(refused)
    await expect(pool(1, { detach: true })).rejects.toMatchObject(refused)
    await expect(pool(1, { input: 'for all' })).rejects.toMatchObject(refused)
    await expect(pool(1, { cgroupsPath: '/shared' })).rejects.toMatchObject(refused)
  })
})
