import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { loadArchive } from '../../../src/content/archive/load.ts'
import { openArchive } from '../../../src/content/archive/open.ts'
import { copy } from '../../../src/content/copy.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import {
  ArchiveError,
  DigestMismatchError,
  LimitError,
  NotFoundError,
  OciError,
  SizeMismatchError,
  SpecError,
} from '../../../src/errors.ts'
import { endMarker, entry, tar } from '../../layer/support/tar.ts'
import { config, dockerManifest, hex, layer, load, stream } from './support.ts'

const header = { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' }
const a = layer('a')

function index(manifests: readonly object[]): { name: string; content: string } {
  return { name: 'index.json', content: JSON.stringify({ schemaVersion: 2, manifests }) }
}

function blob(content: string | Buffer, digest = `sha256:${hex(content)}`): { name: string; content: string | Buffer } {
  return { name: `blobs/${digest.replace(':', '/')}`, content }
}

function described(content: string | Buffer, extra: object = {}): object {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  return { mediaType, digest: `sha256:${hex(content)}`, size: Buffer.byteLength(content), ...extra }
}

function image(layers: readonly string[], configPath = 'config.json'): ReturnType<typeof dockerManifest> {
  return dockerManifest([{ Config: configPath, RepoTags: ['x:1'], Layers: layers }])
}

const good = { name: 'config.json', content: config(a) }
const manifest = JSON.stringify({
  schemaVersion: 2,
  config: described('{}', { mediaType: 'application/vnd.oci.empty.v1+json' }),
  layers: [],
})
const complete = tar(header, blob('{}'), blob(manifest), index([described(manifest)]))

/** Archives that can't be loaded, and the error of both ways to do it. */
const hostile: readonly (readonly [string, Buffer, new (...args: never[]) => Error])[] = [
  ['nothing', Buffer.alloc(0), ArchiveError],
  ['only an end', endMarker, ArchiveError],
  ['text', Buffer.from('hello'), ArchiveError],
  ['random bytes', Buffer.concat([Buffer.from([1]), randomBytes(5000)]), ArchiveError],
  ['other files', tar({ name: 'etc/passwd', content: 'root' }), ArchiveError],
  ['an archive of Docker before 1.10', tar({ name: 'repositories', content: '{}' }), ArchiveError],
  ['a layout without a list', tar(header), ArchiveError],
  ['a list without a layout', tar(index([])), ArchiveError],
  ['a layout of another version', tar({ ...header, content: '{"imageLayoutVersion":"2.0.0"}' }, index([])), SpecError],
  ['a list that is no JSON', tar(header, { name: 'index.json', content: '{' }), SpecError],
  ['a list with duplicate names', tar(header, { name: 'index.json', content: '{"a":1,"a":2}' }), SpecError],
  ['a list that occurs twice', tar(header, index([]), index([])), ArchiveError],
  [
    'a list that occurs twice under other names',
    tar(header, index([]), { ...index([]), name: './index.json' }),
    ArchiveError,
  ],
  [
    'a list by a name that leaves the archive',
    tar(header, index([]), { ...index([]), name: '../../index.json' }),
    ArchiveError,
  ],
  ['a layout header that occurs twice', tar(header, header, index([])), ArchiveError],
  ['a list of images that occurs twice', tar(image([]), image([])), ArchiveError],
  ['a list that is too large', tar(header, { name: 'index.json', content: Buffer.alloc(5_000_000, 0x20) }), LimitError],
  ['a list without a digest', tar(header, index([{ mediaType: 'a/b', size: 1 }])), SpecError],
  ['a list with a digest that is a path', tar(header, index([described('', { digest: 'sha256:../../x' })])), SpecError],
  ['a manifest that is missing', tar(header, index([described(manifest)])), NotFoundError],
  [
    'a manifest of another size',
    tar(header, blob(manifest), index([described(manifest, { size: 5 })])),
    SizeMismatchError,
  ],
  [
    'a manifest of another content',
    tar(header, blob(`${manifest} `, `sha256:${hex(manifest)}`), index([described(manifest)])),
    OciError,
  ],
  ['a config that is missing', tar(header, blob(manifest), index([described(manifest)])), NotFoundError],
  ['an archive that is cut short in a header', complete.subarray(0, 700), ArchiveError],
  ['an archive that is cut short in a file', complete.subarray(0, 512 * 3 + 1), ArchiveError],
  ['an archive with a wrong checksum', tar(header).fill(0x41, 0, 3), ArchiveError],
  ['a file of 8 EiB', tar({ name: 'x', size: 2 ** 63 }, header), OciError],
  ['a file longer than the archive', tar(header, { name: 'x.tar', content: 'x', size: 10 ** 9 }), ArchiveError],
  ['a file of a negative size', tar({ name: 'x', patch: (block) => block.fill(0xff, 124, 136) }), ArchiveError],
  ['a file of a size that is no number', tar({ name: 'x', pax: { size: 'many' } }), ArchiveError],
  ['a name of 100 KB', tar({ name: 'x', pax: { path: 'a'.repeat(100_000) } }), LimitError],
  ['a name of 10 KB', tar({ name: 'x', pax: { path: 'a'.repeat(10_000) } }), LimitError],
  ['a link name of 10 KB', tar({ name: 'x', type: '2', pax: { linkpath: 'a'.repeat(10_000) } }), LimitError],
  ['an extended header of 10 MB', tar({ name: 'x', pax: { comment: 'a'.repeat(10_000_000) } }), LimitError],
  ['gzip that is cut short', gzipSync(complete).subarray(0, 100), ArchiveError],
  ['gzip that is damaged', Buffer.from(gzipSync(complete)).fill(7, 30, 60), ArchiveError],
  ['images that are no array', tar({ name: 'manifest.json', content: '{}' }), SpecError],
  ['an image that is no object', tar({ name: 'manifest.json', content: '[1]' }), SpecError],
  ['an image without a config', tar(dockerManifest([{ Layers: [] }])), SpecError],
  ['an image with layers that are no strings', tar(dockerManifest([{ Config: 'x', Layers: [1] }])), SpecError],
  [
    'an image with a name that is none',
    tar(good, dockerManifest([{ Config: 'config.json', RepoTags: ['A B'], Layers: [] }])),
    SpecError,
  ],
  ['an image with a config that is missing', tar(image([])), ArchiveError],
  ['an image with a config outside', tar(image([], '../../etc/passwd')), ArchiveError],
  [
    'an image with a config that is a link outside',
    tar({ name: 'c.json', type: '2', linkName: '/etc/passwd' }, image([], 'c.json')),
    ArchiveError,
  ],
  ['an image with a config that is no JSON', tar({ name: 'c.json', content: '[' }, image([], 'c.json')), SpecError],
  [
    'an image with a config that is not its digest',
    tar({ ...good, name: `${hex('x')}.json` }, { name: 'a.tar', content: a }, image(['a.tar'], `${hex('x')}.json`)),
    DigestMismatchError,
  ],
  ['an image with a layer that is missing', tar(good, image(['a.tar'])), ArchiveError],
  [
    'an image with a layer that is a link outside',
    tar(good, { name: 'a.tar', type: '2', linkName: '../../etc/passwd' }, image(['a.tar'])),
    ArchiveError,
  ],
  [
    'an image with a layer that is a link to itself',
    tar(good, { name: 'a.tar', type: '2', linkName: 'a.tar' }, image(['a.tar'])),
    LimitError,
  ],
  [
    'an image with links that go round',
    tar(
      good,
      { name: 'a.tar', type: '2', linkName: 'b.tar' },
      { name: 'b.tar', type: '2', linkName: 'a.tar' },
      image(['a.tar']),
    ),
    LimitError,
  ],
  [
    'an image with a layer that is a device',
    tar(good, { name: 'a.tar', type: '3', device: [1, 3] }, image(['a.tar'])),
    ArchiveError,
  ],
  ['an image with a layer that is a folder', tar(good, { name: 'a.tar', type: '5' }, image(['a.tar'])), ArchiveError],
  [
    'an image with a layer of another content',
    tar(good, { name: 'a.tar', content: layer('b') }, image(['a.tar'])),
    DigestMismatchError,
  ],
  [
    'an image with a layer of another content by its name',
    tar(good, { name: `${hex(a)}.tar`, content: layer('b') }, image([`${hex(a)}.tar`])),
    DigestMismatchError,
  ],
  [
    'an image with more layers than its config',
    tar(good, { name: 'a.tar', content: a }, image(['a.tar', 'a.tar'])),
    SpecError,
  ],
  ['an image with fewer layers than its config', tar(good, image([])), SpecError],
]

describe('an archive that is', () => {
  it.each(hostile)('%s is refused, read in place or as it comes', async (_, bytes, error) => {
    await expect(load(bytes)).rejects.toThrow(error)
    const open = async (): Promise<void> => {
      await using archive = await openArchive(stream(bytes))
      for (const { descriptor } of await archive.list()) await copy(archive, descriptor.digest, new MemoryStore())
    }
    await expect(open()).rejects.toThrow(error)
  })

  it('good is not', async () => {
    expect((await load(complete)).images).toHaveLength(1)
  })
})

describe('the bounds on an archive', () => {
  const many = tar(header, ...Array.from({ length: 50 }, (_, i) => ({ name: `f${i}`, content: 'x' })), index([]))

  it('are on the number of its entries', async () => {
    await expect(load(many, { maxEntries: 20 })).rejects.toThrow(LimitError)
    await expect(openArchive(stream(many), { maxEntries: 20 })).rejects.toThrow(LimitError)
    await load(many, { maxEntries: 52 })
  })

  it('are on its bytes, also when it is compressed', async () => {
    const bomb = gzipSync(Buffer.concat([entry({ name: 'x', content: Buffer.alloc(50_000_000) }), endMarker]))
    expect(bomb.length).toBeLessThan(100_000)
    await expect(load(bomb, { maxBytes: '10m' })).rejects.toThrow(LimitError)
    await expect(openArchive(stream(bomb), { maxBytes: '10m' })).rejects.toThrow(LimitError)
  })

  it('are on what is held of it in memory', async () => {
    const document = Buffer.alloc(8_000_000, 0x20)
    document[0] = 0x7b
    const entries = Array.from({ length: 10 }, (_, i) => ({ name: `${i}.json`, content: document }))
    await expect(load(tar(...entries))).rejects.toThrow(LimitError)
  })

  it('let nothing through to the target that is not what its name says', async () => {
    const store = new MemoryStore()
    const wrong = tar(header, blob(randomBytes(9_000_000), `sha256:${hex('other')}`), index([]))
    await expect(loadArchive(stream(wrong), store)).rejects.toThrow(DigestMismatchError)
    expect(await store.exists({ mediaType: '', digest: `sha256:${hex('other')}`, size: 0 })).toBe(false)
  })

  it('hold for a thousand archives that were changed at random: each is loaded or refused by an error of the family', async () => {
    const archives = [complete, tar(good, { name: 'a.tar', content: a }, image(['a.tar']))]
    let state = 7
    const next = (bound: number): number => {
      state = (state * 48271) % 2147483647
      return state % bound
    }
    let refused = 0
    for (let round = 0; round < 1000; round++) {
      const bytes = Buffer.from(archives[round % 2] as Buffer)
      for (let i = 0; i <= next(4); i++) bytes[next(bytes.length)] = next(256)
      const cut = next(3) === 0 ? bytes.subarray(0, next(bytes.length)) : bytes
      await load(cut).catch((error: unknown) => {
        refused++
        expect(error, String(error)).toBeInstanceOf(OciError)
      })
    }
    expect(refused).toBeGreaterThan(300)
  })
})
