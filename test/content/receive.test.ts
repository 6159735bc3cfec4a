import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { type CopyProgress, copy } from '../../src/content/copy.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { collect } from '../../src/content/verify.ts'
import { anonymous, openRepository } from '../../src/distribution/index.ts'
import { DigestMismatchError, NetworkError, UnsupportedError } from '../../src/errors.ts'
import { descriptorOf } from '../../src/image/descriptor.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { image } from '../distribution/support/images.ts'
import { drop, serve, startServer } from '../distribution/support/scripted-server.ts'
import { inPieces, temporaryDirectory } from './support.ts'

const cleanups: (() => Promise<void>)[] = []
const children: ChildProcess[] = []

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

async function newLayout(options: { resumable?: boolean } = {}): Promise<LayoutStore> {
  const { path, remove } = await temporaryDirectory()
  cleanups.push(remove)
  return LayoutStore.create(join(path, 'layout'), { sync: false, ...options })
}

const bytes = randomBytes(4_000_000)
const layer = { descriptor: descriptorOf(mediaType.ociLayer, bytes), bytes }
const { config, manifest } = image(layer)
const partial = `${layer.descriptor.digest.replace(':', '-')}.partial`

const ingest = (store: LayoutStore): Promise<string[]> => readdir(join(store.path, 'ingest'))

const lost = new NetworkError('http://registry.test', 'the connection was closed')

/** Bytes of the beginnings that a layout has. */
async function begun(store: LayoutStore): Promise<number> {
  const sizes = (await ingest(store)).map(async (name) => (await stat(join(store.path, 'ingest', name))).size)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

/** Receives `content` until `size` bytes of it are in the file; then the connection is lost. */
async function breakOff(store: LayoutStore, size: number, content = layer): Promise<void> {
  const source = new PassThrough()
  const pending = store.receive(content.descriptor, async () => source)
  source.write(content.bytes.subarray(0, size))
  const failed = expect(pending).rejects.toBe(lost)
  await expect.poll(() => begun(store)).toBe(size)
  source.destroy(lost)
  await failed
}

/** A layout in which the first `size` bytes of the layer have arrived. */
async function begunLayout(size: number): Promise<LayoutStore> {
  const store = await newLayout()
  await breakOff(store, size)
  expect(await ingest(store)).toEqual([partial])
  return store
}

/** Offsets at which the content is asked for, while it is received. */
async function receive(store: LayoutStore): Promise<number[]> {
  const offsets: number[] = []
  await store.receive(layer.descriptor, async (offset) => {
    offsets.push(offset)
    return inPieces(bytes.subarray(offset), 100_000)
  })
  expect(bytes.equals(await readFile(store.blobPath(layer.descriptor.digest)))).toBe(true)
  expect(await ingest(store)).toEqual([])
  return offsets
}

/** Serves the image as `app:1`; its layer as `serveLayer` does. */
function imageServer(serveLayer: (request: IncomingMessage, response: ServerResponse) => void) {
  return startServer((request, response) => {
    const isManifest = request.url?.includes('/manifests/') === true
    if (request.url?.endsWith(layer.descriptor.digest) === true) return serveLayer(request, response)
    const { descriptor, bytes: content } = isManifest ? manifest : config
    response.setHeader('content-type', descriptor.mediaType)
    response.setHeader('docker-content-digest', descriptor.digest)
    serve(request, response, content)
  })
}

describe('a copy to a layout', () => {
  it('costs, after the process was killed, only the bytes that had not arrived', async () => {
    const store = await newLayout()
    let hang = true
    await using server = await imageServer((request, response) => {
      if (!hang) return serve(request, response, bytes)
      response.writeHead(200, { 'content-length': bytes.byteLength })
      response.write(bytes.subarray(0, 2_500_000))
    })
    const script = `
      import { copy, LayoutStore } from './src/content/index.ts'
      import { anonymous, openRepository } from './src/distribution/index.ts'
      const layout = await LayoutStore.open(${JSON.stringify(store.path)})
      await copy(openRepository('${server.host}/app', { credentials: anonymous }), '1', layout)`
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    children.push(child)
    await expect.poll(() => begun(store), { timeout: 20_000 }).toBe(2_500_000)
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    hang = false
    const seen: CopyProgress[] = []
    const next = await LayoutStore.create(store.path)
    const repository = openRepository(`${server.host}/app`, { credentials: anonymous })
    await copy(repository, '1', next, { onProgress: (progress) => seen.push(progress) })
    expect(server.seen.at(-1)?.headers.range ?? server.seen.at(-2)?.headers.range).toBe('bytes=2500000-')
    expect(bytes.equals(await readFile(next.blobPath(layer.descriptor.digest)))).toBe(true)
    expect(seen.find(({ kind }) => kind === 'resumed')).toMatchObject({
      bytes: 2_500_000,
      descriptor: layer.descriptor,
    })
    const last = seen.at(-1)
    expect(last).toMatchObject({ transferred: last?.total, totals: { resumedBytes: 2_500_000 } })
    expect(await ingest(next)).toEqual([])
  })

  it('tells of each repetition, and by how much', async () => {
    const store = await newLayout()
    let count = 0
    await using server = await imageServer((request, response) => {
      if (++count < 3) return drop(request, response, bytes, 1_000_000)
      serve(request, response, bytes)
    })
    const seen: CopyProgress[] = []
    const repository = openRepository(`${server.host}/app`, { credentials: anonymous, retry: { minDelay: 1 } })
    await copy(repository, '1', store, { onProgress: (progress) => seen.push(progress) })
    expect(seen.filter(({ kind }) => kind === 'retry').map(({ bytes: at }) => at)).toEqual([1_000_000, 2_000_000])
    expect(seen.at(-1)).toMatchObject({ totals: { retries: 2 } })
  })
})

describe('LayoutStore.receive', () => {
  it('goes on where the source broke off', async () => {
    expect(await receive(await begunLayout(3_000_000))).toEqual([3_000_000])
  })

  it('goes on after an abort', async () => {
    const store = await newLayout()
    const controller = new AbortController()
    const source = new PassThrough()
    const pending = store.receive(layer.descriptor, async () => source, { signal: controller.signal })
    source.write(bytes.subarray(0, 2_000_000))
    const reason = new Error('enough')
    const failed = expect(pending).rejects.toBe(reason)
    await expect.poll(() => begun(store)).toBe(2_000_000)
    controller.abort(reason)
    await failed
    expect(await receive(store)).toEqual([2_000_000])
  })

  it('asks for nothing when everything had arrived', async () => {
    const store = await begunLayout(4_000_000)
    expect(await receive(store)).toEqual([])
  })

  it.each([
    ['of other bytes', Buffer.alloc(2_000_000)],
    ['that is complete and wrong', Buffer.alloc(4_000_000)],
  ])('does not trust a beginning %s', async (_, found) => {
    const store = await newLayout()
    await writeFile(join(store.path, 'ingest', partial), found)
    expect((await receive(store)).at(-1)).toBe(0)
  })

  it('begins anew where more is there than there should be', async () => {
    const store = await newLayout()
    await writeFile(join(store.path, 'ingest', partial), Buffer.alloc(5_000_000))
    expect(await receive(store)).toEqual([0])
  })

  it('begins anew with a source that can not begin in the middle', async () => {
    const store = await begunLayout(2_000_000)
    const counted: (readonly [kind: string, bytes: number])[] = []
    await store.receive(
      layer.descriptor,
      async (offset) => {
        if (offset > 0) throw new UnsupportedError('reading from the middle', 'it is a tape')
        return Readable.from([bytes], { objectMode: false })
      },
      { onResume: (n) => counted.push(['there', n]), onBytes: (n) => counted.push(['passed', n]) },
    )
    expect(counted.slice(0, 2)).toEqual([
      ['there', 2_000_000],
      ['there', 0],
    ])
    expect(counted.slice(2).reduce((sum, [, n]) => sum + n, 0)).toBe(4_000_000)
    expect(bytes.equals(await collect(await store.fetch(layer.descriptor)))).toBe(true)
  })

  it('keeps nothing of content that is wrong', async () => {
    const store = await newLayout()
    const wrong = async () => Readable.from([Buffer.alloc(4_000_000)], { objectMode: false })
    await expect(store.receive(layer.descriptor, wrong)).rejects.toThrow(DigestMismatchError)
    expect(await ingest(store)).toEqual([])
  })

  it('keeps nothing of what is small, nor where it was told not to', async () => {
    const small = { bytes: bytes.subarray(0, 100_000), descriptor: descriptorOf('a/b', bytes.subarray(0, 100_000)) }
    for (const [store, content] of [
      [await newLayout(), small],
      [await newLayout({ resumable: false }), layer],
    ] as const) {
      const source = new PassThrough()
      const pending = store.receive(content.descriptor, async () => source)
      source.write(content.bytes.subarray(0, 90_000))
      const failed = expect(pending).rejects.toBe(lost)
      await expect.poll(() => ingest(store)).toHaveLength(1)
      source.destroy(lost)
      await failed
      expect(await ingest(store)).toEqual([])
    }
  })

  it('asks once for what several want at the same time, and once more when that fails', async () => {
    const store = await begunLayout(3_000_000)
    const other = await LayoutStore.open(store.path, { sync: false })
    const stores = [store, other, store, other]
    const offsets: number[] = []
    const open = async (offset: number): Promise<Readable> => {
      offsets.push(offset)
      if (offsets.length === 1) throw lost
      return inPieces(bytes.subarray(offset), 50_000)
    }
    const ended = await Promise.allSettled(stores.map((each) => each.receive(layer.descriptor, open)))
    expect(ended.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled', 'fulfilled'])
    expect(offsets).toEqual([3_000_000, 3_000_000])
    expect(bytes.equals(await readFile(store.blobPath(layer.descriptor.digest)))).toBe(true)
    expect(await ingest(store)).toEqual([])
  })

  it('is not held up by another one when it is aborted', async () => {
    const store = await newLayout()
    const source = new PassThrough()
    const first = store.receive(layer.descriptor, async () => source)
    const controller = new AbortController()
    const second = store.receive(layer.descriptor, async () => source, { signal: controller.signal })
    const reason = new Error('enough')
    controller.abort(reason)
    await expect(second).rejects.toBe(reason)
    source.end(bytes)
    await first
  })

  it('lets two processes receive the same; one of them goes on with what is there', async () => {
    const store = await begunLayout(3_000_000)
    const script = `
      import { LayoutStore } from './src/content/index.ts'
      const layout = await LayoutStore.open(${JSON.stringify(store.path)})
      const { Readable } = await import('node:stream')
      const bytes = (await import('node:fs')).readFileSync(process.argv.at(-1))
      const open = async (offset) => (console.log(offset), Readable.from([bytes.subarray(offset)], { objectMode: false }))
      await layout.receive(${JSON.stringify(layer.descriptor)}, open)`
    const file = join(store.path, '..', 'bytes')
    await writeFile(file, bytes)
    const outputs = [1, 2].map(async () => {
      const args = ['--import', 'tsx', '--input-type=module', '--eval', script, '--', file]
      const child = spawn(process.execPath, args, {
        cwd: fileURLToPath(new URL('../..', import.meta.url)),
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      children.push(child)
      const output = collect(child.stdout)
      expect(await once(child, 'exit')).toEqual([0, null])
      return Buffer.from(await output).toString()
    })
    const offsets = (await Promise.all(outputs)).flatMap((text) => text.split('\n').filter((line) => line !== ''))
    expect(offsets.filter((offset) => offset === '3000000')).toHaveLength(1)
    expect(bytes.equals(await readFile(store.blobPath(layer.descriptor.digest)))).toBe(true)
    expect(await ingest(store)).toEqual([])
  })

  it('keeps the newest beginnings only, and none for longer than a day', async () => {
    const { path } = await newLayout()
    const folder = join(path, 'ingest')
    const name = (n: number): string => `sha256-${n.toString(16).padStart(64, '0')}.partial`
    for (let n = 0; n < 20; n++) {
      await writeFile(join(folder, name(n)), 'x')
      await utimes(join(folder, name(n)), new Date(), new Date(Date.now() - n * 60_000))
    }
    await utimes(join(folder, name(3)), new Date(), new Date(Date.now() - 25 * 3_600_000))
    const store = await LayoutStore.create(path)
    const kept = Array.from({ length: 17 }, (_, n) => name(n)).filter((each) => each !== name(3))
    expect((await ingest(store)).sort()).toEqual(kept.sort())
  })
})
