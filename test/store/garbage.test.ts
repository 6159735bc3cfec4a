import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { ConflictError, NotFoundError, SpecError } from '../../src/errors.ts'
import { type Descriptor, type Digest, descriptorOf, digestOf, mediaType } from '../../src/image/index.ts'
import { openStore, type Store } from '../../src/store/index.ts'
import { tar } from '../layer/support/tar.ts'
import { image, put, type TestImage } from './support/image.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-garbage-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

let root: string
let store: Store
let count = 0
beforeEach(async () => {
  count += 1
  root = join(scratch, String(count))
  store = await openStore({ root, durability: 'none' })
})

const base = tar({ name: 'etc/', type: '5' }, { name: 'etc/passwd', content: 'root' })
const upper = (text: string): Buffer => tar({ name: 'etc/hostname', content: text })
const layered = (text: string, labels: Record<string, string> = {}, created = '2024-01-02T03:04:05Z'): TestImage =>
  image([base, upper(text)], {}, { created, config: { Labels: labels } })

const blobs = (): string[] => readdirSync(join(root, 'content', 'blobs', 'sha256')).sort()
const layers = (): string[] => (existsSync(join(root, 'layers/sha256')) ? readdirSync(join(root, 'layers/sha256')) : [])
const hexes = (...images: TestImage[]): string[] =>
  [...new Set(images.flatMap((each) => each.blobs.map(([{ digest }]) => digest.slice(7))))].sort()
const unpack = (each: TestImage): ReturnType<Store['unpack']> => store.unpack(each.manifest, each.config)
const one = layered('one')
const two = layered('two')

describe('images()', () => {
  it('lists each name of an image, and those that have lost theirs', async () => {
    await put(store, one, 'x/one:1')
    await store.tag(one.descriptor, 'x/one:2')
    await put(store, two, 'moving')
    await put(store, one, 'moving')
    expect(await store.images()).toMatchObject([
      { name: 'x/one:1', dangling: false, id: one.manifest.config.digest, digest: one.descriptor.digest },
      { name: 'x/one:2', created: new Date('2024-01-02T03:04:05Z'), platform: { os: 'linux', architecture: 'amd64' } },
      { name: 'moving', digest: one.descriptor.digest },
      { name: undefined, dangling: true, digest: two.descriptor.digest },
    ])
    const [first] = await store.images()
    expect(first?.size).toBe(one.blobs.reduce((sum, [{ size }]) => sum + size, 0))
  })

  it('lists the platforms of an index that are there', async () => {
    await put(store, one)
    const absent = { ...two.descriptor, platform: { os: 'linux', architecture: 'arm64' } }
    const index = await pushIndex(store, [
      { ...one.descriptor, platform: { os: 'linux', architecture: 'amd64' } },
      absent,
    ])
    await store.tag(index, 'multi')
    expect(await store.images()).toMatchObject([{ name: 'multi', digest: one.descriptor.digest, target: index }])
  })
})

describe('removeImage()', () => {
  it('takes one of several names away, and the image with the last one', async () => {
    await put(store, one, 'a')
    await put(store, one, 'b')
    await unpack(one)
    expect(await store.removeImage('a')).toMatchObject({ untagged: ['a'], deleted: false, blobs: [], freed: 0 })
    const gone = await store.removeImage('b')
    expect(gone).toMatchObject({ untagged: ['b'], deleted: true })
    expect(gone.blobs).toHaveLength(one.blobs.length)
    expect(gone.layers).toHaveLength(2)
    expect([blobs(), layers(), readdirSync(join(root, 'tmp'))]).toEqual([[], [], []])
    expect(await store.references()).toEqual([])
  })

  it('leaves what other images share', async () => {
    await put(store, one, 'one')
    await put(store, two, 'two')
    await unpack(one)
    await unpack(two)
    await store.removeImage('one')
    expect(blobs()).toEqual(hexes(two))
    expect(layers()).toHaveLength(2)
    expect(readFileSync(join((await unpack(two)).layers[0] ?? '', 'etc/hostname'), 'utf8')).toBe('two')
  })

  it('leaves what is not its own alone, needed or not', async () => {
    await put(store, one, 'one')
    await put(store, two)
    await store.removeImage('one')
    expect(blobs()).toEqual(hexes(two))
  })

  it('finds it by its id, its digest, and the beginning of either', async () => {
    for (const way of [one.manifest.config.digest, one.descriptor.digest, one.manifest.config.digest.slice(7, 19)]) {
      await put(store, one, 'x')
      expect(await store.removeImage(way)).toMatchObject({ untagged: ['x'], deleted: true })
    }
    await expect(store.removeImage('x')).rejects.toThrow(NotFoundError)
    await expect(store.removeImage('abc')).rejects.toThrow(NotFoundError)
  })

  it('refuses an id of an image with several names, unless forced', async () => {
    await put(store, one, 'a')
    await put(store, one, 'b')
    await expect(store.removeImage(one.descriptor.digest)).rejects.toThrow(/several names: a, b/)
    expect(await store.removeImage(one.descriptor.digest, { force: true })).toMatchObject({ untagged: ['a', 'b'] })
    expect(blobs()).toEqual([])
  })

  it('refuses an image that a container uses; when forced, the container keeps its layers', async () => {
    await put(store, one, 'one')
    const { chainId } = await unpack(one)
    const container = await store.createWritable(chainId, { id: 'box', image: one.descriptor.digest })
    await expect(store.removeImage('one')).rejects.toThrow(ConflictError)
    await store.tag(one.descriptor, 'other')
    expect(await store.removeImage('other')).toMatchObject({ deleted: false })
    expect(await store.removeImage('one', { force: true })).toMatchObject({ deleted: true, blobs: [], layers: [] })
    expect(await store.images()).toEqual([])
    expect((await store.prune({ grace: 0 })).layers).toEqual([])
    expect((await store.openWritable('box')).lower).toHaveLength(2)
    await container.remove()
    expect((await store.prune({ grace: 0 })).layers).toHaveLength(2)
    expect([blobs(), layers()]).toEqual([[], []])
  })

  it('removes what was about the image, too', async () => {
    await put(store, one, 'one')
    const signature = await pushReferrer(store, one.descriptor)
    const second = await pushReferrer(store, signature)
    expect((await store.prune({ grace: 0 })).blobs).toEqual([])
    const { blobs: gone } = await store.removeImage('one')
    expect(gone).toEqual(expect.arrayContaining([signature.digest, second.digest]))
    expect(await store.references()).toEqual([])
  })

  it('removes an image that can not be read any more', async () => {
    await put(store, one, 'one')
    await put(store, two, 'two')
    writeFileSync(store.content.blobPath(one.descriptor.digest), '{')
    await expect(store.prune({ grace: 0 })).rejects.toThrow(SpecError)
    expect(await store.removeImage('one')).toMatchObject({ untagged: ['one'] })
    await store.prune({ grace: 0 })
    expect(blobs()).toEqual(hexes(two))
  })
})

describe('prune()', () => {
  it('removes images without a name by default, and all that containers do not use when told', async () => {
    await put(store, one, 'name')
    await put(store, two, 'name')
    const used = layered('used')
    await put(store, used, 'used')
    await store.createWritable((await unpack(used)).chainId, { id: 'box', image: used.descriptor.digest })
    expect((await store.prune()).images).toMatchObject([{ digest: one.descriptor.digest }])
    expect(blobs()).toEqual(hexes(two, used))
    expect((await store.prune({ images: 'none' })).images).toEqual([])
    expect((await store.prune({ images: 'unused' })).images).toMatchObject([{ name: 'name' }])
    expect(blobs()).toEqual(hexes(used))
    expect(layers()).toHaveLength(2)
  })

  it('chooses by age and labels', async () => {
    await put(store, layered('a', { keep: 'yes', tier: 'x' }), 'a')
    await put(store, layered('b', { tier: 'x' }), 'b')
    await put(store, layered('c', { tier: 'y' }, '2025-05-05T00:00:00Z'), 'c')
    const names = async (filters: object): Promise<unknown> =>
      (await store.prune({ images: 'unused', filters, dryRun: true })).images.map(({ name }) => name)
    expect(await names({})).toEqual(['a', 'b', 'c'])
    expect(await names({ until: new Date('2025-01-01') })).toEqual(['a', 'b'])
    expect(await names({ labels: { tier: 'x' }, withoutLabels: { keep: true } })).toEqual(['b'])
    expect(await names({ labels: { tier: true } })).toEqual(['a', 'b', 'c'])
    expect(await names({ labels: { constructor: true } })).toEqual([])
  })

  it('says what it would do, and does it then', async () => {
    await put(store, one, 'one')
    await unpack(one)
    const before = [blobs(), layers()]
    const foreseen = await store.prune({ images: 'unused', dryRun: true })
    expect([blobs(), layers()]).toEqual(before)
    expect(foreseen.freed).toBeGreaterThan(0)
    expect(await store.prune({ images: 'unused' })).toEqual(foreseen)
    expect([blobs(), layers()]).toEqual([[], []])
  })

  it('leaves young content that never had a name', async () => {
    await put(store, one)
    expect((await store.prune()).blobs).toEqual([])
    for (const name of blobs()) utimesSync(join(root, 'content/blobs/sha256', name), 1, 1)
    // One young manifest keeps its old parts.
    expect(await store.exists(one.descriptor)).toBe(true)
    expect((await store.prune()).blobs).toEqual([])
    utimesSync(store.content.blobPath(one.descriptor.digest), 1, 1)
    expect((await store.prune()).blobs).toHaveLength(one.blobs.length)
  })

  it('removes what names other content before that', async () => {
    await put(store, one)
    const inner = await pushIndex(store, [one.descriptor])
    const outer = await pushIndex(store, [inner])
    const { blobs: gone } = await store.prune({ grace: 0 })
    expect(gone.slice(0, 3)).toEqual([outer.digest, inner.digest, one.descriptor.digest])
  })

  it('removes nothing when it can not tell what an image needs', async () => {
    await put(store, one, 'one')
    await put(store, two)
    const path = store.content.blobPath(one.descriptor.digest)
    const raw = readFileSync(path)
    raw[20] = (raw[20] ?? 0) ^ 1
    writeFileSync(path, raw)
    await expect(store.prune({ grace: 0 })).rejects.toThrow(SpecError)
    expect(blobs()).toEqual(hexes(one, two))
  })

  it('is not kept from it by damage to what nobody has named', async () => {
    await put(store, one, 'one')
    await put(store, two)
    writeFileSync(store.content.blobPath(two.descriptor.digest), JSON.stringify({ schemaVersion: 2, layers: 1 }))
    expect(await store.removeImage('one')).toMatchObject({ deleted: true })
    expect((await store.prune()).blobs).toEqual([])
    // The layer that both had went with the first: who can't be read has no say in that.
    expect((await store.prune({ grace: 0 })).blobs).toHaveLength(two.blobs.length - 1)
    expect(blobs()).toEqual([])
  })

  it('keeps manifests that another tool has listed without their type', async () => {
    await put(store, one)
    await store.tag({ ...one.descriptor, mediaType: 'application/octet-stream' }, 'odd')
    expect((await store.prune({ grace: 0 })).blobs).toEqual([])
  })
})

describe('a lease', () => {
  it('keeps what is copied through it, found or written, until it is released', async () => {
    await put(store, one)
    const lease = await store.lease()
    const source = new MemoryStore()
    for (const each of [one, two]) await put(source, each, each.descriptor.digest.slice(7, 17))
    for (const each of [one, two]) await copy(source, each.descriptor.digest, lease.content)
    expect((await store.prune({ grace: 0 })).blobs).toEqual([])
    const other = await openStore({ root })
    expect((await other.prune({ grace: 0 })).blobs).toEqual([])
    await lease.release()
    expect((await other.prune({ grace: 0 })).blobs).toHaveLength(hexes(one, two).length)
  })

  it('keeps layers by their ChainID', async () => {
    await put(store, one)
    const { chainId } = await unpack(one)
    const lease = await store.lease()
    await lease.add(chainId as Digest)
    expect((await store.prune({ grace: 0 })).layers).toEqual([])
    await lease.release()
    await lease.release()
    await expect(lease.add(digestOf(Buffer.from('x')))).rejects.toThrow(ConflictError)
    expect((await store.prune({ grace: 0 })).layers).toHaveLength(2)
  })

  it('passes on errors of a stream that come before it is read', async () => {
    const lease = await store.lease()
    const source = new Readable({ read() {} })
    const pushed = lease.content.push(descriptorOf('text/plain', Buffer.from('x')), source)
    source.destroy(new Error('broken'))
    await expect(pushed).rejects.toThrow('broken')
    await lease.release()
  })
})

async function pushIndex(to: Store, manifests: readonly Descriptor[]): Promise<Descriptor> {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaType.ociIndex, manifests }))
  const descriptor = descriptorOf(mediaType.ociIndex, bytes)
  await to.push(descriptor, bytes)
  return descriptor
}

async function pushReferrer(to: Store, subject: Descriptor): Promise<Descriptor> {
  const empty = Buffer.from('{}')
  const config = descriptorOf(mediaType.emptyJson, empty)
  await to.push(config, empty)
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    artifactType: 'x/sig',
    config,
    layers: [config],
    subject,
  }
  const bytes = Buffer.from(JSON.stringify(manifest))
  const descriptor = descriptorOf(mediaType.ociManifest, bytes)
  await to.push(descriptor, bytes)
  return descriptor
}
