import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type CopyProgress,
  copy,
  LayoutStore,
  loadArchive,
  MemoryStore,
  openArchive,
  type ReferrersLister,
  writeArchive,
} from '../../src/content/index.ts'
import { createRegistryClient, type RegistryClient } from '../../src/distribution/index.ts'
import type { Descriptor } from '../../src/image/descriptor.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { parsePlatform } from '../../src/image/platform.ts'
import { parseReference } from '../../src/image/reference.ts'
import { createRegistryServer, memoryStorage, type RegistryServer } from '../../src/registry/index.ts'
import { put, putImage, putIndex } from '../content/support.ts'

let server: RegistryServer
let client: RegistryClient
let root: string

beforeAll(async () => {
  server = await createRegistryServer({ storage: memoryStorage() })
  client = createRegistryClient()
  root = await mkdtemp(join(tmpdir(), 'oci-ts-copy-'))
})

afterAll(async () => {
  client?.close()
  await server?.close()
  await rm(root, { recursive: true, force: true })
})

const repository = (name: string) => client.repository(parseReference(`${server.host}/${name}`))

/** An index of two platforms, tagged `1`, of which one image has an SBOM. */
async function example() {
  const store = new MemoryStore()
  const amd = await putImage(store, { inIndex: true, layers: [randomBytes(1_000_000)] })
  const arm = await putImage(store, { inIndex: true, platform: 'linux/arm64' })
  const index = await putIndex(store, [amd.manifest, arm.manifest])
  const empty = await put(store, mediaType.emptyJson, {})
  const { platform: _, ...subject } = amd.manifest
  const sbom = await put(store, mediaType.ociManifest, {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    artifactType: 'application/vnd.example.sbom',
    config: empty,
    layers: [empty],
    subject,
  })
  await store.tag(index, '1')
  return { store, index, amd, arm, sbom }
}

async function referrers(lister: ReferrersLister, of: Descriptor): Promise<readonly string[]> {
  const found: string[] = []
  for await (const { digest } of lister.referrers(of)) found.push(digest)
  return found
}

describe('an image with a referrer', () => {
  it('goes from memory to a registry, a layout, an archive and back, and is the same everywhere', async () => {
    const { store, index, amd, sbom } = await example()
    const options = { referrers: true }
    await copy(store, '1', repository('a/b'), options)
    const layout = await LayoutStore.create(join(root, 'layout'), { sync: false })
    await copy(repository('a/b'), '1', layout, options)
    const path = join(root, 'a.tar')
    await writeArchive(path, [{ source: layout, reference: '1', as: 'example.com/x:1', ...options }])
    await using archive = await openArchive(path)
    await copy(archive, 'example.com/x:1', repository('c/d'), { ...options, as: '2' })
    const back = new MemoryStore()
    await copy(repository('c/d'), '2', back, options)
    expect((await back.resolve('2')).digest).toBe(index.digest)
    for (const place of [repository('a/b'), layout, archive, repository('c/d'), back]) {
      expect(await referrers(place, amd.manifest)).toEqual([sbom.digest])
    }
  })

  it('is mounted from one repository of a registry in another: no blob passes', async () => {
    const { store, index } = await example()
    await copy(store, '1', repository('from/here'))
    const moved: string[] = []
    let last: CopyProgress | undefined
    await copy(repository('from/here'), '1', repository('to/there'), {
      onProgress(progress) {
        if (progress.kind === 'started') moved.push(progress.descriptor.mediaType)
        last = progress
      },
    })
    expect(moved.sort()).toEqual([mediaType.ociIndex, mediaType.ociManifest, mediaType.ociManifest].sort())
    expect(last?.totals).toMatchObject({ found: 7, mounted: 4, done: 3 })
    expect((await repository('to/there').resolve('1')).digest).toBe(index.digest)
  })

  it('goes to a registry from an archive that is only a stream', async () => {
    const { store, index } = await example()
    const path = join(root, 'b.tar')
    await writeArchive(path, [{ source: store, reference: '1', as: '1' }], { compression: 'gzip' })
    await loadArchive(createReadStream(path), repository('from/stream'))
    expect((await repository('from/stream').resolve('1')).digest).toBe(index.digest)
    await copy(repository('from/stream'), '1', new MemoryStore())
  })

  it('is pushed for one platform as an index of its own', async () => {
    const { store, arm } = await example()
    const platforms = [parsePlatform('linux/arm64')]
    const chosen = await copy(store, '1', repository('one/platform'), { platforms })
    expect(await repository('one/platform').exists(arm.manifest)).toBe(true)
    expect((await repository('one/platform').resolve('1')).digest).toBe(chosen.digest)
  })
})
