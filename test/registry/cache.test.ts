import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryStore } from '../../src/content/memory.ts'
import { openRepository } from '../../src/distribution/index.ts'
import { NetworkError } from '../../src/errors.ts'
import { type Digest, digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import {
  cacheStorage,
  contentStorage,
  createRegistryHandler,
  createRegistryServer,
  memoryStorage,
  type RegistryServer,
  type RegistryStorage,
  type Upstream,
} from '../../src/registry/index.ts'
import { Client, imageManifest, manifestOf, type Place, storages, type TestManifest } from './support.ts'

/** Another registry's repository whose ways are in the test's hand. */
class FakeUpstream extends MemoryStore {
  fetched: Digest[] = []
  resolved = 0
  down = false
  /** Stands between the content and who fetches it. */
  through: (digest: Digest, content: Readable) => Readable = (_, content) => content

  override async resolve(...args: Parameters<MemoryStore['resolve']>): ReturnType<MemoryStore['resolve']> {
    this.resolved += 1
    if (this.down) throw new NetworkError('https://upstream.example', 'is down')
    return super.resolve(...args)
  }

  override async fetch(...args: Parameters<MemoryStore['fetch']>): Promise<Readable> {
    const [{ digest }] = args
    this.fetched.push(digest)
    if (this.down) throw new NetworkError('https://upstream.example', 'is down')
    return this.through(digest, await super.fetch(...args))
  }

  /** Puts an image of one layer there. */
  async image(tag: string, layer: Uint8Array): Promise<TestManifest> {
    const config = Buffer.from('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')
    const manifest = imageManifest(config, layer)
    const put = (type: string, content: Uint8Array): Promise<void> =>
      this.push({ mediaType: type, digest: digestOf(content), size: content.byteLength }, content)
    await put(mediaType.ociConfig, config)
    await put(mediaType.ociLayer, layer)
    await put(mediaType.ociManifest, manifest.raw)
    await this.tag({ mediaType: mediaType.ociManifest, digest: manifest.digest, size: manifest.raw.byteLength }, tag)
    return manifest
  }
}

describe.each(storages)('a cache in $kind storage', ({ open }) => {
  let place: Place
  let upstream: FakeUpstream
  let client: Client
  let errors: unknown[]
  const layer = randomBytes(3_000_000)
  const digest = digestOf(layer)

  function start(options: Partial<Parameters<typeof cacheStorage>[0]> = {}): Client {
    const onError = (error: unknown): void => {
      errors.push(error)
    }
    const storage = cacheStorage({
      upstream: (repository) => (repository === 'app' ? upstream : undefined),
      storage: place.storage,
      onError,
      ...options,
    })
    return new Client(createRegistryHandler({ storage }))
  }
  const body = async (response: Response): Promise<Buffer> => Buffer.from(await response.arrayBuffer())
  const stored = async (): Promise<boolean> => {
    const blob = await place.storage.openBlob('app', digest)
    await blob?.close()
    return blob !== undefined
  }

  beforeEach(async () => {
    place = await open()
    upstream = new FakeUpstream()
    errors = []
    client = start()
  })
  afterEach(() => place.remove())

  it('fetches what is asked for once, and has it then, also when the other registry is gone', async () => {
    const image = await upstream.image('v1', layer)
    for (let i = 0; i < 3; i += 1) {
      expect((await body(await client.send('GET', '/v2/app/manifests/v1'))).equals(image.raw)).toBe(true)
      expect((await body(await client.send('GET', `/v2/app/blobs/${digest}`))).equals(layer)).toBe(true)
    }
    expect(upstream.fetched).toEqual([image.digest, digest])
    expect(upstream.resolved).toBe(1)
    upstream.down = true
    // Another process, which does not know when the tag was looked up.
    const later = start()
    expect((await later.send('GET', '/v2/app/manifests/v1')).headers.get('docker-content-digest')).toBe(image.digest)
    expect((await body(await later.send('GET', `/v2/app/blobs/${digest}`))).equals(layer)).toBe(true)
    expect(errors).toHaveLength(1)
    const strict = start({ staleIfError: false })
    expect((await strict.send('GET', '/v2/app/manifests/v1')).status).toBe(502)
    expect((await later.send('GET', '/v2/app/manifests/other')).status).toBe(502)
  })

  it('looks a tag up again when its time is over, and forgets those that are gone', async () => {
    client = start({ tagLifetime: 0 })
    const tag = async (): Promise<string | null> =>
      (await client.send('HEAD', '/v2/app/manifests/v1')).headers.get('docker-content-digest')
    const first = await upstream.image('v1', randomBytes(10))
    expect(await tag()).toBe(first.digest)
    const second = await upstream.image('v1', randomBytes(10))
    expect(await tag()).toBe(second.digest)
    upstream = new FakeUpstream()
    expect(await tag()).toBeNull()
    expect(await place.storage.getTag('app', 'v1')).toBeUndefined()
    // The manifest is still known by its digest.
    expect((await client.send('HEAD', `/v2/app/manifests/${first.digest}`)).status).toBe(200)
    expect((await client.send('HEAD', '/v2/unknown/manifests/v1')).status).toBe(404)
  })

  it('fetches a blob once for many who want it, and gives each the bytes as they come', async () => {
    await upstream.image('v1', layer)
    let release = (): void => {}
    const half = new Promise<void>((resolve) => {
      release = resolve
    })
    upstream.through = (what, content) => (what === digest ? Readable.from(slowly(content, half)) : content)
    await client.send('GET', '/v2/app/manifests/v1')
    const responses = await Promise.all(Array.from({ length: 8 }, () => client.send('GET', `/v2/app/blobs/${digest}`)))
    const reader = responses[0]?.body?.getReader()
    const start = await reader?.read()
    expect(start?.value?.byteLength).toBeGreaterThan(0)
    expect(await stored()).toBe(false)
    release()
    for (const response of responses.slice(1)) expect((await body(response)).equals(layer)).toBe(true)
    await reader?.cancel()
    const range = await client.send('GET', `/v2/app/blobs/${digest}`, { headers: { range: 'bytes=2999990-' } })
    expect((await body(range)).equals(layer.subarray(2_999_990))).toBe(true)
    expect(upstream.fetched.filter((what) => what === digest)).toHaveLength(1)
    expect(await stored()).toBe(true)
  })

  it.each([
    ['other bytes', () => randomBytes(3_000_000)],
    ['too few bytes', () => layer.subarray(1)],
    ['too many bytes', () => Buffer.concat([layer, layer])],
  ])('never keeps a blob of which it gets %s, nor gives all of it away', async (_, wrong) => {
    await upstream.image('v1', layer)
    upstream.through = (what, content) => (what === digest ? Readable.from([wrong()]) : content)
    await client.send('GET', '/v2/app/manifests/v1')
    const response = await client.send('GET', `/v2/app/blobs/${digest}`)
    expect(response.headers.get('content-length')).toBe('3000000')
    await expect(response.arrayBuffer()).rejects.toThrow()
    await vi.waitFor(() => expect(errors).toHaveLength(1))
    expect(await stored()).toBe(false)
    upstream.through = (_what, content) => content
    expect((await body(await client.send('GET', `/v2/app/blobs/${digest}`))).equals(layer)).toBe(true)
  })

  it('never keeps or serves a manifest with the wrong digest', async () => {
    const image = await upstream.image('v1', layer)
    const raw = Buffer.from(image.raw.toString().replace('schemaVersion', 'schemaversion'))
    upstream.through = () => Readable.from([raw])
    expect((await client.send('GET', '/v2/app/manifests/v1')).status).toBe(502)
    expect((await client.send('GET', `/v2/app/manifests/${image.digest}`)).status).toBe(502)
    expect(await place.storage.getManifest('app', image.digest)).toBeUndefined()
  })

  it('takes no pushes', async () => {
    const manifest = manifestOf(mediaType.ociIndex, { manifests: [] })
    expect((await client.putManifest('app', 'v1', manifest)).status).toBe(405)
    expect((await client.send('POST', '/v2/app/blobs/uploads/')).status).toBe(405)
    expect((await client.send('DELETE', `/v2/app/manifests/${manifest.digest}`)).status).toBe(405)
  })

  it('lets the blobs go that were not used for the longest time, when it is full', async () => {
    client = start({ maxSize: 2_500_000 })
    const layers = [randomBytes(1_000_000), randomBytes(1_000_000), randomBytes(1_000_000)]
    for (const [i, content] of layers.entries()) {
      await upstream.image(`v${i}`, content)
      await client.send('GET', `/v2/app/manifests/v${i}`)
      await body(await client.send('GET', `/v2/app/blobs/${digestOf(content)}`))
    }
    const has = async (content: Buffer): Promise<boolean> => {
      const blob = await place.storage.openBlob('app', digestOf(content))
      await blob?.close()
      return blob !== undefined
    }
    await vi.waitFor(async () => expect(await Promise.all(layers.map(has))).toEqual([false, true, true]))
    expect((await body(await client.send('GET', `/v2/app/blobs/${digestOf(layers[0] as Buffer)}`))).byteLength).toBe(
      1_000_000,
    )
  })
})

async function* slowly(content: Readable, half: Promise<void>): AsyncGenerator<Uint8Array> {
  let sent = 0
  for await (const chunk of content) {
    if (sent > 1_000_000) await half
    sent += (chunk as Uint8Array).byteLength
    yield chunk as Uint8Array
  }
}

describe('a cache in front of another embedded registry, over HTTP', () => {
  const open: RegistryServer[] = []
  afterEach(async () => {
    for (const registry of open.splice(0)) await registry.close()
  })

  it('serves what the other has, its tags and referrers, and goes on when the other is closed', async () => {
    const storage: RegistryStorage = memoryStorage()
    const source = await createRegistryServer({ storage })
    const direct = new Client(createRegistryHandler({ storage }))
    const image = await direct.pushImage('team/app', 'v1')
    const subject = { mediaType: image.mediaType, digest: image.digest, size: image.raw.byteLength }
    const signature = await direct.pushImage('team/app', 'signature', { subject })
    const upstream = (name: string): Upstream => openRepository(`${source.host}/${name}`)
    const cache = await createRegistryServer({ storage: cacheStorage({ upstream, storage: memoryStorage() }) })
    open.push(source, cache)
    const get = async (path: string): Promise<{ tags: string[]; manifests: { digest: string }[] }> =>
      JSON.parse(await (await fetch(`${cache.url}/v2/team/app/${path}`)).text())
    expect((await get('tags/list')).tags).toEqual(['signature', 'v1'])
    expect((await get(`referrers/${image.digest}`)).manifests).toMatchObject([{ digest: signature.digest }])
    const repository = openRepository(`${cache.host}/team/app`)
    const descriptor = await repository.resolve('v1')
    expect(descriptor.digest).toBe(image.digest)
    await source.close()
    expect((await fetch(`${cache.url}/v2/team/app/manifests/v1`)).headers.get('docker-content-digest')).toBe(
      image.digest,
    )
  })
})

describe('a content store behind a registry', () => {
  it('is served by its names, with what they lead to and nothing else, and can not be written to', async () => {
    const store = new FakeUpstream()
    const layer = randomBytes(1_000_000)
    const image = await store.image('docker.io/library/app:1', layer)
    const hidden = randomBytes(10)
    await store.push({ mediaType: mediaType.ociLayer, digest: digestOf(hidden), size: 10 }, hidden)
    await store.image('no-repository', randomBytes(10))
    const client = new Client(createRegistryHandler({ storage: contentStorage(store) }))
    const json = async (path: string): Promise<unknown> => JSON.parse(await (await client.send('GET', path)).text())
    expect(await json('/v2/_catalog')).toEqual({ repositories: ['library/app'] })
    expect(await json('/v2/library/app/tags/list')).toEqual({ name: 'library/app', tags: ['1'] })
    const manifest = await client.send('GET', '/v2/library/app/manifests/1')
    expect(Buffer.from(await manifest.arrayBuffer()).equals(image.raw)).toBe(true)
    const path = `/v2/library/app/blobs/${digestOf(layer)}`
    expect(Buffer.from(await (await client.send('GET', path)).arrayBuffer()).equals(layer)).toBe(true)
    const range = await client.send('GET', path, { headers: { range: 'bytes=500000-500009' } })
    expect(Buffer.from(await range.arrayBuffer()).equals(layer.subarray(500_000, 500_010))).toBe(true)
    expect((await client.send('GET', `/v2/library/app/blobs/${digestOf(hidden)}`)).status).toBe(404)
    expect((await client.send('GET', '/v2/library/other/manifests/1')).status).toBe(404)
    expect((await client.send('POST', '/v2/library/app/blobs/uploads/')).status).toBe(405)
    store.through = (_, content) => Readable.from(content.map((chunk: Buffer) => Buffer.alloc(chunk.byteLength)))
    await expect((await client.send('GET', path)).arrayBuffer()).rejects.toThrow()
  })
})
