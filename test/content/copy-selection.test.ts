import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { type CopyProgress, copy, copyFailure } from '../../src/content/copy.ts'
import type { Fetcher } from '../../src/content/interfaces.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { readAll } from '../../src/content/verify.ts'
import { InvalidArgumentError, LimitError, NotFoundError, PlatformError } from '../../src/errors.ts'
import type { Descriptor } from '../../src/image/descriptor.ts'
import { parseIndex } from '../../src/image/image-index.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { parsePlatform } from '../../src/image/platform.ts'
import { put, putImage, putIndex, RecordingStore, temporaryDirectory } from './support.ts'

/** An index of four platforms, tagged `multi`; two of its images have an attestation. */
async function multi(store: MemoryStore) {
  const texts = ['linux/amd64', 'linux/arm64', 'linux/arm/v6', 'linux/s390x']
  const images = await Promise.all(texts.map((platform) => putImage(store, { inIndex: true, platform })))
  const attestation = async (about: Descriptor | undefined): Promise<Descriptor> => {
    const { manifest } = await putImage(store)
    const annotations = { 'vnd.docker.reference.digest': about?.digest ?? '' }
    return { ...manifest, platform: { os: 'unknown', architecture: 'unknown' }, annotations }
  }
  const entries = images.map(({ manifest }) => manifest)
  const attestations = [await attestation(entries[0]), await attestation(entries[1])]
  const document = {
    schemaVersion: 2,
    mediaType: mediaType.ociIndex,
    manifests: [...entries, ...attestations],
    annotations: { a: 'b' },
    unknown: { member: true },
  }
  const index = await put(store, mediaType.ociIndex, document)
  await store.tag(index, 'multi')
  return { index, entries, attestations }
}

async function manifestsOf(store: MemoryStore, descriptor: Descriptor): Promise<readonly string[]> {
  const { value } = parseIndex(await readAll(store, descriptor, 100_000))
  return value.manifests.map(({ digest }) => digest)
}

const platforms = (...texts: string[]) => texts.map(parsePlatform)

describe('copy of chosen platforms', () => {
  it('makes an index of their entries, in its order, with their attestations and all else it had', async () => {
    const source = new MemoryStore()
    const { index, entries, attestations } = await multi(source)
    const target = new MemoryStore()
    const root = await copy(source, 'multi', target, { platforms: platforms('linux/s390x', 'linux/amd64') })
    expect(root.digest).not.toBe(index.digest)
    expect(await target.resolve('multi')).toEqual(root)
    const wanted = [entries[0], entries[3], attestations[0]].map((entry) => entry?.digest)
    expect(await manifestsOf(target, root)).toEqual(wanted)
    const raw = JSON.parse(Buffer.from(await readAll(target, root, 100_000)).toString())
    expect(raw).toMatchObject({ annotations: { a: 'b' }, unknown: { member: true }, mediaType: mediaType.ociIndex })
    expect(raw.manifests[0]).toEqual(entries[0])
    expect(await target.exists(entries[1] as Descriptor)).toBe(false)
  })

  it('makes the same index of the same choice, in whatever order it is made', async () => {
    const source = new MemoryStore()
    await multi(source)
    const choose = (...texts: string[]): Promise<Descriptor> =>
      copy(source, 'multi', new MemoryStore(), { platforms: platforms(...texts) })
    const one = await choose('linux/arm64', 'linux/amd64')
    expect((await choose('linux/amd64', 'linux/arm64', 'linux/amd64')).digest).toBe(one.digest)
  })

  it('leaves an index alone of which everything is chosen', async () => {
    const source = new MemoryStore()
    const { index } = await multi(source)
    const all = platforms('linux/amd64', 'linux/arm64', 'linux/arm/v6', 'linux/s390x')
    expect((await copy(source, 'multi', new MemoryStore(), { platforms: all })).digest).toBe(index.digest)
  })

  it('takes the image that a platform runs best, as for one platform', async () => {
    const source = new MemoryStore()
    const { entries } = await multi(source)
    const target = new MemoryStore()
    const root = await copy(source, 'multi', target, { platforms: platforms('linux/arm/v7') })
    expect(await manifestsOf(target, root)).toEqual([entries[2]?.digest])
  })

  it('says which platform is missing, before anything is copied', async () => {
    const source = new MemoryStore()
    await multi(source)
    const target = new RecordingStore()
    const wanted = platforms('linux/amd64', 'linux/riscv64')
    const error = await copy(source, 'multi', target, { platforms: wanted }).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(PlatformError)
    expect(error).toMatchObject({ wanted: 'linux/riscv64' })
    expect(target.pushed).toEqual([])
  })

  it('takes a manifest as it is when it is for one of them', async () => {
    const source = new MemoryStore()
    const { manifest } = await putImage(source, { platform: 'linux/arm64' })
    const two = platforms('linux/amd64', 'linux/arm64')
    expect((await copy(source, manifest.digest, new MemoryStore(), { platforms: two })).digest).toBe(manifest.digest)
    const other = copy(source, manifest.digest, new MemoryStore(), { platforms: platforms('linux/amd64') })
    await expect(other).rejects.toThrow(PlatformError)
  })

  it.each([
    { platforms: [] },
    { platforms: platforms('linux/amd64'), platform: parsePlatform('linux/amd64') },
    { platforms: platforms('linux/amd64'), platform: 'all' as const },
  ])('refuses options that contradict each other', async (options) => {
    await expect(copy(new MemoryStore(), 'x', new MemoryStore(), options)).rejects.toThrow(InvalidArgumentError)
  })
})

/** Stores something that is about another manifest. */
function refer(store: MemoryStore, subject: Descriptor, artifactType: string): Promise<Descriptor> {
  const { mediaType: type, digest, size } = subject
  return put(store, mediaType.emptyJson, {}).then((empty) =>
    put(store, mediaType.ociManifest, {
      schemaVersion: 2,
      mediaType: mediaType.ociManifest,
      artifactType,
      config: empty,
      layers: [empty],
      subject: { mediaType: type, digest, size },
      annotations: { random: randomBytes(4).toString('hex') },
    }),
  )
}

const sbom = 'application/vnd.example.sbom'
const signature = 'application/vnd.example.signature'

/** An index with an SBOM of one of its images, and signatures of the index and of the SBOM. */
async function signed(store: MemoryStore) {
  const { index, entries } = await multi(store)
  const image = entries[1] as Descriptor
  const list = await refer(store, image, sbom)
  return {
    index,
    image,
    list,
    ofList: await refer(store, list, signature),
    ofIndex: await refer(store, index, signature),
  }
}

async function listed(store: Pick<MemoryStore, 'referrers'>, of: Descriptor, artifactType?: string): Promise<string[]> {
  const found: string[] = []
  for await (const { digest } of store.referrers(of, { artifactType })) found.push(digest)
  return found
}

describe('copy with referrers', () => {
  it('copies what refers to the index, to its images, and to that', async () => {
    const source = new MemoryStore()
    const target = new MemoryStore()
    const { index, image, list, ofList, ofIndex } = await signed(source)
    await copy(source, 'multi', target, { referrers: true })
    expect(await listed(target, index)).toEqual([ofIndex.digest])
    expect(await listed(target, image)).toEqual([list.digest])
    expect(await listed(target, list)).toEqual([ofList.digest])
  })

  it('copies none unless it is asked to', async () => {
    const source = new MemoryStore()
    const target = new MemoryStore()
    const { index, image } = await signed(source)
    await copy(source, 'multi', target)
    expect([await listed(target, index), await listed(target, image)]).toEqual([[], []])
  })

  it('copies those of one type only', async () => {
    const source = new MemoryStore()
    const target = new MemoryStore()
    const { index, image, ofIndex } = await signed(source)
    await copy(source, 'multi', target, { referrers: { artifactType: signature } })
    expect(await listed(target, index)).toEqual([ofIndex.digest])
    expect(await listed(target, image)).toEqual([])
  })

  it('copies what has come since the target got the image, and tells the two phases apart', async () => {
    const source = new MemoryStore()
    const target = new MemoryStore()
    const { image } = await signed(source)
    await copy(source, 'multi', target, { referrers: true })
    const late = await refer(source, image, sbom)
    const phases: string[] = []
    const onProgress = ({ phase, kind }: CopyProgress): void => void (kind === 'done' && phases.push(phase))
    await copy(source, 'multi', target, { referrers: true, onProgress })
    expect(await listed(target, image)).toContain(late.digest)
    expect(phases).toEqual(['referrers'])
  })

  it('goes through a layout directory and back', async () => {
    const { path, remove } = await temporaryDirectory()
    try {
      const source = new MemoryStore()
      const { index, image, list, ofList } = await signed(source)
      const layout = await LayoutStore.create(path, { sync: false })
      await copy(source, 'multi', layout, { referrers: true })
      expect(await listed(layout, image)).toEqual([list.digest])
      expect(await listed(layout, image, signature)).toEqual([])
      expect(await listed(await LayoutStore.open(path), list)).toEqual([ofList.digest])
      expect((await layout.list()).filter(({ reference }) => reference !== undefined)).toHaveLength(1)
      const target = new MemoryStore()
      await copy(layout, index.digest, target, { referrers: true })
      expect(await listed(target, list)).toEqual([ofList.digest])
    } finally {
      await remove()
    }
  })

  it('ends when referrers refer to each other, or never end', async () => {
    const store = new MemoryStore()
    const { manifest } = await putImage(store)
    const source = Object.assign(Object.create(null), {
      resolve: async () => manifest,
      fetch: (descriptor: Descriptor) => store.fetch(descriptor),
      async *referrers(): AsyncGenerator<Descriptor> {
        yield manifest
      },
    })
    await copy(source, 'x', new MemoryStore(), { referrers: true })
    source.referrers = async function* (of: Descriptor) {
      yield await refer(store, of, sbom)
    }
    await expect(copy(source, 'x', new MemoryStore(), { referrers: true })).rejects.toThrow(LimitError)
  })

  it('refuses a source that can not list them, and says that it was the source that failed', async () => {
    const store = new MemoryStore()
    const { manifest } = await putImage(store)
    const plain = {
      resolve: async () => manifest,
      fetch: (descriptor: Descriptor) => store.fetch(descriptor),
    }
    await expect(copy(plain, 'x', new MemoryStore(), { referrers: true })).rejects.toThrow(InvalidArgumentError)
    const failing = {
      ...plain,
      // biome-ignore lint/correctness/useYield: it fails before
      async *referrers(): AsyncGenerator<Descriptor> {
        throw new NotFoundError('list')
      },
    }
    const error = await copy(failing, 'x', new MemoryStore(), { referrers: true }).catch((e: unknown) => e)
    expect(copyFailure(error)).toMatchObject({ side: 'source', descriptor: manifest })
  })
})

describe('copy to a target that can mount', () => {
  class Mounting extends RecordingStore {
    readonly mounts: string[] = []
    readonly #can: (descriptor: Descriptor) => boolean

    constructor(can: (descriptor: Descriptor) => boolean) {
      super()
      this.#can = can
    }

    async mount(descriptor: Descriptor, source: Fetcher): Promise<boolean> {
      if (!this.#can(descriptor)) return false
      this.mounts.push(descriptor.digest)
      await super.push(descriptor, await source.fetch(descriptor))
      return true
    }
  }

  it('moves no blob, only manifests', async () => {
    const source = new RecordingStore()
    const image = await putImage(source)
    const target = new Mounting(() => true)
    const events: CopyProgress[] = []
    await copy(source, image.manifest.digest, target, { onProgress: (p) => events.push(p) })
    expect(target.mounts.sort()).toEqual([image.config, ...image.layers].map(({ digest }) => digest).sort())
    expect(events.filter(({ kind }) => kind === 'started').map(({ descriptor }) => descriptor.digest)).toEqual([
      image.manifest.digest,
    ])
    expect(events.at(-1)).toMatchObject({ totals: { found: 3, mounted: 2, done: 1, skipped: 0 } })
    expect(events.at(-1)?.transferred).toBe(events.at(-1)?.total)
  })

  it('transfers what it can not mount', async () => {
    const source = new MemoryStore()
    const image = await putImage(source)
    const target = new Mounting(({ digest }) => digest === image.config.digest)
    await copy(source, image.manifest.digest, target)
    expect(target.mounts).toEqual([image.config.digest])
    for (const part of [image.manifest, ...image.layers]) expect(await target.exists(part)).toBe(true)
  })

  it('fails when mounting does, and says that it was the target', async () => {
    const source = new MemoryStore()
    const image = await putImage(source)
    const target = new Mounting(() => {
      throw new NotFoundError('registry')
    })
    const error = await copy(source, image.manifest.digest, target).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(NotFoundError)
    expect(copyFailure(error)?.side).toBe('target')
  })
})

describe('the progress of a copy', () => {
  it('has sums that add up, a rate, and retries of what was tried again', async () => {
    const store = new MemoryStore()
    const image = await putImage(store, { layers: [randomBytes(2_000_000)] })
    const present = await putImage(store)
    const index = await putIndex(store, [image.manifest, present.manifest])
    const target = new MemoryStore()
    await copy(store, present.manifest.digest, target)
    const source = {
      resolve: (reference: string) => store.resolve(reference),
      async fetch(descriptor: Descriptor, options: Parameters<Fetcher['fetch']>[1] = {}): Promise<Readable> {
        if (descriptor.digest === image.layers[0]?.digest) options.onRetry?.(new Error('dropped'))
        return store.fetch(descriptor, options)
      },
    }
    const events: CopyProgress[] = []
    await copy(source, index.digest, target, { onProgress: (p) => events.push(p) })
    const last = events.at(-1)
    expect(last?.totals).toEqual({
      ...{ found: 5, skipped: 1, mounted: 0, done: 4, retries: 1 },
      ...{ skippedBytes: present.manifest.size, mountedBytes: 0, resumedBytes: 0 },
    })
    expect(last?.transferred).toBe(last?.total)
    expect(events.some(({ rate }) => rate > 0)).toBe(true)
    const retried = events.filter(({ retries }) => retries === 1)
    expect(new Set(retried.map(({ descriptor }) => descriptor.digest))).toEqual(new Set([image.layers[0]?.digest]))
    for (const { kind, retries } of events) if (kind === 'retry') expect(retries).toBe(1)
  })

  it('never runs beyond the total, and never back', async () => {
    const source = new MemoryStore()
    await multi(source)
    let before = 0
    await copy(source, 'multi', new MemoryStore(), {
      concurrency: 8,
      onProgress({ transferred, total }) {
        expect(transferred).toBeGreaterThanOrEqual(before)
        expect(transferred).toBeLessThanOrEqual(total)
        before = transferred
      },
    })
  })
})

describe('an artifact that is no image', () => {
  it('is copied whole: unknown types of config and content, and an index of artifacts', async () => {
    const source = new MemoryStore()
    const config = await put(source, 'application/vnd.example.chart.config+json', { chart: true })
    const content = await put(source, 'application/vnd.example.chart', randomBytes(100))
    const manifest = await put(source, mediaType.ociManifest, {
      schemaVersion: 2,
      mediaType: mediaType.ociManifest,
      artifactType: 'application/vnd.example.chart',
      config,
      layers: [content],
    })
    await source.tag(await putIndex(source, [manifest]), 'charts')
    const target = new MemoryStore()
    await copy(source, 'charts', target)
    for (const part of [config, content, manifest]) expect(await target.exists(part)).toBe(true)
    await copy(source, content.digest, new MemoryStore())
  })

  it('can be iterated, too: from the first step to the last', async () => {
    const source = new RecordingStore()
    const { manifest } = await putImage(source)
    await source.tag(manifest, 'x')
    const copying = copy(source, 'x', new MemoryStore())
    const kinds: string[] = []
    for await (const { kind } of copying) kinds.push(kind)
    expect([kinds[0], kinds.at(-1)]).toEqual(['found', 'done'])
    expect((await copying).digest).toBe(manifest.digest)
    const failing = copy(source, 'nothing', new MemoryStore())
    await expect(failing[Symbol.asyncIterator]().next()).rejects.toThrow(NotFoundError)
  })
})
