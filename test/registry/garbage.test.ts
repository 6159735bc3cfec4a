import { randomBytes } from 'node:crypto'
import { readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ConflictError, InvalidArgumentError } from '../../src/errors.ts'
import { digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { createRegistryHandler, diskStorage, type RegistryHandler } from '../../src/registry/index.ts'
import { Client, errorCode, manifestOf, type Place, storages, temporaryDirectory } from './support.ts'

/** Everything is old enough. */
const now = { minAge: 0 } as const

describe.each(storages)('garbage in $kind storage', ({ open }) => {
  let place: Place
  let client: Client

  beforeEach(async () => {
    place = await open()
    client = new Client(createRegistryHandler({ storage: place.storage }))
  })
  afterEach(() => place.remove())

  /** A handler that nobody has talked to yet: no client has been told anything. */
  function fresh(): RegistryHandler {
    return createRegistryHandler({ storage: place.storage })
  }
  async function passed(): Promise<void> {
    // The clock must have moved on, so that what was pushed is older than now.
    const begin = Date.now()
    while (Date.now() <= begin + 5) await new Promise((resolve) => setImmediate(resolve))
  }

  it('is blobs that no manifest names; a dry run finds and does not remove them', async () => {
    const image = await client.pushImage('app', 'v1')
    const garbage = await client.push('app', randomBytes(1000))
    await passed()
    const found = await fresh().collectGarbage({ ...now, dryRun: true })
    expect(found.removed).toMatchObject([{ kind: 'blob', repository: 'app', digest: garbage, size: 1000 }])
    expect((await client.send('HEAD', `/v2/app/blobs/${garbage}`)).status).toBe(200)
    const report = await fresh().collectGarbage(now)
    expect(report).toMatchObject({ dryRun: false, repositories: 1, bytes: 1000, failed: [] })
    expect((await client.send('HEAD', `/v2/app/blobs/${garbage}`)).status).toBe(404)
    expect((await client.send('GET', '/v2/app/manifests/v1')).status).toBe(200)
    const { layers }: { layers: { digest: string }[] } = JSON.parse(image.raw.toString())
    for (const { digest } of layers) expect((await client.send('GET', `/v2/app/blobs/${digest}`)).status).toBe(200)
    expect((await fresh().collectGarbage(now)).removed).toEqual([])
  })

  it('is not what is new, or what a client has just been told is there', async () => {
    const garbage = await client.push('app', randomBytes(1000))
    await passed()
    expect((await fresh().collectGarbage()).removed).toEqual([])
    const handler = fresh()
    const hour = 3_600_000
    const begin = Date.now()
    vi.useFakeTimers({ toFake: ['Date'], now: begin + hour })
    try {
      await new Client(handler).send('HEAD', `/v2/app/blobs/${garbage}`)
      // The blob is older than that, the answer is not.
      expect((await handler.collectGarbage({ minAge: '30m' })).removed).toEqual([])
      vi.setSystemTime(begin + 2 * hour)
      expect((await handler.collectGarbage({ minAge: '30m' })).removed).toHaveLength(1)
    } finally {
      vi.useRealTimers()
    }
  })

  it('is what no tag leads to, when that is asked for; parts of an index and referrers stay', async () => {
    const part = await client.pushImage('app', 'part')
    const child = { mediaType: part.mediaType, digest: part.digest, size: part.raw.byteLength }
    const index = manifestOf(mediaType.ociIndex, { manifests: [child] })
    await client.putManifest('app', 'all', index)
    const signature = await client.pushImage('app', 'signature', { subject: child })
    const lonely = await client.pushImage('app', 'lonely')
    for (const tag of ['part', 'signature', 'lonely']) await client.send('DELETE', `/v2/app/manifests/${tag}`)
    await passed()
    expect((await fresh().collectGarbage(now)).removed).toEqual([])
    const { removed } = await fresh().collectGarbage({ ...now, untagged: true })
    expect(removed.filter(({ kind }) => kind === 'manifest').map(({ digest }) => digest)).toEqual([lonely.digest])
    for (const { digest } of [part, index, signature]) {
      expect((await client.send('GET', `/v2/app/manifests/${digest}`)).status).toBe(200)
    }
    expect((await client.send('GET', `/v2/app/manifests/${lonely.digest}`)).status).toBe(404)
  })

  it('can be collected while images are pushed, and no push fails or loses anything', async () => {
    const handler = createRegistryHandler({ storage: place.storage })
    const pushing = new Client(handler)
    let pushes = true
    const collect = async (): Promise<number> => {
      let rounds = 0
      for (; pushes; rounds += 1) {
        // Shorter than is safe over a network; here a push takes milliseconds.
        await handler.collectGarbage({ minAge: '5s', untagged: true })
        await new Promise((resolve) => setImmediate(resolve))
      }
      return rounds
    }
    const collecting = collect()
    const images = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => ({
        tag: `v${i}`,
        image: await pushing.pushImage(`r${i % 4}`, `v${i}`),
      })),
    )
    pushes = false
    expect(await collecting).toBeGreaterThan(0)
    for (const [i, { tag, image }] of images.entries()) {
      expect((await client.send('GET', `/v2/r${i % 4}/manifests/${tag}`)).status).toBe(200)
      const { layers }: { layers: { digest: string }[] } = JSON.parse(image.raw.toString())
      expect((await client.send('HEAD', `/v2/r${i % 4}/blobs/${layers[0]?.digest}`)).status).toBe(200)
    }
  })

  it('is collected once at a time, and not after an abort', async () => {
    await client.pushImage('app', 'v1')
    const handler = fresh()
    const running = handler.collectGarbage(now)
    await expect(handler.collectGarbage(now)).rejects.toBeInstanceOf(ConflictError)
    await running
    const reason = new Error('enough')
    await expect(handler.collectGarbage({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  it('a quota refuses what is too much, in whatever way it comes, and takes more after a deletion', async () => {
    const handler = createRegistryHandler({
      storage: place.storage,
      quota: { repository: (name) => (name === 'free' ? undefined : 10_000), total: '100k' },
    })
    const limited = new Client(handler)
    const digest = await limited.push('app', randomBytes(6000))
    const push = (name: string, size: number): Promise<Response> => {
      const body = randomBytes(size)
      return limited.send('POST', `/v2/${name}/blobs/uploads/?digest=${digestOf(body)}`, { body })
    }
    const refused = await push('app', 6000)
    expect(refused.status).toBe(403)
    expect(await errorCode(refused)).toBe('DENIED')
    const path = await limited.begin('app')
    expect((await limited.send('PATCH', path, { body: randomBytes(3000) })).status).toBe(202)
    // What has arrived counts, also of an upload that is not complete.
    expect((await push('app', 3000)).status).toBe(403)
    await limited.send('DELETE', path)
    expect((await push('app', 3000)).status).toBe(201)
    const large = await limited.push('free', randomBytes(20_000))
    expect((await limited.send('POST', `/v2/app/blobs/uploads/?mount=${large}&from=free`)).status).toBe(403)
    expect((await limited.send('HEAD', `/v2/app/blobs/${large}`)).status).toBe(404)
    expect((await push('free', 90_000)).status).toBe(403)
    await limited.send('DELETE', `/v2/app/blobs/${digest}`)
    expect((await push('app', 6000)).status).toBe(201)
    // Another server counts what is there.
    const other = createRegistryHandler({ storage: place.storage, quota: { repository: 10_000 } })
    const body = randomBytes(6000)
    const again = await new Client(other).send('POST', `/v2/app/blobs/uploads/?digest=${digestOf(body)}`, { body })
    expect(again.status).toBe(403)
  })
})

describe('a quota', () => {
  it('must make sense', () => {
    const { storage } = { storage: diskStorage('/nowhere') }
    const quota = { total: 'much' as '1m' }
    expect(() => createRegistryHandler({ storage, quota })).toThrow(InvalidArgumentError)
  })
})

describe('a registry on a disk that rots', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let client: Client
  let handler: RegistryHandler

  beforeEach(async () => {
    directory = await temporaryDirectory()
    handler = createRegistryHandler({ storage: diskStorage(directory.path) })
    client = new Client(handler)
  })
  afterEach(() => directory.remove())

  it.each([
    ['other bytes', (size: number) => randomBytes(size)],
    ['too few', (size: number) => randomBytes(size - 1)],
    ['none', () => Buffer.alloc(0)],
  ])('heals a blob that has %s, in every repository, when it is pushed again', async (_, rotten) => {
    const content = randomBytes(10_000)
    const digest = await client.push('one', content)
    await client.push('two', content)
    await writeFile(join(directory.path, 'blobs', digest.replace(':', '/')), rotten(content.byteLength))
    await client.push('three', content)
    for (const name of ['one', 'two', 'three']) {
      const response = await client.send('GET', `/v2/${name}/blobs/${digest}`)
      expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true)
    }
    expect(await readdir(join(directory.path, 'uploads'))).toEqual([])
  })

  it('finds rotten blobs when asked to, and removes them, so that clients push them again', async () => {
    const image = await client.pushImage('app', 'v1')
    const { layers }: { layers: { digest: string }[] } = JSON.parse(image.raw.toString())
    const digest = layers[0]?.digest ?? ''
    await writeFile(join(directory.path, 'blobs', digest.replace(':', '/')), 'rotten')
    expect((await handler.collectGarbage({ verify: true })).removed).toMatchObject([{ digest, reason: 'corrupt' }])
    expect((await client.send('HEAD', `/v2/app/blobs/${digest}`)).status).toBe(404)
  })

  it('removes a blob that a crash left without a repository', async () => {
    await client.pushImage('app', 'v1')
    const content = randomBytes(100)
    const file = join(directory.path, 'blobs', digestOf(content).replace(':', '/'))
    await writeFile(file, content)
    await utimes(file, 0, 0)
    const { removed } = await new Promise<Awaited<ReturnType<RegistryHandler['collectGarbage']>>>((resolve, reject) => {
      setTimeout(() => handler.collectGarbage({ minAge: 1 }).then(resolve, reject), 20)
    })
    expect(removed).toMatchObject([{ repository: undefined, digest: digestOf(content) }])
  })
})
