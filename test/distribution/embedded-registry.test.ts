import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { openRepository } from '../../src/distribution/index.ts'
import { NotFoundError } from '../../src/errors.ts'
import { createRegistryServer, memoryStorage, type RegistryServer } from '../../src/registry/index.ts'
import { image, randomLayer } from './support/images.ts'

describe('with the embedded registry', () => {
  let server: RegistryServer
  beforeAll(async () => {
    server = await createRegistryServer({ storage: memoryStorage() })
  })
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]()
  })

  it('an image goes there and comes back', async () => {
    const layers = [randomLayer(3_000_000), randomLayer(1)]
    const { config, manifest } = image(...layers)
    const repository = openRepository(`${server.host}/team/app`)
    await expect(repository.resolve('1')).rejects.toThrow(NotFoundError)
    for (const { descriptor, bytes } of [...layers, config, manifest]) {
      await repository.push(descriptor, Readable.from([bytes]))
    }
    await repository.tag(manifest.descriptor, '1')
    const store = new MemoryStore()
    expect(await copy(openRepository(`${server.host}/team/app`), '1', store)).toEqual(manifest.descriptor)
    for (const { descriptor } of layers) expect(await store.exists(descriptor)).toBe(true)
  })
})
