import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { anonymous, openRepository } from '../../src/distribution/index.ts'
import { InvalidArgumentError, NotFoundError, TimeoutError } from '../../src/errors.ts'
import type { CopyProgress } from '../../src/index.ts'
import { createRegistryServer } from '../../src/registry/index.ts'
import { startServer } from '../distribution/support/scripted-server.ts'
import { tar } from '../layer/support/tar.ts'
import { image } from '../store/support/image.ts'
import { serveImage } from './support/image-server.ts'
import { Sandbox } from './support/sandbox.ts'

const registry = { credentials: anonymous, retry: { minDelay: 1, maxDelay: 2 } }

describe.skipIf(process.platform !== 'linux')('a push (skipped on anything but Linux: layers are unpacked)', () => {
  let sandbox: Sandbox
  beforeAll(() => {
    sandbox = new Sandbox()
  })
  afterAll(() => sandbox.remove())

  it('sends an image to where its name says, or elsewhere, byte by byte', async () => {
    const one = image([tar({ name: 'a', content: 'a' }), tar({ name: 'b', content: 'b' })])
    await using source = await serveImage(one)
    await using server = await createRegistryServer()
    const { engine } = sandbox
    const pulled = await engine.pull(`${source.host}/app:1`, { registry, unpack: false })
    const pushed = await engine.push(pulled, { registry, to: `${server.host}/team/app:2` })
    expect(pushed).toMatchObject({
      reference: `${server.host}/team/app:2`,
      descriptor: { digest: one.descriptor.digest },
    })
    const repository = openRepository(`${server.host}/team/app`, { credentials: anonymous })
    expect((await repository.resolve('2')).digest).toBe(one.descriptor.digest)
    const again = await engine.pull(`${server.host}/team/app:2`, { registry })
    expect(again.digest).toBe(pulled.digest)
    await repository.untag('2')
    await engine.push(`${server.host}/team/app:2`, { registry })
    expect((await repository.resolve('2')).digest).toBe(one.descriptor.digest)
  })

  it('tells what it skips and what the registry takes over by itself', async () => {
    await using server = await createRegistryServer()
    const { engine } = sandbox
    await sandbox.put('pushed', image([tar({ name: 'c', content: 'c' })]))
    const kinds = async (to: string): Promise<readonly CopyProgress['kind'][]> => {
      const seen: CopyProgress[] = []
      for await (const progress of engine.push('pushed', { registry, to })) seen.push(progress)
      expect(seen.at(-1)?.transferred).toBe(seen.at(-1)?.total)
      return seen.map(({ kind }) => kind)
    }
    expect(await kinds(`${server.host}/a:1`)).toContain('transferred')
    const second = await kinds(`${server.host}/a:2`)
    expect(second).toContain('skipped')
    expect(second).not.toContain('transferred')
  })

  it('says what is wrong with what it was asked for', async () => {
    const { engine } = sandbox
    await expect(engine.push('example.com/none:1', { registry })).rejects.toThrow(NotFoundError)
    const to = `example.com/app@sha256:${'0'.repeat(64)}`
    await expect(engine.push('pushed', { registry, to })).rejects.toThrow(InvalidArgumentError)
    await using silent = await startServer(() => {})
    const pushing = engine.push('pushed', { registry, to: `${silent.host}/app:1`, timeout: '50ms' })
    await expect(pushing).rejects.toThrow(TimeoutError)
  })
})
