import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { openArchive } from '../../../src/content/archive/open.ts'
import { copy } from '../../../src/content/copy.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import { readAll } from '../../../src/content/verify.ts'
import { NotFoundError } from '../../../src/errors.ts'
import { parseManifest } from '../../../src/image/manifest.ts'
import { mediaType } from '../../../src/image/media-type.ts'
import { tar } from '../../layer/support/tar.ts'
import { temporaryDirectory } from '../support.ts'
import { config, dockerManifest, hex, layer, load, stream } from './support.ts'

describe('a Docker archive', () => {
  const [a, b, big] = [layer('a'), layer('b'), layer(randomBytes(6_000_000))]

  /** As skopeo and podman, as Docker before 25, and as go-containerregistry write them. */
  const archives: readonly (readonly [string, Buffer])[] = [
    [
      'with layers by digest',
      tar(
        ...[a, b, big].map((each) => ({ name: `${hex(each)}.tar`, content: each })),
        { name: `${hex(config(a, b, big))}.json`, content: config(a, b, big) },
        dockerManifest([
          {
            Config: `${hex(config(a, b, big))}.json`,
            RepoTags: ['x:1', 'example.com/y:2'],
            Layers: [a, b, big].map((each) => `${hex(each)}.tar`),
          },
        ]),
      ),
    ],
    [
      'with layers in folders, of which one is a link',
      tar(
        { name: 'one/', type: '5' },
        { name: 'one/VERSION', content: '1.0' },
        { name: 'one/json', content: '{}' },
        { name: 'one/layer.tar', content: a },
        { name: 'real/layer.tar', content: b },
        { name: 'two/layer.tar', type: '2', linkName: '../real/layer.tar' },
        { name: 'three/layer.tar', content: big },
        { name: `./${hex(config(a, b, big))}.json`, content: config(a, b, big) },
        dockerManifest([
          {
            Config: `${hex(config(a, b, big))}.json`,
            RepoTags: ['x:1', 'example.com/y:2'],
            Layers: ['one/layer.tar', 'two/layer.tar', 'three/layer.tar'],
          },
        ]),
        { name: 'repositories', content: '{}' },
      ),
    ],
    [
      'with the list first and hard links',
      tar(
        dockerManifest([
          { Config: 'config.json', RepoTags: ['x:1', 'example.com/y:2'], Layers: ['a.tar', 'c.tar', 'big.tar'] },
        ]),
        { name: 'config.json', content: config(a, b, big) },
        { name: 'a.tar', content: a },
        { name: 'b.tar', content: b },
        { name: 'c.tar', type: '1', linkName: 'b.tar' },
        { name: 'big.tar', content: big },
      ),
    ],
  ]

  it.each(archives)('%s is read in place and from a stream, to the same image', async (_, bytes) => {
    const { path, remove } = await temporaryDirectory()
    await writeFile(join(path, 'a.tar'), bytes)
    await using archive = await openArchive(join(path, 'a.tar'))
    await remove()
    expect(archive.format).toBe('docker')
    const streamed = await load(bytes)
    const expected = ['docker.io/library/x:1', 'example.com/y:2']
    expect(streamed.images.map(({ reference }) => reference)).toEqual(expected)
    expect((await archive.list()).map(({ reference }) => reference)).toEqual(expected)
    expect((await archive.resolve('x:1')).digest).toBe((await streamed.store.resolve(expected[0] ?? '')).digest)
    const target = new MemoryStore()
    const manifest = parseManifest(await readAll(target, await copy(archive, 'x:1', target), 100_000)).value
    expect(manifest.config.digest).toBe(`sha256:${hex(config(a, b, big))}`)
    expect(manifest.layers.map(({ digest }) => digest)).toEqual([a, b, big].map((each) => `sha256:${hex(each)}`))
    expect(manifest.layers.every((each) => each.mediaType === mediaType.ociLayer)).toBe(true)
    await copy(streamed.store, expected[0] ?? '', new MemoryStore())
  })

  it('may hold several images that share layers, some without a name', async () => {
    const bytes = tar(
      { name: 'a.tar', content: a },
      { name: 'b.tar', content: b },
      { name: '1.json', content: config(a) },
      { name: '2.json', content: config(a, b) },
      dockerManifest([
        { Config: '1.json', RepoTags: ['one:1'], Layers: ['a.tar'] },
        { Config: '2.json', RepoTags: null, Layers: ['a.tar', 'b.tar'] },
      ]),
    )
    const { images: loaded, store } = await load(bytes)
    expect(loaded.map(({ reference }) => reference)).toEqual(['docker.io/library/one:1', undefined])
    await copy(store, loaded[1]?.descriptor.digest ?? '', new MemoryStore())
    const only = await load(bytes, { only: ['docker.io/library/one:1'] })
    expect(only.images).toHaveLength(1)
    await expect(load(bytes, { only: ['two:1'] })).rejects.toThrow(NotFoundError)
  })

  it('may hold compressed layers', async () => {
    const bytes = tar(
      { name: `${hex(gzipSync(a))}.tar.gz`, content: gzipSync(a) },
      { name: 'b/layer.tar', content: gzipSync(b) },
      { name: 'c.json', content: config(a, b) },
      dockerManifest([{ Config: 'c.json', RepoTags: ['x:1'], Layers: [`${hex(gzipSync(a))}.tar.gz`, 'b/layer.tar'] }]),
    )
    const { store } = await load(bytes)
    await using archive = await openArchive(stream(bytes))
    for (const source of [store, archive]) {
      const manifest = await source.resolve('docker.io/library/x:1')
      const { layers } = parseManifest(await readAll(source, manifest, 100_000)).value
      expect(layers.map((each) => [each.mediaType, each.digest])).toEqual([
        [mediaType.ociLayerGzip, `sha256:${hex(gzipSync(a))}`],
        [mediaType.ociLayerGzip, `sha256:${hex(gzipSync(b))}`],
      ])
    }
  })
})
