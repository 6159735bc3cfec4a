import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { MemoryStore } from '../../src/content/memory.ts'
import { type Descriptor, descriptorOf, mediaType } from '../../src/image/index.ts'
import { openStore, type Store } from '../../src/store/index.ts'
import { tar } from '../layer/support/tar.ts'
import { image, put, type TestImage } from './support/image.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-check-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const base = tar(
  { name: 'etc/', type: '5', mtime: 100 },
  { name: 'etc/passwd', content: 'root', mtime: 100 },
  { name: 'etc/link', type: '2', linkName: 'passwd' },
  { name: 'big', content: Buffer.alloc(300_000, 'abc'), mtime: 100 },
)
const one = image([base, tar({ name: 'etc/hostname', content: 'one' }, { name: 'etc/.wh.link' })])
const two = image([base, tar({ name: 'two', content: 'two' })])

let root: string
let store: Store
let count = 0
beforeEach(async () => {
  count += 1
  root = join(scratch, String(count))
  store = await openStore({ root, durability: 'none' })
  await put(store, one, 'one')
})

/** Where everything of the images can be had again. */
async function source(...images: readonly TestImage[]): Promise<MemoryStore> {
  const memory = new MemoryStore()
  for (const each of images) await put(memory, each)
  return memory
}

const layerOf = (index: number): Descriptor => one.manifest.layers[index] as Descriptor
const damage = (path: string): void => {
  const bytes = readFileSync(path)
  const { atime, mtime } = statSync(path)
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
  writeFileSync(path, bytes)
  utimesSync(path, atime, mtime)
}
const unpack = async (): Promise<{ readonly top: string; readonly bottom: string; readonly chainId: string }> => {
  const { layers, chainId } = await store.unpack(one.manifest, one.config)
  return { top: layers[0] ?? '', bottom: layers[1] ?? '', chainId: chainId ?? '' }
}
const kinds = async (): Promise<readonly string[]> => (await store.check()).findings.map(({ kind }) => kind)

describe.skipIf(process.platform !== 'linux')('check() (skipped on anything but Linux)', () => {
  it('finds nothing in a store in order, and says what it has looked at', async () => {
    await unpack()
    await put(store, two)
    const report = await store.check()
    expect(report.findings).toEqual([])
    expect(report.layers).toEqual({ count: 2, unverified: [] })
    expect(report.blobs.count).toBe(one.blobs.length + two.blobs.length - 1)
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
  })

  it('names a blob that is damaged, and who needs it', async () => {
    await store.tag(one.descriptor, 'other')
    damage(store.content.blobPath(layerOf(0).digest))
    expect((await store.check()).findings).toMatchObject([
      { kind: 'blob-damaged', digest: layerOf(0).digest, descriptor: layerOf(0), images: ['one', 'other'] },
    ])
    // Whether what is larger than a document is there is all that a quick look tells.
    expect((await store.check({ level: 'quick' })).findings).toHaveLength(1)
  })

  it('names blobs that are missing, but for platforms that were never there', async () => {
    rmSync(store.content.blobPath(layerOf(1).digest))
    const absent = { ...two.descriptor, platform: { os: 'linux', architecture: 'arm64' } }
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: mediaType.ociIndex, manifests: [one.descriptor, absent] }),
    )
    const index = descriptorOf(mediaType.ociIndex, bytes)
    await store.push(index, bytes)
    await store.tag(index, 'multi')
    expect((await store.check()).findings).toMatchObject([
      { kind: 'blob-missing', digest: layerOf(1).digest, images: ['one', 'multi'] },
    ])
  })

  it('tells a damaged config from a damaged manifest, and a document that is none', async () => {
    damage(store.content.blobPath(one.manifest.config.digest))
    expect((await store.check()).findings).toMatchObject([
      { kind: 'blob-damaged', digest: one.manifest.config.digest, images: ['one'] },
    ])
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaType.ociManifest, layers: 1 }))
    const odd = descriptorOf(mediaType.ociManifest, bytes)
    await store.content.push({ ...odd, mediaType: 'application/octet-stream' }, bytes)
    await store.tag(odd, 'odd')
    expect(await kinds()).toEqual(['blob-damaged', 'document-invalid'])
  })

  it.each([
    ['a byte of a file', ({ bottom }: Tree) => damage(join(bottom, 'big')), 'big'],
    ['a file that is shorter', ({ bottom }: Tree) => truncateSync(join(bottom, 'etc/passwd'), 1), 'etc/passwd'],
    ['a file that is missing', ({ bottom }: Tree) => rmSync(join(bottom, 'etc/passwd')), 'etc/passwd'],
    ['a file too many', ({ bottom }: Tree) => writeFileSync(join(bottom, 'more'), ''), 'more'],
    ['a whiteout that is gone', ({ top }: Tree) => rmSync(join(top, 'etc/link')), 'etc/link'],
    ['another time', ({ top }: Tree) => utimesSync(join(top, 'etc/hostname'), 5, 5), 'etc/hostname'],
  ])('finds %s in a layer', async (_, change, path) => {
    const tree = await unpack()
    change(tree)
    const { findings } = await store.check()
    expect(findings).toMatchObject([{ kind: 'layer-damaged', images: ['one'] }])
    expect(findings[0]).toHaveProperty('paths', expect.arrayContaining([path]))
  })

  it('names layers that containers miss, and containers that are not whole', async () => {
    const { chainId, bottom } = await unpack()
    await store.createWritable(chainId as never, { id: 'box', image: one.descriptor.digest })
    rmSync(join(bottom, '..'), { recursive: true })
    rmSync(join(root, 'containers/box/work'), { recursive: true })
    expect((await store.check()).findings).toMatchObject([
      { kind: 'layer-damaged', chainId, containers: ['box'] },
      { kind: 'layer-missing', containers: ['box'] },
      { kind: 'container-damaged', id: 'box', containers: ['box'] },
    ])
  })

  it('says which layers there is nothing to compare with', async () => {
    const { chainId } = await unpack()
    await store.createWritable(chainId as never, { id: 'box', image: one.descriptor.digest })
    await store.removeImage('one', { force: true })
    rmSync(store.content.blobPath(one.descriptor.digest))
    const { findings, layers } = await store.check()
    expect(findings).toEqual([])
    expect(layers.unverified).toHaveLength(2)
  })
})

type Tree = Awaited<ReturnType<typeof unpack>>

describe.skipIf(process.platform !== 'linux')('repair() (skipped on anything but Linux)', () => {
  it('does nothing to a store in order', async () => {
    await unpack()
    expect(await store.repair()).toEqual({ repairs: [] })
  })

  it('fetches again what is damaged or missing, and what that was hiding', async () => {
    await unpack()
    const from = await source(one)
    damage(store.content.blobPath(one.descriptor.digest))
    damage(store.content.blobPath(layerOf(0).digest))
    rmSync(store.content.blobPath(layerOf(1).digest))
    const { repairs } = await store.repair({ from })
    expect(repairs.every(({ repaired }) => repaired)).toBe(true)
    expect(repairs.map(({ finding }) => finding.kind)).toEqual(expect.arrayContaining(['blob-damaged', 'blob-missing']))
    expect(await kinds()).toEqual([])
  })

  it('fetches from where an image comes from', async () => {
    await put(store, two, 'two')
    const asked: string[] = []
    rmSync(store.content.blobPath(layerOf(0).digest))
    const memory = await source(one)
    const { repairs } = await store.repair({
      from(name) {
        asked.push(name)
        return name === 'two' ? memory : undefined
      },
    })
    expect(asked).toEqual(['one', 'two'])
    expect(repairs).toMatchObject([{ repaired: true }])
  })

  it('tells why something can not be repaired, and leaves it', async () => {
    damage(store.content.blobPath(layerOf(0).digest))
    const before = readFileSync(store.content.blobPath(layerOf(0).digest))
    expect((await store.repair()).repairs).toMatchObject([
      { repaired: false, finding: { kind: 'blob-damaged' }, error: { code: 'ERR_OCI_NOT_FOUND' } },
    ])
    expect((await store.repair({ from: new MemoryStore() })).repairs).toMatchObject([{ repaired: false }])
    expect(readFileSync(store.content.blobPath(layerOf(0).digest))).toEqual(before)
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
  })

  it('removes damaged blobs that nobody needs', async () => {
    await put(store, two)
    const [[{ digest }] = [two.descriptor]] = two.blobs.slice(1)
    damage(store.content.blobPath(digest))
    await store.content.unlist(() => false)
    expect((await store.repair()).repairs).toMatchObject([{ repaired: true, finding: { digest, images: [] } }])
    expect(existsSync(store.content.blobPath(digest))).toBe(false)
  })

  it('unpacks damaged layers again; containers that run on one keep their files', async () => {
    const { bottom, top, chainId } = await unpack()
    const container = await store.createWritable(chainId as never, { id: 'box', image: one.descriptor.digest })
    damage(join(bottom, 'big'))
    writeFileSync(join(top, '..', 'layer.json'), '')
    const { ino } = statSync(bottom)
    expect((await store.repair()).repairs).toMatchObject([{ repaired: true }, { repaired: true }])
    expect(await kinds()).toEqual([])
    expect(readFileSync(join(bottom, 'big'), 'utf8')).toBe(Buffer.alloc(300_000, 'abc').toString())
    const retired = join(root, 'retired')
    const inodes = (): readonly number[] =>
      readdirSync(retired).map((name) => statSync(join(retired, name, 'diff')).ino)
    expect(inodes()).toContain(ino)
    await store.prune()
    expect(inodes()).toContain(ino)
    await container.remove()
    await store.prune()
    expect(readdirSync(retired)).toEqual([])
  })

  it('makes missing parts of a container, and its layers, anew', async () => {
    const { chainId, bottom } = await unpack()
    await store.createWritable(chainId as never, { id: 'box', image: one.descriptor.digest })
    rmSync(join(bottom, '..'), { recursive: true })
    rmSync(join(root, 'containers/box/upper'), { recursive: true })
    expect((await store.repair()).repairs.filter(({ repaired }) => !repaired)).toEqual([])
    expect(await kinds()).toEqual([])
    expect((await store.openWritable('box')).lower).toHaveLength(2)
  })

  it('lists images again whose list is lost, without their names', async () => {
    const index = join(root, 'content/index.json')
    writeFileSync(index, '')
    expect(await kinds()).toContain('index-damaged')
    expect((await store.repair()).repairs).toMatchObject([{ repaired: true, finding: { kind: 'index-damaged' } }])
    expect(await store.images()).toMatchObject([{ name: undefined, digest: one.descriptor.digest }])
    expect(existsSync(`${index}.damaged`)).toBe(true)
  })

  it('takes layers for good that were unpacked before a restart, when they are', async () => {
    const { chainId, bottom } = await unpack()
    await store.createWritable(chainId as never, { id: 'box', image: one.descriptor.digest })
    for (const layer of readdirSync(join(root, 'layers/sha256'))) {
      const path = join(root, 'layers/sha256', layer, 'layer.json')
      writeFileSync(path, readFileSync(path, 'utf8').replace(/"bootId": ".*?"/, '"bootId": "before"'))
    }
    const { ino } = statSync(bottom)
    const other = await openStore({ root, durability: 'none' })
    await expect(other.openWritable('box')).rejects.toThrow(/not unpacked/)
    await other.repair()
    expect((await other.openWritable('box')).lower).toHaveLength(2)
    expect(statSync(bottom).ino).toBe(ino)
  })
})

describe.skipIf(process.platform !== 'linux')('after a restart of the machine (skipped on anything but Linux)', () => {
  it('blobs that were not put on the disk are read before they are used, and only then', async () => {
    const [good, bad, old] = [layerOf(1), layerOf(0), one.manifest.config]
    for (const { digest, size } of [bad, old]) writeFileSync(store.content.blobPath(digest), Buffer.alloc(size))
    utimesSync(store.content.blobPath(old.digest), 1, 1)
    // In the same boot the kernel has what was written.
    await openStore({ root, durability: 'none' })
    expect(await store.exists(bad)).toBe(true)
    writeFileSync(join(root, 'unsynced'), 'another boot')
    utimesSync(store.content.blobPath(old.digest), 1, 1)
    const after = await openStore({ root })
    expect(await after.exists(good)).toBe(true)
    expect(await after.exists(bad)).toBe(false)
    // From before the mark: it was put on the disk, and what has become of it since is for check() to find.
    expect(await after.exists(old)).toBe(true)
    expect(existsSync(join(root, 'unsynced'))).toBe(false)
  })
})
