import { randomBytes } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { type CopyProgress, copy, copyFailure } from '../../src/content/copy.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import {
  DigestMismatchError,
  InvalidArgumentError,
  LimitError,
  NotFoundError,
  PlatformError,
  SizeMismatchError,
  SpecError,
} from '../../src/errors.ts'
import type { Descriptor } from '../../src/image/descriptor.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { parsePlatform } from '../../src/image/platform.ts'
import { put, putImage, putIndex, RecordingStore } from './support.ts'

const arm64 = parsePlatform('linux/arm64')

/** An index of two images and its parts, tagged `multi`. */
async function multi(store: MemoryStore) {
  const shared = randomBytes(100_000)
  const amd = await putImage(store, { inIndex: true, layers: [shared, randomBytes(10)] })
  const arm = await putImage(store, { inIndex: true, platform: 'linux/arm64', layers: [shared, randomBytes(10)] })
  const index = await putIndex(store, [amd.manifest, arm.manifest])
  await store.tag(index, 'multi')
  return { amd, arm, index }
}

describe('copy', () => {
  it('copies an index with all that is below it, and tags it', async () => {
    const source = new RecordingStore()
    const target = new RecordingStore()
    const { index, amd, arm } = await multi(source)
    expect(await copy(source, 'multi', target)).toEqual(await source.resolve('multi'))
    expect((await target.resolve('multi')).digest).toBe(index.digest)
    for (const { manifest, config, layers } of [amd, arm]) {
      for (const part of [manifest, config, ...layers]) expect(await target.exists(part)).toBe(true)
    }
  })

  it('transfers each digest once, however often it is referred to', async () => {
    const source = new RecordingStore()
    const target = new RecordingStore()
    await multi(source)
    await copy(source, 'multi', target, { concurrency: 8 })
    expect(target.pushed.length).toBe(new Set(target.pushed).size)
    expect(source.fetched.length).toBe(new Set(source.fetched).size)
    // 1 index, 2 manifests, 2 configs, 3 different layers.
    expect(target.pushed.length).toBe(8)
  })

  it('puts children before their parents', async () => {
    const source = new MemoryStore()
    const target = new RecordingStore()
    const { index, amd, arm } = await multi(source)
    await copy(source, 'multi', target, { concurrency: 8 })
    const at = ({ digest }: Descriptor): number => target.pushed.indexOf(digest)
    for (const { manifest, config, layers } of [amd, arm]) {
      for (const part of [config, ...layers]) expect(at(part)).toBeLessThan(at(manifest))
      expect(at(manifest)).toBeLessThan(at(index))
    }
  })

  it('skips everything below what the target has', async () => {
    const source = new RecordingStore()
    const target = new RecordingStore()
    const { index } = await multi(source)
    await copy(source, 'multi', target)
    source.fetched.length = 0
    const events: CopyProgress[] = []
    await copy(source, 'multi', target, { as: 'again', onProgress: (p) => events.push(p) })
    expect(source.fetched).toEqual([])
    expect(events.map(({ kind }) => kind)).toEqual(['found', 'skipped'])
    expect((await target.resolve('again')).digest).toBe(index.digest)
  })

  it('picks the image for a platform, which becomes the root', async () => {
    const source = new RecordingStore()
    const target = new MemoryStore()
    const { index, amd, arm } = await multi(source)
    const root = await copy(source, 'multi', target, { platform: arm64 })
    expect(root).toEqual(arm.manifest)
    expect((await target.resolve('multi')).digest).toBe(arm.manifest.digest)
    expect(await target.exists(index)).toBe(false)
    expect(await target.exists(amd.manifest)).toBe(false)
    expect(source.fetched.filter((digest) => digest === arm.manifest.digest)).toHaveLength(1)
  })

  it('picks through an index in an index, and asks the config where no index says a platform', async () => {
    const source = new RecordingStore()
    const { manifest } = await putImage(source, { platform: 'linux/arm64' })
    await source.tag(await putIndex(source, [await putIndex(source, [manifest])]), 'nested')
    const target = new MemoryStore()
    expect((await copy(source, 'nested', target, { platform: arm64 })).digest).toBe(manifest.digest)
    const wrong = copy(source, 'nested', new MemoryStore(), { platform: parsePlatform('linux/s390x') })
    await expect(wrong).rejects.toMatchObject({ wanted: 'linux/s390x', available: ['linux/arm64'] })
  })

  it('says what there is when no image is for the platform', async () => {
    const source = new MemoryStore()
    await multi(source)
    const error = await copy(source, 'multi', new MemoryStore(), { platform: parsePlatform('linux/riscv64') }).catch(
      (e: unknown) => e,
    )
    expect(error).toBeInstanceOf(PlatformError)
    expect(error).toMatchObject({ subject: 'multi', available: ['linux/amd64', 'linux/arm64'] })
  })

  it('copies an artifact for any platform', async () => {
    const source = new MemoryStore()
    const config = await put(source, mediaType.emptyJson, {})
    const layer = await put(source, 'text/plain', Buffer.from('hello'))
    const document = { schemaVersion: 2, artifactType: 'a/b', config, layers: [layer] }
    await source.tag(await put(source, mediaType.ociManifest, document), 'artifact')
    const target = new MemoryStore()
    await copy(source, 'artifact', target, { platform: arm64 })
    expect(await target.exists(layer)).toBe(true)
  })

  it('copies by digest, and then gives no name', async () => {
    const source = new MemoryStore()
    const { manifest } = await putImage(source)
    const target = new MemoryStore()
    await copy(source, manifest.digest, target)
    expect(await target.exists(manifest)).toBe(true)
    expect(await target.list()).toEqual([])
    await copy(source, manifest.digest, target, { as: 'named' })
    expect((await target.resolve('named')).digest).toBe(manifest.digest)
  })

  it('takes embedded content without asking for it', async () => {
    const source = new RecordingStore()
    const bytes = Buffer.from('{}')
    const config = await put(source, mediaType.emptyJson, bytes, { data: bytes.toString('base64') })
    const manifest = await put(source, mediaType.ociManifest, { schemaVersion: 2, config, layers: [config] })
    await source.tag(manifest, 'small')
    const target = new MemoryStore()
    await copy(source, 'small', target)
    expect(source.fetched).toEqual([manifest.digest])
    expect(await target.exists(config)).toBe(true)
  })

  it('leaves foreign layers out', async () => {
    const source = new MemoryStore()
    const config = await put(source, mediaType.emptyJson, {})
    const foreign: Descriptor = {
      mediaType: mediaType.dockerForeignLayerGzip,
      digest: `sha256:${'1'.repeat(64)}`,
      size: 1,
      urls: ['https://example.com/layer'],
    }
    await source.tag(await put(source, mediaType.ociManifest, { schemaVersion: 2, config, layers: [foreign] }), 'x')
    const target = new MemoryStore()
    await copy(source, 'x', target)
    expect(await target.exists(foreign)).toBe(false)
    expect(await target.exists(config)).toBe(true)
  })

  it('keeps unknown members: the bytes are the same', async () => {
    const source = new MemoryStore()
    const config = await put(source, mediaType.emptyJson, {})
    const text = `{"future":{"x":[1,2]},\n "schemaVersion":2,"config":${JSON.stringify(config)},"layers":[]}`
    const manifest = await put(source, mediaType.ociManifest, Buffer.from(text))
    await source.tag(manifest, 'x')
    const target = new MemoryStore()
    await copy(source, 'x', target)
    expect((await (await target.fetch(manifest)).toArray()).join('')).toBe(text)
  })

  it('reports progress that adds up', async () => {
    const source = new MemoryStore()
    const target = new MemoryStore()
    const { index, amd } = await multi(source)
    await copy(source, amd.manifest.digest, target)
    const events: CopyProgress[] = []
    await copy(source, 'multi', target, { onProgress: (p) => events.push(p) })
    const last = events.at(-1)
    expect(last).toMatchObject({ kind: 'done', descriptor: { digest: index.digest } })
    expect(last?.transferred).toBe(last?.total)
    const of = (kind: string): string[] => events.filter((e) => e.kind === kind).map((e) => e.descriptor.digest)
    expect([...of('skipped'), ...of('done')].sort()).toEqual(of('found').sort())
    expect(of('started').sort()).toEqual(of('done').sort())
    for (let n = 1; n < events.length; n++) {
      expect(events[n]?.transferred).toBeGreaterThanOrEqual(events[n - 1]?.transferred ?? 0)
    }
  })

  it('refuses options that make no sense, before anything is done', async () => {
    const source = new MemoryStore()
    await expect(copy(source, 'x', source, { concurrency: 0 })).rejects.toBeInstanceOf(InvalidArgumentError)
    const { exists, push } = new MemoryStore()
    await expect(copy(source, 'x', { exists, push }, { as: 'y' })).rejects.toBeInstanceOf(InvalidArgumentError)
    await expect(copy(source, 'x', source)).rejects.toBeInstanceOf(NotFoundError)
  })
})

describe('a copy that fails', () => {
  /** A source in which the content of one layer is replaced by other bytes. */
  async function corrupted(replace: (bytes: Uint8Array) => Uint8Array) {
    const source = new RecordingStore()
    const { manifest, layers } = await putImage(source, { layers: [randomBytes(200_000), randomBytes(300_000)] })
    await source.tag(manifest, 'x')
    const [bad] = layers
    const fetch = source.fetch.bind(source)
    source.fetch = async (descriptor, options) => {
      const stream = await fetch(descriptor, options)
      if (descriptor.digest !== bad?.digest) return stream
      const bytes: Buffer = Buffer.concat(await stream.toArray())
      const changed = new PassThrough()
      changed.end(replace(bytes))
      return changed
    }
    return { source, manifest, bad }
  }

  it.each([
    ['a wrong byte', DigestMismatchError, (bytes: Uint8Array) => bytes.with(100, (bytes[100] ?? 0) ^ 1)],
    ['a byte missing', SizeMismatchError, (bytes: Uint8Array) => bytes.subarray(1)],
    ['a byte too much', SizeMismatchError, (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc(1)])],
  ])('on %s names source and descriptor, and leaves no manifest', async (_, kind, replace) => {
    const { source, manifest, bad } = await corrupted(replace)
    const target = new MemoryStore()
    const error = await copy(source, 'x', target).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(kind)
    expect(error).toMatchObject({ subject: bad?.digest })
    expect(copyFailure(error)).toMatchObject({ side: 'source', descriptor: { digest: bad?.digest } })
    expect(await target.exists(manifest)).toBe(false)
    await expect(target.resolve('x')).rejects.toBeInstanceOf(NotFoundError)
  })

  it('because of the target says so', async () => {
    const source = new MemoryStore()
    const { manifest, config } = await putImage(source)
    await source.tag(manifest, 'x')
    const target = new RecordingStore()
    const full = new Error('disk full')
    target.before = async (_, descriptor) => {
      if (descriptor.digest === config.digest) throw full
    }
    const error = await copy(source, 'x', target).catch((e: unknown) => e)
    expect(error).toBe(full)
    expect(copyFailure(error)).toMatchObject({ side: 'target', descriptor: { digest: config.digest } })
  })

  it('because content is missing at the source says so', async () => {
    const source = new MemoryStore()
    const missing: Descriptor = { mediaType: mediaType.ociLayer, digest: `sha256:${'2'.repeat(64)}`, size: 5 }
    const config = await put(source, mediaType.emptyJson, {})
    await source.tag(await put(source, mediaType.ociManifest, { schemaVersion: 2, config, layers: [missing] }), 'x')
    const error = await copy(source, 'x', new MemoryStore()).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(NotFoundError)
    expect(copyFailure(error)).toMatchObject({ side: 'source', descriptor: { digest: missing.digest } })
  })

  it('aborts the other transfers and waits for their end', async () => {
    const source = new MemoryStore()
    const { manifest, layers } = await putImage(source, { layers: [randomBytes(9), randomBytes(9), randomBytes(9)] })
    await source.tag(manifest, 'x')
    const target = new RecordingStore()
    const aborted: string[] = []
    let waiting = 0
    let fail: () => void = () => {}
    const ready = new Promise<void>((resolve) => {
      fail = resolve
    })
    target.before = async (_, { digest }, signal) => {
      if (!layers.some((layer) => layer.digest === digest)) return
      if (++waiting === 3) fail()
      if (digest === layers[1]?.digest) {
        await ready
        throw new Error('this one failed')
      }
      await new Promise<void>((_resolve, reject) => {
        signal?.addEventListener('abort', () => {
          // The end of a transfer takes a while, too.
          setTimeout(() => {
            aborted.push(digest)
            reject(signal.reason)
          }, 20)
        })
      })
    }
    await expect(copy(source, 'x', target, { concurrency: 4 })).rejects.toThrow('this one failed')
    expect(aborted.sort()).toEqual([layers[0]?.digest, layers[2]?.digest].sort())
    expect(target.active).toBe(0)
  })

  it('by abort rejects with the reason, and leaves nothing running', async () => {
    const source = new MemoryStore()
    const { manifest } = await putImage(source, { layers: [randomBytes(1_000_000), randomBytes(1_000_000)] })
    await source.tag(manifest, 'x')
    const controller = new AbortController()
    const target = new RecordingStore()
    const reason = { not: 'an error' }
    const pending = copy(source, 'x', target, {
      signal: controller.signal,
      onProgress: ({ kind }) => {
        if (kind === 'transferred') controller.abort(reason)
      },
    })
    await expect(pending).rejects.toBe(reason)
    expect(target.active).toBe(0)
    expect(await target.exists(manifest)).toBe(false)
    await expect(copy(source, 'x', target, { signal: controller.signal })).rejects.toBe(reason)
  })

  it('when the listener throws rejects with that', async () => {
    const source = new MemoryStore()
    await multi(source)
    const failure = new Error('listener')
    for (const kind of ['found', 'started', 'transferred', 'done']) {
      const pending = copy(source, 'multi', new MemoryStore(), {
        onProgress: (p) => {
          if (p.kind === kind) throw failure
        },
      })
      await expect(pending).rejects.toBe(failure)
    }
  })
})

describe('a hostile graph', () => {
  it('of manifests that are too large is not read', async () => {
    const source = new RecordingStore()
    const huge: Descriptor = { mediaType: mediaType.ociManifest, digest: `sha256:${'3'.repeat(64)}`, size: 2 ** 30 }
    await source.tag(await putIndex(source, [huge]), 'x')
    await expect(copy(source, 'x', new MemoryStore())).rejects.toBeInstanceOf(LimitError)
    expect(source.fetched).not.toContain(huge.digest)
  })

  it('of many large manifests is bounded in memory', async () => {
    const source = new RecordingStore()
    const large = Array.from({ length: 100 }, (_, n): Descriptor => {
      return { mediaType: mediaType.ociManifest, digest: `sha256:${String(n).padStart(64, '0')}`, size: 4_000_000 }
    })
    await source.tag(await putIndex(source, large), 'x')
    const waiting: Promise<never> = new Promise(() => {})
    source.before = (_, { size }, signal) => {
      if (size < 4_000_000) return Promise.resolve()
      return Promise.race([
        waiting,
        new Promise<void>((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
      ])
    }
    await expect(copy(source, 'x', new MemoryStore())).rejects.toBeInstanceOf(LimitError)
  })

  it('of indexes that are nested deeply is refused', async () => {
    const source = new MemoryStore()
    let index = await putIndex(source, [])
    for (let depth = 0; depth < 12; depth++) index = await putIndex(source, [index])
    await source.tag(index, 'x')
    await expect(copy(source, 'x', new MemoryStore())).rejects.toBeInstanceOf(LimitError)
    await expect(copy(source, 'x', new MemoryStore(), { platform: arm64 })).rejects.toBeInstanceOf(LimitError)
  })

  it('that closes a circle through digests nobody can check is refused', async () => {
    const source = new MemoryStore()
    const circle: Descriptor = { mediaType: mediaType.ociIndex, digest: 'future:circle', size: 150 }
    const text = JSON.stringify({ schemaVersion: 2, manifests: [circle] })
    const bytes = Buffer.from(text.padEnd(150))
    await source.push(circle, bytes)
    await source.tag(circle, 'x')
    await expect(copy(source, 'x', new MemoryStore())).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_DIGEST' })
  })

  it('in which a manifest is not what its descriptor says is refused', async () => {
    const source = new MemoryStore()
    const { manifest } = await putImage(source)
    const posing: Descriptor = { ...manifest, mediaType: mediaType.ociIndex }
    await source.tag(await putIndex(source, [posing]), 'x')
    const error = await copy(source, 'x', new MemoryStore()).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(SpecError)
    expect(copyFailure(error)).toMatchObject({ side: 'source', descriptor: { digest: manifest.digest } })
  })
})
