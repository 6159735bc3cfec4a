import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Descriptor } from '../../src/image/descriptor.ts'
import { digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { createRegistryHandler } from '../../src/registry/index.ts'
import { Client, manifestOf, type Place, storages, type TestManifest } from './support.ts'

describe.each(storages)('referrers in $kind storage', ({ open }) => {
  let place: Place
  let client: Client
  const subject = { mediaType: mediaType.ociManifest, digest: digestOf(Buffer.from('the image')), size: 9 }

  beforeAll(async () => {
    place = await open()
    client = new Client(createRegistryHandler({ storage: place.storage }))
  })
  afterAll(() => place.remove())

  async function attach(repository: string, members: Readonly<Record<string, unknown>>): Promise<TestManifest> {
    const empty = await client.push(repository, Buffer.from('{}'))
    const descriptor = { mediaType: mediaType.emptyJson, digest: empty, size: 2 }
    const manifest = manifestOf(mediaType.ociManifest, {
      config: descriptor,
      layers: [descriptor],
      subject,
      ...members,
    })
    const response = await client.putManifest(repository, manifest.digest, manifest)
    expect(response.status).toBe(201)
    expect(response.headers.get('oci-subject')).toBe(subject.digest)
    return manifest
  }

  async function list(repository: string, query = ''): Promise<{ response: Response; manifests: Descriptor[] }> {
    const response = await client.send('GET', `/v2/${repository}/referrers/${subject.digest}${query}`)
    return { response, manifests: JSON.parse(await response.text()).manifests }
  }

  it('are listed with artifact type and annotations, before and after their subject is there', async () => {
    const sbom = await attach('list', { artifactType: 'application/sbom', annotations: { a: 'b' } })
    const untyped = await attach('list', {})
    const index = manifestOf(mediaType.ociIndex, { manifests: [], subject })
    await client.putManifest('list', index.digest, index)
    const { response, manifests } = await list('list')
    expect(response.headers.get('content-type')).toBe(mediaType.ociIndex)
    const byDigest = new Map(manifests.map((manifest) => [manifest.digest, manifest]))
    expect(byDigest.get(sbom.digest)).toEqual({
      mediaType: mediaType.ociManifest,
      digest: sbom.digest,
      size: sbom.raw.byteLength,
      artifactType: 'application/sbom',
      annotations: { a: 'b' },
    })
    expect(byDigest.get(untyped.digest)?.artifactType).toBe(mediaType.emptyJson)
    expect(byDigest.get(index.digest)).not.toHaveProperty('artifactType')
    expect(byDigest.size).toBe(3)
  })

  it('are filtered by artifact type, and the answer says so', async () => {
    const wanted = await attach('filter', { artifactType: 'application/sig' })
    await attach('filter', { artifactType: 'application/sbom' })
    const { response, manifests } = await list('filter', '?artifactType=application/sig')
    expect(response.headers.get('oci-filters-applied')).toBe('artifactType')
    expect(manifests.map((manifest) => manifest.digest)).toEqual([wanted.digest])
  })

  it('come in pages when they are too large for one answer', async () => {
    const pushed = new Set<string>()
    for (let i = 0; i < 5; i += 1) {
      pushed.add((await attach('pages', { annotations: { large: `${i}`.repeat(900_000) } })).digest)
    }
    const seen: string[] = []
    let query: string | undefined = ''
    let pages = 0
    while (query !== undefined) {
      const { response, manifests }: { response: Response; manifests: Descriptor[] } = await list('pages', query)
      seen.push(...manifests.map((manifest) => manifest.digest))
      pages += 1
      query = /^<[^?]+(\?[^>]+)>; rel="next"$/.exec(response.headers.get('link') ?? '')?.[1]
    }
    expect(pages).toBe(3)
    expect(new Set(seen)).toEqual(pushed)
    expect(seen).toHaveLength(5)
  })

  it('are empty, never unknown, where nothing refers', async () => {
    const { response, manifests } = await list('nowhere')
    expect(response.status).toBe(200)
    expect(manifests).toEqual([])
    expect((await client.send('GET', '/v2/nowhere/referrers/sha256:short')).status).toBe(400)
  })

  it('are gone when they are deleted', async () => {
    const manifest = await attach('gone', { artifactType: 'application/sig' })
    await client.send('DELETE', `/v2/gone/manifests/${manifest.digest}`)
    expect((await list('gone')).manifests).toEqual([])
  })

  it('may have a subject whose digest nobody can compute', async () => {
    const digest = `sha3+long_algorithm.name:${'A'.repeat(200)}`
    const manifest = await client.pushImage('strange', 'v1', { subject: { ...subject, digest } })
    const response = await client.send('GET', `/v2/strange/referrers/${digest}`)
    expect(JSON.parse(await response.text()).manifests[0].digest).toBe(manifest.digest)
  })
})
