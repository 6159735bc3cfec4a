import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { loadArchive } from '../../../src/content/archive/load.ts'
import { openArchive } from '../../../src/content/archive/open.ts'
import { writeArchive } from '../../../src/content/archive/write.ts'
import { ArchiveWriter } from '../../../src/content/archive/writer.ts'
import { type CopyProgress, copy } from '../../../src/content/copy.ts'
import { LayoutStore } from '../../../src/content/layout.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import { collect, readAll } from '../../../src/content/verify.ts'
import { ConflictError, DigestMismatchError, InvalidArgumentError, NotFoundError } from '../../../src/errors.ts'
import { descriptorOf } from '../../../src/image/descriptor.ts'
import { parseManifest } from '../../../src/image/manifest.ts'
import { mediaType } from '../../../src/image/media-type.ts'
import { parsePlatform } from '../../../src/image/platform.ts'
import { tar } from '../../layer/support/tar.ts'
import { put, putImage, putIndex, temporaryDirectory } from '../support.ts'
import { config, dockerManifest, hex, layer, load, saved, stream } from './support.ts'

const cleanups: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

async function directory(): Promise<string> {
  const { path, remove } = await temporaryDirectory()
  cleanups.push(remove)
  return path
}

/** A store with two images, an index of two platforms, and something that refers to the first image. */
async function images() {
  const store = new MemoryStore()
  const shared = randomBytes(300_000)
  const one = await putImage(store, { layers: [shared, randomBytes(100)] })
  const two = await putImage(store, { layers: [shared] })
  const amd = await putImage(store, { inIndex: true })
  const arm = await putImage(store, { inIndex: true, platform: 'linux/arm64' })
  const index = await putIndex(store, [amd.manifest, arm.manifest])
  const empty = await put(store, mediaType.emptyJson, {})
  const artifact = await put(store, mediaType.ociManifest, {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    artifactType: 'application/vnd.example.sbom',
    config: empty,
    layers: [empty],
    subject: one.manifest,
    annotations: { a: 'b' },
  })
  await store.tag(one.manifest, 'example.com/one:1')
  await store.tag(two.manifest, 'example.com/two:1')
  await store.tag(index, 'docker.io/library/multi:1')
  return { store, one, two, index, amd, arm, artifact }
}

const names = ['example.com/one:1', 'example.com/two:1', 'docker.io/library/multi:1']

describe('writeArchive', () => {
  it('writes several images and platforms, each content once, that a stream is loaded from', async () => {
    const { store } = await images()
    const { bytes, written } = await saved(names.map((reference) => ({ source: store, reference })))
    const list = spawnSync('tar', ['t'], { input: bytes, encoding: 'utf8' }).stdout.trim().split('\n')
    expect(new Set(list).size).toBe(list.length)
    expect(list.at(0)).toBe('oci-layout')
    expect(list.slice(-2)).toEqual(['index.json', 'manifest.json'])
    const loaded = await load(bytes)
    expect(loaded.images.map(({ reference }) => reference)).toEqual(names)
    expect(loaded.images.map(({ descriptor }) => descriptor.digest)).toEqual(written.map(({ digest }) => digest))
    for (const name of names) {
      expect((await loaded.store.resolve(name)).digest).toBe((await store.resolve(name)).digest)
      await copy(loaded.store, name, new MemoryStore())
    }
  })

  it('makes the same bytes of the same images', async () => {
    const { store } = await images()
    const wanted = names.map((reference) => ({ source: store, reference }))
    expect((await saved(wanted)).bytes.equals((await saved(wanted)).bytes)).toBe(true)
  })

  it('gives an image the names that are asked for, and Docker the ones it can have', async () => {
    const { store, one } = await images()
    const { bytes } = await saved([
      { source: store, reference: 'example.com/one:1', as: 'a/b:2' },
      { source: store, reference: 'example.com/one:1', as: 'example.com:5000/c:3' },
      { source: store, reference: 'example.com/one:1', as: 'not a reference' },
    ])
    const loaded = await load(bytes)
    expect(loaded.images.map(({ reference }) => reference)).toEqual([
      'a/b:2',
      'example.com:5000/c:3',
      'not a reference',
    ])
    const text = spawnSync('tar', ['xO', 'manifest.json'], { input: bytes, encoding: 'utf8' }).stdout
    const path = (digest: string): string => `blobs/${digest.replace(':', '/')}`
    expect(JSON.parse(text)).toEqual([
      {
        Config: path(one.config.digest),
        RepoTags: ['docker.io/a/b:2', 'example.com:5000/c:3'],
        Layers: one.layers.map(({ digest }) => path(digest)),
      },
    ])
  })

  it('writes one platform, or several as an index of their own', async () => {
    const { store, arm } = await images()
    const reference = 'docker.io/library/multi:1'
    const platform = parsePlatform('linux/arm64')
    const { bytes, written } = await saved([
      { source: store, reference, platform, as: 'one' },
      { source: store, reference, platforms: [platform], as: 'index' },
    ])
    expect(written[0]?.digest).toBe(arm.manifest.digest)
    const { store: loaded } = await load(bytes)
    expect((await loaded.resolve('one')).digest).toBe(arm.manifest.digest)
    expect((await loaded.resolve('index')).mediaType).toBe(mediaType.ociIndex)
  })

  it('takes referrers along, which are found in the archive and where it is loaded', async () => {
    const { store, one, artifact } = await images()
    const { bytes } = await saved([{ source: store, reference: 'example.com/one:1', referrers: true }])
    await using archive = await openArchive(stream(bytes))
    const found = async (lister: Pick<MemoryStore, 'referrers'>): Promise<unknown[]> => {
      const list: unknown[] = []
      for await (const each of lister.referrers(one.manifest)) list.push(each)
      return list
    }
    const expected = [{ ...artifact, artifactType: 'application/vnd.example.sbom', annotations: { a: 'b' } }]
    expect(await found(archive)).toEqual(expected)
    expect(await found((await load(bytes)).store)).toEqual(expected)
    const target = new MemoryStore()
    await copy(archive, 'example.com/one:1', target, { referrers: true })
    expect(await found(target)).toEqual(expected)
  })

  it('writes a file that appears when it is complete, compressed or not', async () => {
    const root = await directory()
    const { store } = await images()
    const wanted = [{ source: store, reference: 'example.com/one:1' }]
    await writeArchive(join(root, 'a.tar'), wanted)
    await writeArchive(join(root, 'a.tar.gz'), wanted, { compression: 'gzip' })
    expect((await readdir(root)).sort()).toEqual(['a.tar', 'a.tar.gz'])
    expect(gunzipSync(await readFile(join(root, 'a.tar.gz'))).equals(await readFile(join(root, 'a.tar')))).toBe(true)
    for (const name of ['a.tar', 'a.tar.gz']) {
      const target = new MemoryStore()
      await loadArchive(join(root, name), target)
      await copy(target, 'example.com/one:1', new MemoryStore())
    }
  })

  it('leaves no file, and destroys a stream, when content is not what it should be', async () => {
    const root = await directory()
    const { store, one } = await images()
    const lying = {
      resolve: (reference: string) => store.resolve(reference),
      fetch: async (descriptor: Parameters<MemoryStore['fetch']>[0]) =>
        descriptor.digest === one.layers[0]?.digest
          ? Readable.from([Buffer.alloc(descriptor.size)], { objectMode: false })
          : store.fetch(descriptor),
    }
    const wanted = [{ source: lying, reference: 'example.com/one:1' }]
    await expect(writeArchive(join(root, 'a.tar'), wanted)).rejects.toThrow(DigestMismatchError)
    expect(await readdir(root)).toEqual([])
    const output = new PassThrough()
    output.resume()
    output.on('error', () => {})
    await expect(writeArchive(output, wanted)).rejects.toThrow(DigestMismatchError)
    expect(output.destroyed).toBe(true)
  })

  it('keeps an archive that is there when a new one fails, or is aborted', async () => {
    const root = await directory()
    const path = join(root, 'a.tar')
    await writeFile(path, 'old')
    const { store } = await images()
    const controller = new AbortController()
    const onProgress = ({ kind }: CopyProgress): void => {
      if (kind === 'started') controller.abort('enough')
    }
    const wanted = [{ source: store, reference: 'example.com/one:1' }]
    await expect(writeArchive(path, wanted, { signal: controller.signal, onProgress })).rejects.toBe('enough')
    await expect(writeArchive(path, [{ source: store, reference: 'missing' }])).rejects.toThrow(NotFoundError)
    expect(await readFile(path, 'utf8')).toBe('old')
    expect(await readdir(root)).toEqual(['a.tar'])
  })

  it('tells the error of the stream it writes to', async () => {
    const { store } = await images()
    const output = new PassThrough({ highWaterMark: 1 })
    setImmediate(() => output.destroy(new Error('disk on fire')))
    await expect(writeArchive(output, [{ source: store, reference: 'example.com/one:1' }])).rejects.toThrow('on fire')
  })
})

describe('ArchiveWriter', () => {
  it('takes content from several at a time, one blob after the other', async () => {
    const { store } = await images()
    const output = new PassThrough()
    const bytes = collect(output)
    const writer = await ArchiveWriter.create(output)
    await Promise.all(names.map((name) => copy(store, name, writer, { concurrency: 8 })))
    await writer.finish()
    expect((await load(await bytes)).images.map(({ reference }) => reference).sort()).toEqual([...names].sort())
  })

  it('takes nothing any more when it is finished, and names only what it has', async () => {
    const output = new PassThrough()
    output.resume()
    const writer = await ArchiveWriter.create(output)
    const blob = descriptorOf(mediaType.ociLayer, Buffer.from('x'))
    await expect(writer.tag(blob, 'a')).rejects.toThrow(NotFoundError)
    await writer.finish()
    await expect(writer.push(blob, Buffer.from('x'))).rejects.toThrow(InvalidArgumentError)
    await writer.destroy()
  })
})

describe('openArchive', () => {
  it('reads a file where it lies, any part of any content', async () => {
    const root = await directory()
    const { store, one } = await images()
    await writeArchive(join(root, 'a.tar'), [{ source: store, reference: 'example.com/one:1' }])
    await using archive = await openArchive(join(root, 'a.tar'))
    expect(archive.format).toBe('oci')
    const [first] = one.layers
    if (first === undefined) throw new Error('no layer')
    const whole = await readAll(store, first, 10_000_000)
    expect(Buffer.from(await readAll(archive, first, 10_000_000)).equals(whole)).toBe(true)
    expect((await collect(await archive.fetch(first, { offset: 200_000 }))).length).toBe(first.size - 200_000)
    await expect(archive.fetch(first, { offset: first.size + 1 })).rejects.toThrow(InvalidArgumentError)
    expect((await archive.resolve(one.manifest.digest)).mediaType).toBe(mediaType.ociManifest)
    expect((await archive.resolve(first.digest)).mediaType).toBe('application/octet-stream')
    await expect(archive.resolve('example.com/none:1')).rejects.toThrow(/It has example.com\/one:1/)
  })

  it.each([
    ['gzip', gzipSync],
    ['several gzip members', (b: Buffer) => Buffer.concat([gzipSync(b.subarray(0, 999)), gzipSync(b.subarray(999))])],
  ])('reads an archive compressed with %s', async (_, compress) => {
    const { store } = await images()
    const { bytes } = await saved([{ source: store, reference: 'example.com/one:1' }])
    await using archive = await openArchive(stream(compress(bytes)))
    await copy(archive, 'example.com/one:1', new MemoryStore())
  })

  it('finds images by short names and full ones', async () => {
    const { store, index } = await images()
    const { bytes } = await saved([{ source: store, reference: 'docker.io/library/multi:1' }])
    await using archive = await openArchive(stream(bytes))
    for (const name of ['multi:1', 'docker.io/library/multi:1', 'index.docker.io/multi:1']) {
      expect((await archive.resolve(name)).digest).toBe(index.digest)
    }
  })

  it('refuses a name that stands for different images', async () => {
    const { store, one, two } = await images()
    const named = [one, two].map(({ manifest }) => ({
      ...manifest,
      annotations: { 'org.opencontainers.image.ref.name': 'same' },
    }))
    const bytes = tar(
      { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
      { name: 'index.json', content: JSON.stringify({ schemaVersion: 2, manifests: named }) },
    )
    await using archive = await openArchive(stream(bytes))
    await expect(archive.resolve('same')).rejects.toThrow(ConflictError)
    expect(store).toBeDefined()
  })
})

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
    const root = await directory()
    await writeFile(join(root, 'a.tar'), bytes)
    await using archive = await openArchive(join(root, 'a.tar'))
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

describe('loadArchive', () => {
  it('sends what comes on at once, and fetches nothing twice', async () => {
    const root = await directory()
    const { store } = await images()
    const { bytes } = await saved(names.map((reference) => ({ source: store, reference })))
    const target = await LayoutStore.create(join(root, 'layout'), { sync: false })
    const kinds = new Map<string, number>()
    await loadArchive(stream(bytes), target, {
      onProgress: ({ kind }) => kinds.set(kind, (kinds.get(kind) ?? 0) + 1),
    })
    expect((await target.list()).map(({ reference }) => reference)).toEqual(names)
    expect(kinds.get('started')).toBe(kinds.get('done'))
    await copy(await LayoutStore.open(join(root, 'layout')), 'docker.io/library/multi:1', new MemoryStore())
  })

  it('stops when it is aborted, and destroys the stream', async () => {
    const { store } = await images()
    const { bytes } = await saved([{ source: store, reference: 'example.com/one:1' }])
    const controller = new AbortController()
    const source = stream(bytes)
    const loading = loadArchive(source, new MemoryStore(), {
      signal: controller.signal,
      onProgress: () => controller.abort('enough'),
    })
    await expect(loading).rejects.toBe('enough')
    expect(source.destroyed).toBe(true)
  })

  it('loads a file and chooses a platform', async () => {
    const root = await directory()
    const { store, arm, amd } = await images()
    await writeArchive(join(root, 'a.tar'), [{ source: store, reference: 'docker.io/library/multi:1' }])
    const target = new MemoryStore()
    await loadArchive(join(root, 'a.tar'), target, { platform: parsePlatform('linux/arm64') })
    expect((await target.resolve('docker.io/library/multi:1')).digest).toBe(arm.manifest.digest)
    expect(await target.exists(amd.manifest)).toBe(false)
  })
})
