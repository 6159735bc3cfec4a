import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { anonymous } from '../../src/distribution/index.ts'
import { AdmissionError, InvalidReferenceError, NetworkError, NotFoundError, TimeoutError } from '../../src/errors.ts'
import type { CopyCandidate, Image, PullProgress } from '../../src/index.ts'
import { createEngine } from '../../src/index.ts'
import { type ScriptedServer, serve } from '../distribution/support/scripted-server.ts'
import { tar } from '../layer/support/tar.ts'
import { image, type TestImage } from '../store/support/image.ts'
import { serveImage } from './support/image-server.ts'
import { nothing, settledLeftovers } from './support/leftovers.ts'
import { Sandbox } from './support/sandbox.ts'

const registry = { credentials: anonymous, retry: { minDelay: 1, maxDelay: 2 } }

describe.skipIf(process.platform !== 'linux')('a pull (skipped on anything but Linux: layers are unpacked)', () => {
  let sandbox: Sandbox
  beforeAll(() => {
    sandbox = new Sandbox()
  })
  afterEach(async () => expect(await settledLeftovers(sandbox)).toEqual(nothing))
  afterAll(() => sandbox.remove())

  let count = 0
  /** An image that nobody has seen yet. */
  function fresh(): TestImage {
    count += 1
    const files = Array.from({ length: 50 }, (_, i) => ({ name: `f${i}`, content: `${count} ${i}` }))
    return image([tar(...files), tar({ name: 'top', content: `${count}` })])
  }

  it('gives the image: its id, names, size and config', async () => {
    const one = fresh()
    await using server = await serveImage(one)
    const pulled = await sandbox.engine.pull(`${server.host}/app:1`, { registry })
    expect(pulled).toMatchObject({
      id: one.manifest.config.digest,
      digest: one.descriptor.digest,
      reference: `${server.host}/app:1`,
      platform: { os: 'linux', architecture: 'amd64' },
      size: one.manifest.layers.reduce((sum, layer) => sum + layer.size, 0),
    })
    expect(pulled.config).toMatchObject({ rootfs: one.config.rootfs })
  })

  it('reports how far it is, to everybody who asks; those who leave early do not disturb it', async () => {
    await using server = await serveImage(fresh())
    const operation = sandbox.engine.pull(`${server.host}/app:1`, { registry })
    const all = async (): Promise<readonly PullProgress[]> => {
      const seen: PullProgress[] = []
      for await (const progress of operation) seen.push(progress)
      return seen
    }
    const early = async (): Promise<void> => {
      for await (const progress of operation) if (progress.phase === 'fetch') return
    }
    const [first, second, , pulled] = await Promise.all([all(), all(), early(), operation])
    expect(first).toEqual(second)
    expect(first.findLast(({ phase }) => phase === 'unpack')).toMatchObject({
      phase: 'unpack',
      transferred: pulled.size,
      total: pulled.size,
    })
    // Whoever comes late hears nothing more, and is not kept waiting.
    expect(await all()).toEqual([])
  })

  it('unpacks a layer while another is on its way', async () => {
    const one = fresh()
    const [, upper] = one.manifest.layers
    const last = one.blobs.find(([{ digest }]) => digest === upper?.digest)?.[1] as Buffer
    let isUnpacked = (): void => {}
    const unpacked = new Promise<void>((resolve) => {
      isUnpacked = resolve
    })
    await using server = await serveImage(one, (request, response, bytes) => {
      if (bytes !== last) return false
      void unpacked.then(() => serve(request, response, bytes))
      return true
    })
    const operation = sandbox.engine.pull(`${server.host}/app:1`, { registry })
    const seen: string[] = []
    for await (const { phase, kind, descriptor } of operation) {
      if (kind !== 'done' || descriptor.mediaType !== upper?.mediaType) continue
      seen.push(`${phase} ${descriptor === upper || descriptor.digest === upper.digest ? 'upper' : 'lower'}`)
      if (seen.at(-1) === 'unpack lower') isUnpacked()
    }
    expect(seen).toEqual(['fetch lower', 'unpack lower', 'fetch upper', 'unpack upper'])
  })

  it('unpacks what it can only when all is there as well: a blob that is fetched anew', async () => {
    const content = randomBytes(3_000_000)
    const one = image([tar({ name: 'f', content })])
    const blob = one.manifest.layers[0]?.digest
    const root = join(sandbox.directory, 'anew')
    const pull = (server: ScriptedServer) =>
      createEngine({ root }).pull(`${server.host}/app:1`, { registry: { ...registry, retry: { attempts: 1 } } })
    // The first registry sends the beginning of something else, and no more.
    const isBlob = (url: string | undefined): boolean => url?.endsWith(String(blob)) === true
    await using liar = await serveImage(one, (request, response, bytes) => {
      if (!isBlob(request.url)) return false
      response.writeHead(200, { 'content-length': bytes.length })
      response.write(Buffer.alloc(1_500_000), () => response.destroy())
      return true
    })
    await expect(pull(liar)).rejects.toThrow(NetworkError)
    await using server = await serveImage(one)
    const pulled = await pull(server)
    const [layer] = readdirSync(join(root, 'layers/sha256'))
    expect(readFileSync(join(root, 'layers/sha256', String(layer), 'diff/f')).equals(content)).toBe(true)
    expect(pulled.digest).toBe(one.descriptor.digest)
  })

  it('fetches without unpacking when it is told so', async () => {
    const one = fresh()
    await using server = await serveImage(one)
    const root = join(sandbox.directory, 'fetched')
    await createEngine({ root }).pull(`${server.host}/app:1`, { registry, unpack: false })
    expect(existsSync(join(root, 'content/blobs/sha256', one.descriptor.digest.slice(7)))).toBe(true)
    expect(existsSync(join(root, 'layers/sha256'))).toBe(false)
  })

  it('asks whether it may before it fetches a layer, and leaves the store as it was when it may not', async () => {
    const one = fresh()
    await using server = await serveImage(one)
    const reference = `${server.host}/app:1`
    const files = (): readonly string[] => readdirSync(sandbox.root, { recursive: true, encoding: 'utf8' }).sort()
    await sandbox.engine.store()
    const before = files()
    const reason = new Error('not today')
    const refused = sandbox.engine.pull(reference, { registry, admit: () => Promise.reject(reason) })
    const error: unknown = await refused.catch((e: unknown) => e)
    expect(error).toBeInstanceOf(AdmissionError)
    expect(error).toMatchObject({ cause: reason, digest: one.descriptor.digest })
    expect(files()).toEqual(before)
    expect(server.seen.filter(({ url }) => url.includes(one.manifest.layers[0]?.digest ?? ''))).toEqual([])
    const asked: string[] = []
    const admit = async ({ root, raw }: CopyCandidate): Promise<void> => {
      asked.push(root.digest, JSON.parse(Buffer.from(raw).toString()).config.digest)
    }
    const pulled = await sandbox.engine.pull(reference, { registry, admit })
    expect(asked).toEqual([pulled.digest, pulled.id])
  })

  it('of the same image twice at once gives the same', async () => {
    await using server = await serveImage(fresh())
    const pull = (): PromiseLike<Image> => sandbox.engine.pull(`${server.host}/app:1`, { registry })
    const [one, two] = await Promise.all([pull(), pull()])
    expect(one?.digest).toBe(two?.digest)
  })

  it('can be aborted at any moment, with the reason, and tried again', { timeout: 60_000 }, async () => {
    const reason = new Error('changed my mind')
    let aborted = 0
    for (let round = 0; round < 40; round++) {
      await using server = await serveImage(fresh())
      const reference = `${server.host}/app:1`
      const controller = new AbortController()
      const pulling = sandbox.engine.pull(reference, { registry, signal: controller.signal })
      const end = performance.now() + round * 1.5
      while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve))
      controller.abort(reason)
      const outcome: unknown = await pulling.catch((error: unknown) => error)
      if (outcome === reason) aborted++
      else expect(outcome).toHaveProperty('digest')
      expect(await settledLeftovers(sandbox)).toEqual(nothing)
      await sandbox.engine.pull(reference, { registry })
    }
    expect(aborted).toBeGreaterThan(5)
  })

  it('has a time of its own', async () => {
    await using server = await serveImage(fresh(), () => true)
    const pulling = sandbox.engine.pull(`${server.host}/app:1`, { registry, timeout: '50ms' })
    await expect(pulling).rejects.toThrow(TimeoutError)
  })

  it('fails by its promise and by its iterator, and not as an unhandled rejection', async () => {
    const unhandled: unknown[] = []
    const listener = (error: unknown): void => void unhandled.push(error)
    process.on('unhandledRejection', listener)
    try {
      const ignored = sandbox.engine.pull('///')
      await expect(ignored[Symbol.asyncIterator]().next()).rejects.toThrow(InvalidReferenceError)
      await using server = await serveImage(fresh())
      sandbox.engine.pull(`${server.host}/app:2`, { registry })
      await expect(sandbox.engine.pull(`${server.host}/app:2`, { registry })).rejects.toThrow(NotFoundError)
      await new Promise((resolve) => setImmediate(resolve))
      expect(unhandled).toEqual([])
    } finally {
      process.off('unhandledRejection', listener)
    }
  })
})
