import { execFileSync } from 'node:child_process'
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import * as zlib from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LayoutStore } from '../../src/content/layout.ts'
import { descriptorOf, mediaType } from '../../src/image/index.ts'
import {
  ArchiveError,
  createEngine,
  type Engine,
  type Image,
  InvalidArgumentError,
  LayerError,
  NotFoundError,
  PlatformError,
  SyscallError,
} from '../../src/index.ts'
import { createRegistryServer } from '../../src/registry/index.ts'
import { isRoot } from '../layer/support/apply.ts'
import { tar } from '../layer/support/tar.ts'
import { image, put, type TestImage } from '../store/support/image.ts'
import { hasTools } from '../store/support/tools.ts'
import { filesOf } from './support/merged.ts'
import { Sandbox } from './support/sandbox.ts'

const tools = ['unshare', 'skopeo', 'umoci', 'podman', 'tar']
const missing = !isRoot || !hasTools(...tools) ? `needs root, ${tools.join(', ')}` : undefined

const bottom = tar(
  { name: './', type: '5', mode: 0o755, mtime: 3 },
  { name: 'a', content: 'a', mtime: 1, pax: { 'SCHILY.xattr.user.x': Buffer.from([1, 0, 255]) } },
  { name: 'd/', type: '5', mode: 0o1777, mtime: 4 },
  { name: 'd/gone', content: 'gone' },
  { name: 'd/changed', content: 'old', uid: 5, mtime: 2 },
)
const middle = tar({ name: 'd/.wh.gone' }, { name: 'd/changed', content: 'new', uid: 6, mtime: 9 })
const top = tar({ name: 'b', type: '1', linkName: 'a' }, { name: 'c', type: '2', linkName: 'a', mtime: 5 })
const history = [
  { created_by: 'first' },
  { created_by: 'ENV x', empty_layer: true },
  { created_by: 'second' },
  { created_by: 'third', comment: 'the last' },
]

describe.skipIf(missing)(`images go in and out (${missing ?? 'with skopeo, umoci and podman'})`, () => {
  let sandbox: Sandbox
  let engine: Engine
  let made: TestImage
  let one: Image
  beforeAll(async () => {
    sandbox = new Sandbox()
    engine = sandbox.engine
    made = image([bottom, middle, top], {}, { history, os: 'linux' })
    await sandbox.put('one', made)
    await sandbox.put('two', image([bottom]))
    one = await engine.inspect('one')
  })
  afterAll(() => sandbox.remove())

  const place = (name: string): string => join(mkdtempSync(join(sandbox.directory, 'out-')), name)
  const other = (): Engine => createEngine({ root: place('store'), store: { durability: 'none' } })

  describe('save and load', () => {
    it('are an identity, from a file, a compressed file and a stream, of several images', async () => {
      for (const compression of ['none', 'gzip'] as const) {
        const path = place('images.tar')
        await engine.save(['one', 'two'], path, { compression })
        for (const source of [path, createReadStream(path)]) {
          const target = other()
          const loaded = await target.load(source)
          expect(loaded.map(({ reference }) => reference)).toEqual([
            'docker.io/library/one:latest',
            'docker.io/library/two:latest',
          ])
          expect(await target.inspect('one')).toEqual(one)
        }
      }
    })

    it('are an identity by way of a stream, of an image without a name', async () => {
      const chunks: Buffer[] = []
      const sink = new Writable({
        write(chunk: Buffer, _encoding, done) {
          chunks.push(chunk)
          done()
        },
      })
      const nameless = await engine.squash('one')
      await engine.save(nameless, sink)
      const path = place('stream.tar')
      writeFileSync(path, Buffer.concat(chunks))
      const target = other()
      const [loaded] = await target.load(path)
      expect(loaded).toMatchObject({ reference: undefined, descriptor: { digest: nameless.digest } })
      expect((await target.images()).map(({ digest }) => digest)).toEqual([nameless.digest])
    })

    it('keep all platforms of an index, or one', async () => {
      const store = await engine.store()
      const arm = image([middle], {}, { architecture: 'arm64', os: 'linux' })
      await put(store, arm)
      const entry = ({ descriptor, config: { os, architecture } }: TestImage): object => ({
        ...descriptor,
        platform: { os, architecture },
      })
      const index = { schemaVersion: 2, mediaType: mediaType.ociIndex, manifests: [entry(made), entry(arm)] }
      const raw = Buffer.from(JSON.stringify(index))
      const descriptor = descriptorOf(mediaType.ociIndex, raw)
      await store.push(descriptor, raw)
      await store.tag(descriptor, 'docker.io/library/multi:1')
      const path = place('multi.tar')
      await engine.save('multi:1', path)
      const target = other()
      expect((await target.load(path))[0]?.descriptor).toMatchObject({ digest: descriptor.digest })
      expect((await target.inspect('multi:1', { platform: 'linux/arm64' })).digest).toBe(arm.descriptor.digest)
      const single = other()
      await single.load(path, { platform: 'linux/arm64' })
      await expect(single.inspect('multi:1', { platform: 'linux/amd64' })).rejects.toThrow(PlatformError)
    })

    it('take some of the images, and a directory with a layout', async () => {
      const path = place('images.tar')
      await engine.save(['one', 'two'], path)
      const target = other()
      await target.load(path, { only: ['docker.io/library/two:latest'] })
      expect((await target.images()).map(({ name }) => name)).toEqual(['docker.io/library/two:latest'])
      await expect(target.load(path, { only: ['three'] })).rejects.toThrow(NotFoundError)
      const layout = place('layout')
      await put(await LayoutStore.create(layout), made, 'docker.io/library/one:x')
      await target.load(layout)
      expect((await target.inspect('one:x')).digest).toBe(one.digest)
    })

    it('fail for what is no archive, or no image', async () => {
      const path = place('nonsense')
      writeFileSync(path, Buffer.alloc(2000, 'x'))
      await expect(engine.load(path)).rejects.toThrow(ArchiveError)
      await expect(engine.load(place('missing'))).rejects.toThrow(SyscallError)
      const directory = place('directory')
      mkdirSync(directory)
      await expect(engine.load(directory)).rejects.toThrow(NotFoundError)
      const target = place('not-made.tar')
      await expect(engine.save('nothing', target)).rejects.toThrow(NotFoundError)
      await expect(engine.save([], target)).rejects.toThrow(InvalidArgumentError)
      expect(existsSync(target)).toBe(false)
    })
  })

  describe('other tools', () => {
    it('read what is saved: skopeo, umoci, podman', async () => {
      const path = place('images.tar')
      await engine.save('one', path)
      for (const transport of ['oci-archive', 'docker-archive']) {
        const layout = place('layout')
        execFileSync('skopeo', ['copy', '--quiet', `${transport}:${path}`, `oci:${layout}:x`])
        const bundle = place('bundle')
        execFileSync('umoci', ['unpack', '--image', `${layout}:x`, bundle], { stdio: ['ignore', 'ignore', 'inherit'] })
        const { '.': _, ...files } = (await import('../layer/support/tree.ts')).tree(join(bundle, 'rootfs'))
        const { '.': __, ...ours } = await filesOf(sandbox, one)
        expect(files).toEqual(ours)
      }
      const podman = ['--root', place('podman'), '--runroot', place('run'), '--storage-driver', 'vfs']
      execFileSync('podman', [...podman, 'load', '-q', '-i', path], { stdio: ['ignore', 'pipe', 'ignore'] })
      const listed = execFileSync('podman', [...podman, 'images', '--format', '{{.ID}}', '--no-trunc'], {
        encoding: 'utf8',
      })
      expect(listed).toContain(one.id)
    })

    it.each(['oci-archive', 'docker-archive', 'oci'])('write what is loaded: skopeo, as %s', async (transport) => {
      const saved = place('images.tar')
      await engine.save('one', saved)
      const path = place('theirs')
      execFileSync('skopeo', [
        'copy',
        '--quiet',
        `oci-archive:${saved}`,
        `${transport}:${path}:docker.io/library/theirs:1`,
      ])
      const target = other()
      const [loaded] = await target.load(path)
      expect(loaded?.reference).toBe('docker.io/library/theirs:1')
      const theirs = await target.inspect('theirs:1')
      expect(theirs.config.rootfs).toEqual(one.config.rootfs)
    })

    it('write what is loaded: umoci after a repack', async () => {
      const layout = place('layout')
      await put(await LayoutStore.create(layout), made, 'one')
      const bundle = place('bundle')
      execFileSync('umoci', ['unpack', '--image', `${layout}:one`, bundle], { stdio: 'ignore' })
      writeFileSync(join(bundle, 'rootfs/added'), 'added')
      execFileSync('rm', [join(bundle, 'rootfs/a')])
      execFileSync('umoci', ['repack', '--image', `${layout}:repacked`, bundle], { stdio: 'ignore' })
      await engine.load(layout, { only: ['repacked'] })
      const files = await filesOf(sandbox, await engine.inspect('repacked'))
      expect(Object.keys(files).sort()).toEqual(['.', 'added', 'b', 'c', 'd', 'd/changed'])
    })
  })

  it('push, then pull, is an identity', async () => {
    await using registry = await createRegistryServer()
    await engine.push('one', { to: `${registry.host}/one:1` })
    const target = other()
    const pulled = await target.pull(`${registry.host}/one:1`)
    expect({ ...pulled, reference: one.reference }).toEqual(one)
  })

  describe('importRootfs', () => {
    it('makes an image of a directory, which holds its files in every attribute', async () => {
      const tree = (await import('../layer/support/tree.ts')).tree
      const directory = place('root')
      mkdirSync(directory, { mode: 0o755 })
      execFileSync('tar', ['-xpf', '-', '-C', directory, '--xattrs', '--xattrs-include=*', '--numeric-owner'], {
        input: bottom,
      })
      const imported = await engine.importRootfs(directory, {
        name: 'imported',
        message: 'from a directory',
        changes: ['ENTRYPOINT ["/a"]'],
        platform: 'linux/arm64/v8',
      })
      expect(imported).toMatchObject({
        reference: 'docker.io/library/imported:latest',
        platform: { os: 'linux', architecture: 'arm64' },
        config: { config: { Entrypoint: ['/a'] }, history: [{ comment: 'from a directory' }] },
      })
      expect(await filesOf(sandbox, imported)).toEqual(tree(directory))
      const [first, second] = [await engine.importRootfs(directory), await engine.importRootfs(directory)]
      expect(second.manifest.layers).toEqual(first.manifest.layers)
    })

    it('keeps an archive byte by byte, however it comes', async () => {
      const path = place('root.tar')
      writeFileSync(path, bottom)
      const compressed = place('root.tar.gz')
      writeFileSync(compressed, zlib.gzipSync(bottom))
      for (const source of [path, compressed, createReadStream(compressed)]) {
        const { rootfs } = (await engine.importRootfs(source)).config
        expect(rootfs.diff_ids).toEqual([made.config.rootfs.diff_ids[0]])
      }
    })

    it('refuses what can not be unpacked', async () => {
      const path = place('root.tar')
      writeFileSync(path, Buffer.alloc(1024, 'x'))
      await expect(engine.importRootfs(path)).rejects.toThrow(LayerError)
      writeFileSync(path, bottom.subarray(0, 700))
      await expect(engine.importRootfs(path)).rejects.toThrow(LayerError)
      await expect(engine.importRootfs(place('missing'))).rejects.toThrow(SyscallError)
      expect(readdirSync(join(sandbox.root, 'content/ingest'))).toEqual([])
    })
  })

  describe('squash', () => {
    it('makes one layer with the same files', async () => {
      const squashed = await engine.squash('one', { name: 'squashed', changes: ['LABEL s=t'] })
      expect(squashed.manifest.layers).toHaveLength(1)
      expect(squashed.config).toMatchObject({ config: { Cmd: ['sh'], Labels: { s: 't' } }, history: [{}] })
      expect(await filesOf(sandbox, squashed)).toEqual(await filesOf(sandbox, one))
    })

    it('keeps layers at the bottom, with their history', async () => {
      const squashed = await engine.squash('one', { keep: 1 })
      expect(squashed.manifest.layers).toHaveLength(2)
      expect(squashed.manifest.layers[0]?.digest).toBe(one.manifest.layers[0]?.digest)
      expect(squashed.config.history?.map((entry) => entry.created_by)).toEqual(['first', 'oci-ts squash of 2 layers'])
      expect(await filesOf(sandbox, squashed)).toEqual(await filesOf(sandbox, one))
      await expect(engine.squash('one', { keep: 4 })).rejects.toThrow(InvalidArgumentError)
    })
  })

  describe('convert', () => {
    const noZstd = typeof zlib.createZstdCompress !== 'function'

    it.skipIf(noZstd)('gives layers zstd, and keeps what they are (needs a Node with zstd)', async () => {
      const converted = await engine.convert('one', { compression: 'zstd', name: 'zstd' })
      expect(converted.manifest.layers.map((layer) => layer.mediaType)).toEqual(Array(3).fill(mediaType.ociLayerZstd))
      expect(converted.config).toEqual(one.config)
      expect(await filesOf(sandbox, converted)).toEqual(await filesOf(sandbox, one))
      const plain = await engine.convert(converted, { compression: 'none' })
      expect(plain.manifest.layers.map(({ digest }) => digest)).toEqual(one.config.rootfs.diff_ids)
    })

    it('makes an OCI image of one of Docker', async () => {
      const layers = made.manifest.layers.map((layer) => ({ ...layer, mediaType: mediaType.dockerLayerGzip }))
      const config = { ...made.manifest.config, mediaType: mediaType.dockerConfig }
      const raw = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaType.dockerManifest, config, layers }))
      const descriptor = descriptorOf(mediaType.dockerManifest, raw)
      const store = await engine.store()
      await store.push(descriptor, raw)
      await store.tag(descriptor, 'docker.io/library/docker:1')
      const converted = await engine.convert('docker:1')
      expect(converted.manifest).toMatchObject({
        mediaType: mediaType.ociManifest,
        config: { mediaType: mediaType.ociConfig },
        layers: made.manifest.layers.map(({ digest }) => ({ digest, mediaType: mediaType.ociLayerGzip })),
      })
    })
  })

  it('history tells of each step, with the layer that it made', async () => {
    const steps = await engine.history('one')
    const [first, second, third] = one.manifest.layers
    expect(steps.map(({ createdBy, comment, layer }) => [createdBy, comment, layer?.descriptor])).toEqual([
      ['first', undefined, first],
      ['ENV x', undefined, undefined],
      ['second', undefined, second],
      ['third', 'the last', third],
    ])
    expect((await engine.history('two')).map(({ layer }) => layer?.diffId)).toEqual([made.config.rootfs.diff_ids[0]])
  })

  it('inspect finds an image by name, id and digest', async () => {
    const { id, digest } = await engine.inspect('two')
    for (const name of ['two:latest', 'docker.io/library/two:latest', id, digest, id.slice(7, 19)]) {
      expect((await engine.inspect(name)).digest).toBe(digest)
    }
    await expect(engine.inspect('three')).rejects.toThrow(NotFoundError)
    expect(readFileSync(join(sandbox.root, 'content/oci-layout'), 'utf8')).toContain('imageLayoutVersion')
  })
})
