import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { createRegistryHandler } from '../../src/registry/index.ts'
import { Client, errorCode, imageManifest, manifestOf, type Place, storages } from './support.ts'

describe.each(storages)('manifests in $kind storage', ({ open }) => {
  let place: Place
  let client: Client

  beforeAll(async () => {
    place = await open()
    client = new Client(createRegistryHandler({ storage: place.storage }))
  })
  afterAll(() => place.remove())

  it('come back byte for byte, by tag and by digest, with the type they were pushed as', async () => {
    const image = await client.pushImage('exact', 'v1', { annotations: { 'org.example': 'ü ' }, unknown: [1, 2] })
    for (const reference of ['v1', image.digest]) {
      const get = await client.send('GET', `/v2/exact/manifests/${reference}`)
      expect(get.headers.get('content-type')).toBe(mediaType.ociManifest)
      expect(get.headers.get('docker-content-digest')).toBe(image.digest)
      expect(get.headers.get('content-length')).toBe(String(image.raw.byteLength))
      expect(Buffer.from(await get.arrayBuffer()).equals(image.raw)).toBe(true)
      const head = await client.send('HEAD', `/v2/exact/manifests/${reference}`)
      expect(Object.fromEntries(head.headers)).toEqual(Object.fromEntries(get.headers))
      expect(head.body).toBeNull()
    }
  })

  it('of Docker are taken too', async () => {
    const image = await client.pushImage('docker', 'oci')
    const members: Record<string, unknown> = JSON.parse(image.raw.toString())
    const docker = manifestOf(mediaType.dockerManifest, { ...members, mediaType: mediaType.dockerManifest })
    expect((await client.putManifest('docker', 'v2', docker)).status).toBe(201)
    const get = await client.send('GET', '/v2/docker/manifests/v2')
    expect(get.headers.get('content-type')).toBe(mediaType.dockerManifest)
  })

  it('are refused while their blobs are missing, with the digests', async () => {
    const manifest = imageManifest(Buffer.from('no config'), Buffer.from('no layer'))
    const response = await client.putManifest('missing', 'v1', manifest)
    expect(response.status).toBe(400)
    const body = JSON.parse(await response.text())
    expect(body.errors[0]).toMatchObject({
      code: 'MANIFEST_BLOB_UNKNOWN',
      detail: [{ digest: digestOf(Buffer.from('no config')) }, { digest: digestOf(Buffer.from('no layer')) }],
    })
    expect((await client.send('GET', '/v2/missing/manifests/v1')).status).toBe(404)
  })

  it('do not find their blobs in another repository', async () => {
    const image = await client.pushImage('blobs/here', 'v1')
    const response = await client.putManifest('blobs/there', 'v1', image)
    expect(await errorCode(response)).toBe('MANIFEST_BLOB_UNKNOWN')
  })

  it('may name foreign layers that nobody pushed', async () => {
    const config = Buffer.from('{}')
    await client.push('foreign', config)
    const digest = digestOf(Buffer.from('elsewhere'))
    const layers = [{ mediaType: mediaType.ociForeignLayerGzip, digest, size: 9, urls: ['https://example.org/layer'] }]
    const manifest = imageManifest(config, Buffer.from(''), { layers })
    expect((await client.putManifest('foreign', 'v1', manifest)).status).toBe(201)
  })

  it('of an index need the manifests they list', async () => {
    const image = await client.pushImage('index', 'amd64')
    const entry = { mediaType: mediaType.ociManifest, digest: image.digest, size: image.raw.byteLength }
    const index = manifestOf(mediaType.ociIndex, { manifests: [entry] })
    expect((await client.putManifest('index', 'all', index)).status).toBe(201)
    const sparse = manifestOf(mediaType.ociIndex, { manifests: [{ ...entry, digest: digestOf(Buffer.from('?')) }] })
    expect(await errorCode(await client.putManifest('index', 'sparse', sparse))).toBe('MANIFEST_BLOB_UNKNOWN')
  })

  it.each([
    ['no JSON', 'no json', mediaType.ociManifest],
    ['no object', '[]', mediaType.ociManifest],
    ['no manifest', '{}', mediaType.ociManifest],
    ['duplicate names', '{"schemaVersion":2,"schemaVersion":2,"manifests":[]}', mediaType.ociIndex],
    [
      'another type than it was sent as',
      '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
      mediaType.dockerIndex,
    ],
    ['schema 1', '{"schemaVersion":1}', mediaType.dockerSchema1Signed],
    [
      'an unsound digest',
      `{"schemaVersion":2,"manifests":[{"mediaType":"a/b","size":1,"digest":"sha256:../../etc"}]}`,
      mediaType.ociIndex,
    ],
  ])('are refused that are %s', async (_, text, type) => {
    const raw = Buffer.from(text)
    const response = await client.putManifest('invalid', 'v1', { raw, digest: digestOf(raw), mediaType: type })
    expect(response.status).toBe(400)
    expect(await errorCode(response)).toBe('MANIFEST_INVALID')
  })

  it('are refused when they do not have the digest they are pushed under', async () => {
    const image = await client.pushImage('digest', 'v1')
    const response = await client.putManifest('digest', digestOf(Buffer.from('other')), image)
    expect(response.status).toBe(400)
    expect(await errorCode(response)).toBe('DIGEST_INVALID')
  })

  it('are refused when they are too large, without being read to the end', async () => {
    const limited = createRegistryHandler({ storage: place.storage, maxManifestSize: 1000 })
    let pulled = 0
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled += 1
        controller.enqueue(new Uint8Array(100_000))
      },
    })
    const request = new Request('http://registry.test/v2/large/manifests/v1', { method: 'PUT', body, duplex: 'half' })
    const response = await limited(request)
    expect(response.status).toBe(413)
    expect(pulled).toBeLessThan(20)
    const declared = await new Client(limited).send('PUT', '/v2/large/manifests/v1', { body: new Uint8Array(1001) })
    expect(declared.status).toBe(413)
  })

  it('take several tags with one push by digest, and say so', async () => {
    const image = await client.pushImage('tags', 'v1')
    const response = await client.putManifest('tags', `${image.digest}?tag=1&tag=1.2&tag=latest&tag=1`, image)
    expect(response.status).toBe(201)
    expect(response.headers.get('oci-tag')).toBe('1, 1.2, latest')
    const list = JSON.parse(await (await client.send('GET', '/v2/tags/tags/list')).text())
    expect(list).toEqual({ name: 'tags', tags: ['1', '1.2', 'latest', 'v1'] })
    const bad = await client.putManifest('tags', `${image.digest}?tag=ok&tag=..%2f..%2fevil`, image)
    expect(bad.status).toBe(400)
    const many = Array.from({ length: 101 }, (_, i) => `tag=t${i}`).join('&')
    expect((await client.putManifest('tags', `${image.digest}?${many}`, image)).status).toBe(414)
  })

  it('lose a tag without losing their content', async () => {
    const image = await client.pushImage('untag', 'v1')
    expect((await client.send('DELETE', '/v2/untag/manifests/v1')).status).toBe(202)
    expect((await client.send('DELETE', '/v2/untag/manifests/v1')).status).toBe(404)
    expect((await client.send('GET', '/v2/untag/manifests/v1')).status).toBe(404)
    expect((await client.send('HEAD', `/v2/untag/manifests/${image.digest}`)).status).toBe(200)
  })

  it('lose all of their tags when they are deleted', async () => {
    const image = await client.pushImage('delete', 'v1')
    const other = await client.pushImage('delete', 'other')
    await client.putManifest('delete', `${image.digest}?tag=v1.0&tag=latest`, image)
    expect((await client.send('DELETE', `/v2/delete/manifests/${image.digest}`)).status).toBe(202)
    const list = JSON.parse(await (await client.send('GET', '/v2/delete/tags/list')).text())
    expect(list.tags).toEqual(['other'])
    expect((await client.send('HEAD', `/v2/delete/manifests/${other.digest}`)).status).toBe(200)
    expect((await client.send('GET', `/v2/delete/manifests/${image.digest}`)).status).toBe(404)
  })

  it('are updated under If-Match by one of many', async () => {
    const first = await client.pushImage('race', 'v1')
    const contenders = await Promise.all(Array.from({ length: 5 }, (_, i) => client.pushImage('race', `c${i}`)))
    const responses = await Promise.all(
      contenders.map((image) => client.putManifest('race', 'v1', image, { 'if-match': `"${first.digest}"` })),
    )
    expect(responses.map((response) => response.status).sort()).toEqual([201, 412, 412, 412, 412])
  })

  it('are created under If-None-Match only where there is none', async () => {
    const image = await client.pushImage('create', 'v1')
    expect((await client.putManifest('create', 'v1', image, { 'if-none-match': '*' })).status).toBe(412)
    expect((await client.putManifest('create', 'v2', image, { 'if-none-match': '*' })).status).toBe(201)
  })

  it('list their tags in pages whose links lead to the end', async () => {
    const image = await client.pushImage('pages', 'b')
    await client.putManifest('pages', `${image.digest}?tag=a&tag=C&tag=_x&tag=1.0&tag=10`, image)
    const seen: string[] = []
    let next: string | undefined = '/v2/pages/tags/list?n=4'
    while (next !== undefined) {
      const response: Response = await client.send('GET', next)
      seen.push(...JSON.parse(await response.text()).tags)
      next = /^<([^>]+)>; rel="next"$/.exec(response.headers.get('link') ?? '')?.[1]
    }
    expect(seen).toEqual(['1.0', '10', 'C', '_x', 'a', 'b'])
    const none = await client.send('GET', '/v2/pages/tags/list?n=0')
    expect(JSON.parse(await none.text()).tags).toEqual([])
    expect(none.headers.get('link')).toBeNull()
    const rest = await client.send('GET', '/v2/pages/tags/list?last=a')
    expect(JSON.parse(await rest.text()).tags).toEqual(['b'])
    expect((await client.send('GET', '/v2/pages/tags/list?n=-1')).status).toBe(400)
  })

  it('make their repository one that the catalog lists, until all is deleted', async () => {
    const own = await open()
    const registry = new Client(createRegistryHandler({ storage: own.storage }))
    const image = await registry.pushImage('deep/er/name', 'v1')
    await registry.push('deep', Buffer.from('blob'))
    await registry.push('deep-er', Buffer.from('blob'))
    const catalog = async (query: string): Promise<unknown> =>
      JSON.parse(await (await registry.send('GET', `/v2/_catalog${query}`)).text())
    expect(await catalog('')).toEqual({ repositories: ['deep', 'deep-er', 'deep/er/name'] })
    expect(await catalog('?n=1&last=deep')).toEqual({ repositories: ['deep-er'] })
    const manifest = JSON.parse(image.raw.toString())
    for (const { digest } of [manifest.config, ...manifest.layers])
      await registry.send('DELETE', `/v2/deep/er/name/blobs/${digest}`)
    await registry.send('DELETE', `/v2/deep/er/name/manifests/${image.digest}`)
    expect(await catalog('')).toEqual({ repositories: ['deep', 'deep-er'] })
    expect((await registry.send('GET', '/v2/deep/er/name/tags/list')).status).toBe(404)
    await own.remove()
  })
})
