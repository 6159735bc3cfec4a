import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadArchive } from '../../../src/content/archive/load.ts'
import { openArchive } from '../../../src/content/archive/open.ts'
import { writeArchive } from '../../../src/content/archive/write.ts'
import { copy } from '../../../src/content/copy.ts'
import { LayoutStore } from '../../../src/content/layout.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import { readAll } from '../../../src/content/verify.ts'
import { type ImageManifest, parseManifest } from '../../../src/image/manifest.ts'
import { putImage, putIndex, temporaryDirectory } from '../support.ts'
import { layer } from './support.ts'

let root: string
let remove: () => Promise<void>

beforeEach(async () => {
  const directory = await temporaryDirectory()
  root = directory.path
  remove = directory.remove
})

afterEach(() => remove())

function has(tool: string): boolean {
  return spawnSync(tool, ['--version']).error === undefined
}

function run(tool: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${stderr}`)
  return stdout
}

const skopeo = (...args: readonly string[]): string => run('skopeo', '--insecure-policy', ...args)

/** podman and buildah with a store of their own. */
const storage = (): readonly string[] => [
  '--root',
  join(root, 'storage'),
  '--runroot',
  join(root, 'run'),
  '--storage-driver',
  'vfs',
]

const one = 'example.com/team/one:1'
const two = 'example.com/team/two:2'
const multi = 'example.com/team/multi:3'

/** An archive of ours with two images and an index of two platforms. */
async function ours(path: string): Promise<MemoryStore> {
  const store = new MemoryStore()
  const shared = layer(randomBytes(100_000))
  await store.tag((await putImage(store, { layers: [shared, layer('x')] })).manifest, one)
  await store.tag((await putImage(store, { layers: [shared] })).manifest, two)
  const platforms = ['linux/amd64', 'linux/arm64']
  const entries = await Promise.all(
    platforms.map((platform) => putImage(store, { inIndex: true, platform, layers: [shared, layer(platform)] })),
  )
  await store.tag(
    await putIndex(
      store,
      entries.map(({ manifest }) => manifest),
    ),
    multi,
  )
  await writeArchive(
    path,
    [one, two, multi].map((reference) => ({ source: store, reference })),
  )
  return store
}

async function manifestOf(store: MemoryStore, name: string): Promise<ImageManifest> {
  return parseManifest(await readAll(store, await store.resolve(name), 100_000)).value
}

/** DiffIDs of an image, which no conversion of manifests changes. */
async function diffIds(store: MemoryStore, name: string): Promise<readonly string[]> {
  const { config } = await manifestOf(store, name)
  const { rootfs } = JSON.parse(Buffer.from(await readAll(store, config, 100_000)).toString())
  return rootfs.diff_ids
}

describe.skipIf(!has('skopeo'))('an archive and skopeo (skipped where skopeo is not installed)', () => {
  it('reads ours as an OCI archive, every image, to the same digests', async () => {
    const store = await ours(join(root, 'a.tar'))
    for (const name of [one, two, multi]) {
      skopeo('copy', '--all', `oci-archive:${join(root, 'a.tar')}:${name}`, `oci:${join(root, 'layout')}:${name}`)
      const layout = await LayoutStore.open(join(root, 'layout'))
      expect((await layout.resolve(name)).digest).toBe((await store.resolve(name)).digest)
    }
  })

  it('reads ours as a Docker archive', async () => {
    const store = await ours(join(root, 'a.tar'))
    for (const name of [one, two]) {
      const text = skopeo('inspect', '--config', '--raw', `docker-archive:${join(root, 'a.tar')}:${name}`)
      expect(JSON.parse(text).rootfs.diff_ids).toEqual(await diffIds(store, name))
      skopeo('copy', `docker-archive:${join(root, 'a.tar')}:${name}`, `dir:${join(root, 'dir')}`)
    }
  })

  it.each(['oci-archive', 'docker-archive'])('is read by us as %s, in place and as it comes', async (format) => {
    const store = await ours(join(root, 'a.tar'))
    skopeo('copy', `oci-archive:${join(root, 'a.tar')}:${one}`, `${format}:${join(root, 'b.tar')}:${one}`)
    const target = new MemoryStore()
    await using archive = await openArchive(join(root, 'b.tar'))
    expect(archive.format).toBe(format === 'oci-archive' ? 'oci' : 'docker')
    await copy(archive, one, target)
    expect(await diffIds(target, one)).toEqual(await diffIds(store, one))
    if (format === 'oci-archive') expect(await target.resolve(one)).toEqual(await store.resolve(one))
    await writeFile(join(root, 'b.tar.gz'), gzipSync(await readFile(join(root, 'b.tar'))))
    for (const name of ['b.tar', 'b.tar.gz']) {
      const streamed = new MemoryStore()
      await loadArchive(createReadStream(join(root, name)), streamed)
      expect((await streamed.resolve(one)).digest).toBe((await target.resolve(one)).digest)
    }
  })

  it('reads what we load from its Docker archive and write again', async () => {
    await ours(join(root, 'a.tar'))
    skopeo('copy', `oci-archive:${join(root, 'a.tar')}:${one}`, `docker-archive:${join(root, 'b.tar')}:${one}`)
    await using archive = await openArchive(join(root, 'b.tar'))
    await writeArchive(join(root, 'c.tar'), [{ source: archive, reference: one }])
    const before = skopeo('inspect', '--config', '--raw', `docker-archive:${join(root, 'b.tar')}:${one}`)
    expect(skopeo('inspect', '--config', '--raw', `oci-archive:${join(root, 'c.tar')}:${one}`)).toBe(before)
  })
})

const rootOnly = process.getuid?.() === 0

describe.skipIf(!has('podman') || !rootOnly)('an archive and podman (skipped without podman or root)', () => {
  const podman = (...args: readonly string[]): string => run('podman', ...storage(), ...args)

  it('loads every image of ours, and saves them in both forms for us', async () => {
    const store = await ours(join(root, 'a.tar'))
    podman('load', '--quiet', '--input', join(root, 'a.tar'))
    for (const name of [one, two]) {
      const inspected = JSON.parse(podman('image', 'inspect', name))[0]
      expect(inspected.RootFS.Layers).toEqual(await diffIds(store, name))
      expect(`sha256:${inspected.Id}`).toBe((await manifestOf(store, name)).config.digest)
    }
    podman('save', '--quiet', '--multi-image-archive', '--output', join(root, 'b.tar'), one, two)
    podman('save', '--quiet', '--format', 'oci-archive', '--output', join(root, 'c.tar'), one)
    const saved = new MemoryStore()
    await loadArchive(join(root, 'b.tar'), saved)
    await loadArchive(createReadStream(join(root, 'c.tar')), saved)
    for (const name of [one, two]) expect(await diffIds(saved, name)).toEqual(await diffIds(store, name))
    const streamed = new MemoryStore()
    await loadArchive(createReadStream(join(root, 'b.tar')), streamed)
    expect(await diffIds(streamed, two)).toEqual(await diffIds(store, two))
  })
})

describe.skipIf(!has('buildah') || !rootOnly)('an archive and buildah (skipped without buildah or root)', () => {
  const buildah = (...args: readonly string[]): string => run('buildah', ...storage(), ...args)

  it('pulls from ours, and pushes one that we read', async () => {
    const store = await ours(join(root, 'a.tar'))
    await writeArchive(join(root, 'single.tar'), [{ source: store, reference: one }])
    const id = buildah('pull', '--quiet', `oci-archive:${join(root, 'single.tar')}`).trim()
    expect(`sha256:${id}`).toBe((await manifestOf(store, one)).config.digest)
    for (const format of ['oci-archive', 'docker-archive']) {
      buildah('push', '--quiet', id, `${format}:${join(root, `${format}.tar`)}:${two}`)
      const target = new MemoryStore()
      await loadArchive(join(root, `${format}.tar`), target)
      expect(await diffIds(target, two)).toEqual(await diffIds(store, one))
    }
  })
})

describe.skipIf(!has('umoci'))('an archive and umoci (skipped where umoci is not installed)', () => {
  it('is a layout for umoci when it is extracted', async () => {
    await ours(join(root, 'a.tar'))
    await mkdir(join(root, 'layout'))
    run('tar', 'xf', join(root, 'a.tar'), '-C', join(root, 'layout'))
    expect(run('umoci', 'list', '--layout', join(root, 'layout')).trim().split('\n').sort()).toEqual([multi, one, two])
  })

  it('and its layouts are archives for us when tar has packed them', async () => {
    run('umoci', 'init', '--layout', join(root, 'layout'))
    run('umoci', 'new', '--image', `${join(root, 'layout')}:empty`)
    run('tar', 'cf', join(root, 'a.tar'), '-C', join(root, 'layout'), '.')
    const target = new MemoryStore()
    expect((await loadArchive(join(root, 'a.tar'), target)).map(({ reference }) => reference)).toEqual(['empty'])
    await loadArchive(createReadStream(join(root, 'a.tar')), new MemoryStore())
    await copy(target, 'empty', new MemoryStore())
  })
})

describe('an archive and containerd', () => {
  it('has an index that ctr would import: full names under the key that it reads', async () => {
    await ours(join(root, 'a.tar'))
    const index = JSON.parse(run('tar', 'xOf', join(root, 'a.tar'), 'index.json'))
    const names = index.manifests.map((entry: { annotations: Record<string, string> }) => entry.annotations)
    expect(names.map((each: Record<string, string>) => each['io.containerd.image.name'])).toEqual([one, two, multi])
  })
})
