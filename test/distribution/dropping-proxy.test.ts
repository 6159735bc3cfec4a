import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import type { CopyProgress } from '../../src/content/copy-progress.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { anonymous, openRepository } from '../../src/distribution/index.ts'
import { NetworkError } from '../../src/errors.ts'
import { createRegistryServer } from '../../src/registry/index.ts'
import { startCutter } from './support/cutter.ts'
import { image, randomLayer, temporaryDirectory } from './support/images.ts'
import { registries } from './support/registries.ts'

const retry = { minDelay: 1, maxDelay: 50 }
const portOf = (host: string): number => Number(host.split(':')[1])

describe('a connection that breaks after each 10 MB', () => {
  it('costs a pull no more than 5 % of extra traffic', async () => {
    await using registry = await createRegistryServer()
    const layers = [randomLayer(64_000_000), randomLayer(23_000_000), randomLayer(5_000_000)]
    const { config, manifest } = image(...layers)
    const direct = openRepository(`${registry.host}/app`, { credentials: anonymous })
    for (const { descriptor, bytes } of [...layers, config]) await direct.push(descriptor, bytes)
    await direct.push(manifest.descriptor, manifest.bytes, { tags: ['1'] })
    await using cutter = await startCutter(registry.port, { down: 10_000_000 })
    await using directory = await temporaryDirectory()
    const layout = await LayoutStore.create(directory.path, { sync: false })
    const through = openRepository(`${cutter.host}/app`, { credentials: anonymous, retry })
    await copy(through, '1', layout)
    for (const { descriptor } of layers) expect(await layout.exists(descriptor)).toBe(true)
    const size = 92_000_000
    expect(cutter.cuts).toBeGreaterThanOrEqual(8)
    expect(cutter.down).toBeGreaterThan(size)
    expect(cutter.down / size).toBeLessThan(1.05)
  })
})

describe.each(registries)('a push to $name whose connection breaks', ({ name, missing, start }) => {
  const embedded = name.startsWith('the embedded')
  const layer = randomLayer(12_000_000)
  const patch = { method: 'patch', chunkSize: '4m' } as const

  it.skipIf(missing)('is done again by copy, in one PUT or in chunks', async () => {
    await using registry = await start()
    for (const upload of [{}, patch]) {
      await using cutter = await startCutter(portOf(registry.host), { up: [3_000_000, 7_000_000] })
      const source = new MemoryStore()
      const content = randomLayer(12_000_000)
      const { config, manifest } = image(content)
      for (const { descriptor, bytes } of [content, config, manifest]) await source.push(descriptor, bytes)
      await source.tag(manifest.descriptor, '1')
      const target = openRepository(`${cutter.host}/app`, { credentials: anonymous, retry, upload })
      const steps: CopyProgress[] = []
      await copy(source, '1', target, { onProgress: (step) => steps.push(step) })
      expect(await target.exists(content.descriptor)).toBe(true)
      expect(cutter.cuts).toBeGreaterThan(0)
      expect(steps.at(-1)).toMatchObject({ kind: 'done', transferred: steps.at(-1)?.total })
      expect(steps.at(-1)?.totals.retries).toBeGreaterThan(0)
    }
  })

  it.skipIf(missing)('goes on in chunks from memory, or begins anew where the registry has lost them', async () => {
    await using registry = await start()
    await using cutter = await startCutter(portOf(registry.host), { up: [9_000_000, 3_000_000] })
    const target = openRepository(`${cutter.host}/app`, { credentials: anonymous, retry, upload: patch })
    await target.push(layer.descriptor, layer.bytes)
    expect(await target.exists(layer.descriptor)).toBe(true)
    expect(cutter.cuts).toBe(2)
    // No more than the chunk at hand, twice.
    if (embedded) expect(cutter.up).toBeLessThan(12_000_000 + 2 * 4 * 2 ** 20)
  })

  it.skipIf(missing)(
    'in chunks of a stream goes on where the registry can do that, else tells of the break',
    async () => {
      await using registry = await start()
      await using cutter = await startCutter(portOf(registry.host), { up: [9_000_000] })
      const target = openRepository(`${cutter.host}/app`, { credentials: anonymous, retry, upload: patch })
      const pushing = target.push(layer.descriptor, Readable.from([layer.bytes]))
      if (embedded) await pushing
      else await expect(pushing).rejects.toThrow(NetworkError)
      expect(await target.exists(layer.descriptor)).toBe(embedded)
    },
  )
})
