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
import { mediaType } from '../../../src/image/media-type.ts'
import { parsePlatform } from '../../../src/image/platform.ts'
import { tar } from '../../layer/support/tar.ts'
import { put, putImage, putIndex, temporaryDirectory } from '../support.ts'
import { load, saved, stream } from './support.ts'

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
    await expect(archive.resolve('example.com/none:1')).rejects.toThrow(/It has "example.com\/one:1"/)
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

describe('an archive that is no readable file', () => {
  it.each([openArchive, (path: string) => loadArchive(path, new MemoryStore())])(
    'is named in the error',
    async (read) => {
      const root = await directory()
      const error = await read(join(root, 'missing')).catch((e: unknown) => e)
      expect(error).toMatchObject({ code: 'ERR_OCI_SYSCALL', errnoName: 'ENOENT' })
      await expect(read(root)).rejects.toMatchObject({ errnoName: 'EISDIR' })
    },
  )
})
