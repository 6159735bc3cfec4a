import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { anonymous, createRegistryClient, openRepository, type Repository } from '../../src/distribution/index.ts'
import { NotFoundError } from '../../src/errors.ts'
import { digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { all, content, image, randomLayer } from './support/images.ts'
import { registries, type TestRegistry } from './support/registries.ts'

async function pushImage(repository: Repository, ...tags: string[]): Promise<ReturnType<typeof image>['manifest']> {
  const layer = randomLayer(1000)
  const { config, manifest } = image(layer)
  for (const { descriptor, bytes } of [layer, config]) await repository.push(descriptor, bytes)
  await repository.push(manifest.descriptor, manifest.bytes, { tags })
  return manifest
}

describe.each(registries)('$name', ({ name, missing, start }) => {
  const embedded = name.includes('embedded')
  let registry: TestRegistry
  beforeAll(async () => {
    if (!missing) registry = await start()
  })
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]()
  })
  const open = (path: string): Repository => openRepository(`${registry.host}/${path}`, { credentials: anonymous })
  const test = it.skipIf(missing)

  test('lists all tags, whatever the size of a page', async () => {
    const repository = open('list/tags')
    const tags = ['a', 'b', 'c', 'd', 'e']
    await pushImage(repository, ...tags)
    for (const pageSize of [1, 2, 5, 1000]) {
      expect((await all(repository.tags({ pageSize }))).sort()).toEqual(tags)
    }
    // docker-registry has no pages of tags: it ignores `n` and `last`.
    const rest = embedded ? ['d', 'e'] : tags
    expect((await all(repository.tags({ pageSize: 1, last: 'c' }))).sort()).toEqual(rest)
  })

  test('has no tags of a repository that is not there', async () => {
    await expect(all(open('list/none').tags())).rejects.toThrow(NotFoundError)
  })

  test('lists its repositories', async () => {
    await pushImage(open('catalog/a'))
    await pushImage(open('catalog/b'))
    const client = createRegistryClient({ credentials: anonymous })
    const names = await all(client.catalog(registry.host, { pageSize: 1 }))
    expect(names).toEqual(expect.arrayContaining(['catalog/a', 'catalog/b']))
    expect(new Set(names).size).toBe(names.length)
  })

  test('gives one manifest several tags in one push', async () => {
    const repository = open('tags/several')
    const manifest = await pushImage(repository, 'x', 'y', 'z')
    for (const tag of ['x', 'y', 'z']) expect(await repository.resolve(tag)).toEqual(manifest.descriptor)
  })

  test('deletes a manifest, and with it its tags', async () => {
    const repository = open('delete/manifest')
    const manifest = await pushImage(repository, '1')
    await repository.delete(manifest.descriptor)
    const again = open('delete/manifest')
    await expect(again.resolve(manifest.descriptor.digest)).rejects.toThrow(NotFoundError)
    await expect(again.resolve('1')).rejects.toThrow(NotFoundError)
    await expect(again.delete(manifest.descriptor)).rejects.toThrow(NotFoundError)
  })

  test('deletes a blob', async () => {
    const repository = open('delete/blob')
    const layer = randomLayer(10)
    await repository.push(layer.descriptor, layer.bytes)
    await repository.delete(layer.descriptor)
    expect(await repository.exists(layer.descriptor)).toBe(false)
  })

  test(`${embedded ? 'deletes a tag, not its manifest' : 'says that it deletes no single tag'}`, async () => {
    const repository = open('delete/tag')
    const manifest = await pushImage(repository, '1', '2')
    if (embedded) {
      await repository.untag('1')
      expect(await all(repository.tags())).toEqual(['2'])
    } else {
      await expect(repository.untag('1')).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED' })
    }
    expect(await repository.resolve('2')).toEqual(manifest.descriptor)
  })

  test('takes a blob over from another repository', async () => {
    const layer = randomLayer(100_000)
    const [from, to] = [open('mount/from'), open('mount/to')]
    await from.push(layer.descriptor, layer.bytes)
    expect(await to.mount(layer.descriptor, from)).toBe(true)
    expect(await to.exists(layer.descriptor)).toBe(true)
    expect(await open('mount/other').mount(layer.descriptor, 'mount/from')).toBe(true)
    expect(await to.mount(randomLayer(10).descriptor, 'mount/from')).toBe(false)
    expect(await to.mount(layer.descriptor, openRepository('127.0.0.1:1/mount/from'))).toBe(false)
  })

  test('copies from one of its repositories to another without a blob that moves', async () => {
    const source = open('within/a')
    const manifest = await pushImage(source, '1')
    const [kinds, target]: [string[], Repository] = [[], open('within/b')]
    await copy(source, '1', target, {
      onProgress: ({ kind, descriptor }) => kinds.push(`${kind} ${descriptor.mediaType}`),
    })
    expect(kinds.filter((kind) => kind.startsWith('mounted')).sort()).toEqual([
      `mounted ${mediaType.ociConfig}`,
      `mounted ${mediaType.ociLayer}`,
    ])
    expect(await target.resolve('1')).toEqual(manifest.descriptor)
  })

  test.each(['post', 'patch'] as const)('takes uploads by %s', async (method) => {
    const client = createRegistryClient({ credentials: anonymous, upload: { method, chunkSize: 10_000 } })
    const repository = client.repository(`${registry.host}/upload/${method}`)
    for (const size of [0, 1, 9_999, 10_000, 10_001, 45_000]) {
      const bytes = randomLayer(size)
      await repository.push(bytes.descriptor, bytes.bytes)
      const stream = randomLayer(size)
      await repository.push(stream.descriptor, Readable.from([stream.bytes.subarray(0, 3), stream.bytes.subarray(3)]))
      for (const { descriptor } of [bytes, stream]) expect(await repository.exists(descriptor)).toBe(true)
    }
  })

  test('finds the referrers of a manifest, all or by type', async () => {
    const repository = open('referrers/all')
    const subject = (await pushImage(repository, '1')).descriptor
    const empty = content(mediaType.emptyJson, '{}')
    await repository.push(empty.descriptor, empty.bytes)
    const artifact = (artifactType: string, note: string): ReturnType<typeof content> =>
      content(
        mediaType.ociManifest,
        JSON.stringify({
          schemaVersion: 2,
          mediaType: mediaType.ociManifest,
          artifactType,
          config: empty.descriptor,
          layers: [],
          subject,
          annotations: { note },
        }),
      )
    expect(await all(repository.referrers(subject))).toEqual([])
    const three = [artifact('a/b', 'one'), artifact('a/b', 'two'), artifact('c/d', 'three')]
    // Each with a client of its own, at the same time: none may lose what another one writes.
    await Promise.all(three.map(({ descriptor, bytes }) => open('referrers/all').push(descriptor, bytes)))
    await repository.push(three[0]?.descriptor ?? subject, three[0]?.bytes ?? new Uint8Array())
    const expected = three.map(({ descriptor }, i) => ({
      ...descriptor,
      artifactType: i === 2 ? 'c/d' : 'a/b',
      annotations: { note: ['one', 'two', 'three'][i] },
    }))
    const found = await all(repository.referrers(subject))
    expect(found).toHaveLength(3)
    expect(found).toEqual(expect.arrayContaining(expected))
    expect(await all(repository.referrers(subject.digest, { artifactType: 'c/d' }))).toEqual([expected[2]])
    await repository.delete(three[2]?.descriptor ?? subject)
    expect(await all(repository.referrers(subject))).toHaveLength(2)
  })

  test('keeps content that is named by its sha512', async () => {
    const { descriptor, bytes } = randomLayer(1000)
    const long = { ...descriptor, digest: digestOf(bytes, 'sha512') }
    const repository = open('sha512/app')
    await repository.push(long, bytes)
    expect(await repository.exists(long)).toBe(true)
  })
})
