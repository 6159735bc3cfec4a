import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { collect } from '../../src/content/verify.ts'
import {
  ConflictError,
  DigestMismatchError,
  InvalidArgumentError,
  LimitError,
  NotFoundError,
  SpecError,
  SyscallError,
} from '../../src/errors.ts'
import { descriptorOf } from '../../src/image/descriptor.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { inPieces, putImage, putIndex, temporaryDirectory } from './support.ts'

const cleanups: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

async function directory(): Promise<string> {
  const { path, remove } = await temporaryDirectory()
  cleanups.push(remove)
  return path
}

async function newLayout(): Promise<LayoutStore> {
  return LayoutStore.create(join(await directory(), 'layout'))
}

async function json(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(path, 'utf8'))
}

/** A memory store with one image, tagged `x`. */
async function imageStore() {
  const store = new MemoryStore()
  const image = await putImage(store)
  await store.tag(image.manifest, 'x')
  return { store, ...image }
}

const bytes = randomBytes(400_000)
const blob = descriptorOf('application/octet-stream', bytes)

describe('LayoutStore.create', () => {
  it('makes the files that image-spec asks for', async () => {
    const { path } = await newLayout()
    expect(await json(join(path, 'oci-layout'))).toEqual({ imageLayoutVersion: '1.0.0' })
    expect(await json(join(path, 'index.json'))).toEqual({
      schemaVersion: 2,
      mediaType: mediaType.ociIndex,
      manifests: [],
    })
    expect((await stat(join(path, 'blobs'))).isDirectory()).toBe(true)
  })

  it('opens what is there already, at the same time from several sides', async () => {
    const path = join(await directory(), 'a', 'b')
    const stores = await Promise.all(Array.from({ length: 8 }, () => LayoutStore.create(path)))
    await stores[0]?.push(blob, bytes)
    await stores[1]?.tag(blob, 'x')
    expect((await (await LayoutStore.create(path)).resolve('x')).digest).toBe(blob.digest)
  })

  it('removes what dead processes left behind, and nothing of the living', async () => {
    const { path } = await newLayout()
    const dead = spawnSync('true').pid
    const push = new PassThrough()
    const pending = (await LayoutStore.open(path)).push(blob, push)
    push.write(bytes.subarray(0, 100_000))
    const ingest = join(path, 'ingest')
    await expect.poll(() => readdir(ingest)).toHaveLength(1)
    const [living = ''] = await readdir(ingest)
    await writeFile(join(ingest, living.replace(`-${process.pid}-`, `-${dead}-`)), 'left')
    await writeFile(join(ingest, 'unknown'), 'somebody else')
    await LayoutStore.create(path)
    expect((await readdir(ingest)).sort()).toEqual([living, 'unknown'].sort())
    push.end(bytes.subarray(100_000))
    await pending
    expect(await readdir(ingest)).toEqual(['unknown'])
  })
})

describe('LayoutStore.open', () => {
  it('refuses what is no layout', async () => {
    const path = await directory()
    await expect(LayoutStore.open(path)).rejects.toBeInstanceOf(NotFoundError)
    await expect(LayoutStore.open(join(path, 'missing'))).rejects.toBeInstanceOf(NotFoundError)
    await writeFile(join(path, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}')
    await expect(LayoutStore.open(path)).rejects.toBeInstanceOf(SpecError)
  })
})

describe('LayoutStore', () => {
  it.each(['a stream', 'bytes'])('stores %s under the digest', async (kind) => {
    const store = await newLayout()
    expect(await store.exists(blob)).toBe(false)
    await store.push(blob, kind === 'bytes' ? bytes : inPieces(bytes, 10_000))
    expect(await store.exists(blob)).toBe(true)
    expect(await readFile(store.blobPath(blob.digest))).toEqual(bytes)
    expect(await collect(await store.fetch(blob))).toEqual(bytes)
    expect(await collect(await store.fetch(blob, { offset: 399_990 }))).toEqual(bytes.subarray(399_990))
    expect(await readdir(join(store.path, 'ingest'))).toEqual([])
  })

  it('stores other algorithms beside', async () => {
    const store = await newLayout()
    const unknown = { ...blob, digest: 'future+x:A_b=' as const }
    await store.push(unknown, bytes)
    expect(await readFile(join(store.path, 'blobs', 'future+x', 'A_b='))).toEqual(bytes)
  })

  it('takes content that is there already without reading it', async () => {
    const store = await newLayout()
    await store.push(blob, bytes)
    const again = inPieces(bytes, 1000)
    await store.push(blob, again)
    expect(again.destroyed).toBe(true)
  })

  it('stores the same content once when several push it at the same time', async () => {
    const store = await newLayout()
    await Promise.all(Array.from({ length: 6 }, () => store.push(blob, inPieces(bytes, 5000))))
    expect(await readdir(join(store.path, 'blobs', 'sha256'))).toHaveLength(1)
    expect(await readdir(join(store.path, 'ingest'))).toEqual([])
  })

  it('leaves nothing of content that is wrong, missing, aborted or failing', async () => {
    const store = await newLayout()
    const wrong = bytes.with(7, (bytes[7] ?? 0) ^ 1)
    await expect(store.push(blob, wrong)).rejects.toBeInstanceOf(DigestMismatchError)
    await expect(store.push(blob, inPieces(wrong, 5000))).rejects.toBeInstanceOf(DigestMismatchError)
    const reason = new Error('enough')
    const controller = new AbortController()
    const pending = store.push(blob, new PassThrough(), { signal: controller.signal })
    await expect.poll(() => readdir(join(store.path, 'ingest'))).toHaveLength(1)
    controller.abort(reason)
    await expect(pending).rejects.toBe(reason)
    const broken = new PassThrough()
    const lost = Object.assign(new Error('lost'), { syscall: 'read', errno: -104, code: 'ECONNRESET' })
    setImmediate(() => broken.destroy(lost))
    await expect(store.push(blob, broken)).rejects.toBe(lost)
    expect(await readdir(join(store.path, 'ingest'))).toEqual([])
    expect(await store.exists(blob)).toBe(false)
  })

  it('takes a file of the wrong size, as a crash may leave it, for missing and replaces it', async () => {
    const store = await newLayout()
    await store.push(blob, bytes)
    await truncate(store.blobPath(blob.digest), 100)
    expect(await store.exists(blob)).toBe(false)
    await store.push(blob, bytes)
    expect(await collect(await store.fetch(blob))).toEqual(bytes)
  })

  it('says what failed when the file system refuses', async () => {
    const store = await newLayout()
    await rm(join(store.path, 'ingest'), { recursive: true })
    await writeFile(join(store.path, 'ingest'), 'in the way')
    const error = await store.push(blob, bytes).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(SyscallError)
    expect(error).toMatchObject({ errnoName: 'ENOTDIR', subject: blob.digest })
    await expect(store.fetch(blob)).rejects.toBeInstanceOf(NotFoundError)
  })

  it('makes no path of a digest that is none', async () => {
    const store = await newLayout()
    await expect(store.fetch({ ...blob, digest: 'sha256:../../../etc/passwd' })).rejects.toMatchObject({
      code: 'ERR_OCI_INVALID_DIGEST',
    })
  })
})

describe('the names of a layout', () => {
  it('are resolved, replaced and removed', async () => {
    const { store: source, manifest } = await imageStore()
    const store = await newLayout()
    await copy(source, 'x', store, { as: '1.0' })
    const other = await putImage(source)
    await source.tag(other.manifest, 'y')
    await copy(source, 'y', store, { as: '2.0' })
    expect((await store.resolve('1.0')).digest).toBe(manifest.digest)
    await store.tag(other.manifest, '1.0')
    expect((await store.list()).map(({ reference }) => reference)).toEqual(['1.0', '2.0'])
    expect((await store.resolve('1.0')).digest).toBe(other.manifest.digest)
    expect(await store.untag('1.0')).toBe(true)
    expect(await store.untag('1.0')).toBe(false)
    await expect(store.resolve('1.0')).rejects.toBeInstanceOf(NotFoundError)
    expect(await store.exists(manifest)).toBe(true)
  })

  it('may be full references, which containerd finds too', async () => {
    const { store: source } = await imageStore()
    const store = await newLayout()
    await copy(source, 'x', store, { as: '127.0.0.1:5000/x:1' })
    const { manifests } = await json(join(store.path, 'index.json'))
    expect(manifests).toMatchObject([
      {
        annotations: {
          'io.containerd.image.name': '127.0.0.1:5000/x:1',
          'org.opencontainers.image.ref.name': '127.0.0.1:5000/x:1',
        },
      },
    ])
    const found = await store.resolve('127.0.0.1:5000/x:1')
    expect(found.annotations).toBeUndefined()
  })

  it('are found in a layout that Docker saved, by both names', async () => {
    const store = await newLayout()
    await store.push(blob, bytes)
    const entry = (name: string): object => ({
      ...blob,
      annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': 'latest' },
    })
    const index = { schemaVersion: 2, manifests: [entry('docker.io/library/a:latest')] }
    await writeFile(join(store.path, 'index.json'), JSON.stringify(index))
    expect((await store.resolve('docker.io/library/a:latest')).digest).toBe(blob.digest)
    expect((await store.resolve('latest')).digest).toBe(blob.digest)
    const other = descriptorOf('a/b', Buffer.from('other'))
    const second = { ...entry('docker.io/library/b:latest'), ...other }
    await writeFile(
      join(store.path, 'index.json'),
      JSON.stringify({ ...index, manifests: [...index.manifests, second] }),
    )
    expect((await store.resolve('docker.io/library/b:latest')).digest).toBe(other.digest)
    await expect(store.resolve('latest')).rejects.toBeInstanceOf(ConflictError)
  })

  it('include every digest', async () => {
    const { store: source, manifest, config } = await imageStore()
    const index = await putIndex(source, [manifest])
    await source.tag(index, 'x')
    const store = await newLayout()
    await copy(source, 'x', store)
    expect(await store.resolve(index.digest)).toEqual(index)
    expect(await store.resolve(manifest.digest)).toEqual(manifest)
    expect((await store.resolve(config.digest)).mediaType).toBe('application/octet-stream')
    await expect(store.resolve(`sha256:${'0'.repeat(64)}`)).rejects.toBeInstanceOf(NotFoundError)
  })

  it('are those of the file, also when another program has changed it since they were looked up', async () => {
    const { store: source, manifest } = await imageStore()
    const store = await newLayout()
    await copy(source, 'x', store, { as: 'first' })
    const path = join(store.path, 'index.json')
    const text = await readFile(path, 'utf8')
    for (const [name, other, write] of [
      ['first', 'other', (to: string) => writeFile(path, to)],
      ['other', 'third', async (to: string) => writeFile(`${path}.new`, to).then(() => rename(`${path}.new`, path))],
    ] as const) {
      const hourAgo = new Date(Date.now() - 3_600_000)
      await utimes(path, hourAgo, hourAgo)
      // The second time it need not be read.
      for (let i = 0; i < 2; i++) expect((await store.resolve(name)).digest).toBe(manifest.digest)
      const before = await stat(path)
      await write(text.replaceAll('first', other))
      // As large as it was, and of the same time.
      await utimes(path, before.atime, before.mtime)
      expect((await store.resolve(other)).digest).toBe(manifest.digest)
      await expect(store.resolve(name)).rejects.toThrow(NotFoundError)
    }
  })

  it('keep what is not known of index.json', async () => {
    const store = await newLayout()
    await store.push(blob, bytes)
    const foreign = { ...blob, digest: `sha256:${'5'.repeat(64)}`, future: [1], annotations: { a: 'b' } }
    const index = { schemaVersion: 2, future: { x: 1 }, annotations: { c: 'd' }, manifests: [foreign] }
    await writeFile(join(store.path, 'index.json'), JSON.stringify(index))
    await store.tag(blob, 'x')
    await store.untag('x')
    expect(await json(join(store.path, 'index.json'))).toEqual({ mediaType: mediaType.ociIndex, ...index })
  })

  it('are given to the entry that had none', async () => {
    const store = await newLayout()
    await store.push(blob, bytes)
    await writeFile(join(store.path, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [blob] }))
    await store.tag(blob, 'x')
    expect(await store.list()).toEqual([{ reference: 'x', descriptor: blob }])
  })

  it.each(['', ' x', 'a\nb', 'x'.repeat(1025), blob.digest])('can not be %j', async (name) => {
    const store = await newLayout()
    await store.push(blob, bytes)
    await expect(store.tag(blob, name)).rejects.toBeInstanceOf(InvalidArgumentError)
  })

  it('need content that is there', async () => {
    await expect((await newLayout()).tag(blob, 'x')).rejects.toBeInstanceOf(NotFoundError)
  })

  it('are bounded, as index.json is', async () => {
    const path = join(await directory(), 'layout')
    const store = await LayoutStore.create(path, { maxIndexBytes: 1000, sync: false })
    await store.push(blob, bytes)
    await store.tag(blob, 'x')
    await expect(store.tag(blob, 'y'.repeat(900))).rejects.toBeInstanceOf(LimitError)
    expect((await store.resolve('x')).digest).toBe(blob.digest)
    await writeFile(join(path, 'index.json'), ' '.repeat(2000))
    await expect(store.resolve('x')).rejects.toBeInstanceOf(LimitError)
  })

  it('are guarded by the lock that is given', async () => {
    const path = join(await directory(), 'layout')
    let held = 0
    const store = await LayoutStore.create(path, {
      lock: async (work) => {
        held++
        return work()
      },
    })
    await store.push(blob, bytes)
    await store.tag(blob, 'x')
    await store.untag('x')
    expect(held).toBe(2)
  })

  it('say nothing when index.json is broken but that', async () => {
    const store = await newLayout()
    await writeFile(join(store.path, 'index.json'), '{"schemaVersion":2}')
    await expect(store.resolve('x')).rejects.toBeInstanceOf(SpecError)
    await mkdir(join(store.path, 'other'))
    expect((await LayoutStore.open(store.path)).path).toBe(store.path)
  })
})
