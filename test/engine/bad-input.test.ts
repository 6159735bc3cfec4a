import { execFile } from 'node:child_process'
import { existsSync, lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { anonymous } from '../../src/distribution/index.ts'
import {
  DigestMismatchError,
  LayerError,
  LimitError,
  NetworkError,
  NotFoundError,
  OciError,
  PlatformError,
  SizeMismatchError,
  SpecError,
} from '../../src/errors.ts'
import { descriptorOf, mediaType } from '../../src/image/index.ts'
import type { Engine } from '../../src/index.ts'
import { type TestEntry, tar } from '../layer/support/tar.ts'
import { image, type TestImage } from '../store/support/image.ts'
import { busyboxImage, cannotRun } from './support/busybox.ts'
import { type Intrusion, serveImage } from './support/image-server.ts'
import { Sandbox } from './support/sandbox.ts'

const project = fileURLToPath(new URL('../..', import.meta.url))
const puller = fileURLToPath(new URL('support/puller.ts', import.meta.url))

/** All files of a store, with their sizes and the times of their last change. */
function contentOf(root: string): readonly string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => !path.startsWith('locks/'))
    .map((path) => `${path} ${lstatSync(join(root, path)).isFile() ? lstatSync(join(root, path)).size : ''}`)
    .sort()
}

/** Digests of the blobs of a store. */
function blobsOf(root: string): readonly string[] {
  const folder = join(root, 'content/blobs/sha256')
  return existsSync(folder) ? readdirSync(folder).map((name) => `sha256:${name}`) : []
}

describe.skipIf(cannotRun)(`bad images (${cannotRun ?? 'pulled for real'})`, () => {
  let sandbox: Sandbox
  let engine: Engine
  beforeAll(async () => {
    sandbox = new Sandbox()
    engine = sandbox.engine
    await sandbox.put('busybox')
    const store = await engine.store()
    const good = busyboxImage()
    await store.unpack(good.manifest, good.config)
  })
  afterAll(() => sandbox.remove())

  const registry = { credentials: anonymous, retry: { minDelay: 1, maxDelay: 2 } }

  /** Pulls what can't be pulled. @returns the error, and what is new in the store. */
  async function fail(
    bad: TestImage,
    intrude?: Intrusion,
    options: { platform?: string } = {},
  ): Promise<{ readonly error: OciError; readonly added: readonly string[] }> {
    const before = contentOf(sandbox.root)
    const known = new Set(before)
    await using server = await serveImage(bad, intrude)
    const pulled = engine.pull(`${server.host}/app:1`, { registry, timeout: '30s', ...options })
    const error: unknown = await pulled.then(() => undefined).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(OciError)
    const after = contentOf(sandbox.root)
    for (const path of before) expect(after).toContain(path)
    expect(after.filter((path) => /^(tmp|content\/ingest|containers|leases)\//.test(path))).toEqual([])
    // No name was given to what is not whole.
    await expect((await engine.store()).resolve(`${server.host}/app:1`)).rejects.toThrow(NotFoundError)
    return { error: error as OciError, added: after.filter((path) => !known.has(path)) }
  }

  let count = 0
  let bad: TestImage
  beforeEach(() => {
    count += 1
    bad = image([tar({ name: 'number', content: `${count}` })])
  })
  const layerOf = ({ manifest }: TestImage): string => manifest.layers[0]?.digest ?? ''

  it('with content that is not what its digest says', async () => {
    const { error } = await fail(bad, (request, response, bytes) => {
      if (!request.url?.endsWith(layerOf(bad))) return false
      response.end(Buffer.from(bytes).fill('x'))
      return true
    })
    expect(error).toBeInstanceOf(DigestMismatchError)
    expect(error.subject).toContain(layerOf(bad))
    expect(blobsOf(sandbox.root)).not.toContain(layerOf(bad))
  })

  it('with a manifest that is not what its digest says', async () => {
    const digest = bad.descriptor.digest
    const { error, added } = await fail(bad, (request, response, bytes) => {
      if (request.method !== 'GET' || !request.url?.includes('/manifests/')) return false
      response.end(Buffer.concat([bytes.subarray(0, -1), Buffer.from(' }')]).subarray(0, bytes.length))
      return true
    })
    expect([DigestMismatchError.name, SizeMismatchError.name]).toContain(error.name)
    expect(error.message).toContain(digest)
    expect(added).toEqual([])
  })

  it('with a layer that is cut short', async () => {
    const { error } = await fail(bad, (request, response, bytes) => {
      if (!request.url?.endsWith(layerOf(bad))) return false
      response.end(bytes.subarray(0, bytes.length / 2))
      return true
    })
    expect([SizeMismatchError.name, NetworkError.name]).toContain(error.name)
    expect(`${error.subject} ${error.message}`).toContain(layerOf(bad))
  })

  it('with a layer that is longer than it says', async () => {
    const { error } = await fail(bad, (request, response, bytes) => {
      if (!request.url?.endsWith(layerOf(bad))) return false
      response.end(Buffer.concat([bytes, Buffer.alloc(1000)]))
      return true
    })
    expect(error).toBeInstanceOf(SizeMismatchError)
    expect(error.message).toContain(layerOf(bad))
  })

  it('with a layer that is missing', async () => {
    const { error } = await fail(bad, (request, response) => {
      if (!request.url?.endsWith(layerOf(bad))) return false
      response.writeHead(404).end()
      return true
    })
    expect(error).toBeInstanceOf(NotFoundError)
    expect(error.message).toContain(layerOf(bad))
  })

  it.each([
    ['announced', 2 ** 30],
    ['sent without a length', undefined],
  ])('with a manifest of a gigabyte, %s', async (_, length) => {
    let sent = 0
    const { error, added } = await fail(bad, (request, response) => {
      if (!request.url?.includes('/manifests/')) return false
      response.removeHeader('docker-content-digest')
      if (length !== undefined) response.setHeader('content-length', length)
      if (request.method === 'HEAD') response.end()
      else {
        const block = Buffer.alloc(1 << 20, ' ')
        const more = (): void => {
          while (sent < 2 ** 30 && !response.destroyed) {
            sent += block.length
            if (!response.write(block)) return
          }
        }
        response.on('drain', more)
        more()
      }
      return true
    })
    expect(error).toBeInstanceOf(LimitError)
    expect(sent).toBeLessThan(64 << 20)
    expect(added).toEqual([])
  })

  it('with a manifest that is none', async () => {
    const text = Buffer.from('{"schemaVersion":2,"layers":"none"}')
    const broken = { ...bad, descriptor: descriptorOf(mediaType.ociManifest, text) }
    const { error } = await fail({ ...broken, blobs: [...bad.blobs, [broken.descriptor, text]] })
    expect(error).toBeInstanceOf(SpecError)
    expect(error.message).toMatch(/\/config|\/layers/)
  })

  it('for another platform, which are offered by name', async () => {
    const other = busyboxImage({ architecture: 's390x' })
    const { error } = await fail(other)
    expect(error).toBeInstanceOf(PlatformError)
    expect(error).toMatchObject({ available: ['linux/s390x'] })
    // It can be had when it is asked for; only not run.
    await using server = await serveImage(other)
    const pulled = await engine.pull(`${server.host}/app:1`, { registry, platform: 'linux/s390x' })
    expect(pulled.platform.architecture).toBe('s390x')
    await expect(engine.run(pulled)).rejects.toThrow(PlatformError)
    await expect(engine.run(`${server.host}/app:1`, { pull: 'never' })).rejects.toThrow(PlatformError)
  })

  it('whose config names another layer', async () => {
    const lying = image([tar({ name: 'a', content: `${count}` })], { diff_ids: [`sha256:${'0'.repeat(64)}`] })
    const before = contentOf(sandbox.root).filter((path) => path.startsWith('layers/'))
    await using server = await serveImage(lying)
    await expect(engine.pull(`${server.host}/app:1`, { registry })).rejects.toThrow(DigestMismatchError)
    expect(contentOf(sandbox.root).filter((path) => path.startsWith('layers/'))).toEqual(before)
  })

  const hostile: readonly (readonly [string, readonly TestEntry[]])[] = [
    ['an absolute name', [{ name: '/../../outside', content: 'x' }]],
    ['a name with ..', [{ name: '../outside', content: 'x' }]],
    ['a name with .. in the middle', [{ name: 'a/../../outside', content: 'x' }]],
    ['a hard link to the outside', [{ name: 'link', type: '1', linkName: '../../../../outside' }]],
    [
      'a symbolic link that is written through',
      [
        { name: 'link', type: '2', linkName: '/TARGET' },
        { name: 'link/outside', content: 'x' },
      ],
    ],
    [
      'a relative symbolic link that is written through',
      [
        { name: 'link', type: '2', linkName: '../../../../../../../../TARGET' },
        { name: 'link/outside', content: 'x' },
      ],
    ],
    [
      'a hard link to a symbolic link',
      [
        { name: 'link', type: '2', linkName: '/TARGET/outside' },
        { name: 'hard', type: '1', linkName: 'link' },
        { name: 'hard', content: 'x' },
      ],
    ],
    [
      'its root as a symbolic link',
      [
        { name: '.', type: '2', linkName: '/TARGET' },
        { name: 'outside', content: 'x' },
      ],
    ],
    ['its root as a file', [{ name: './', type: '0', content: 'x' }]],
    ['a whiteout of the outside', [{ name: '../.wh.busybox', content: '' }]],
    ['a whiteout of its parent', [{ name: '.wh...', content: '' }]],
  ]
  it.each(hostile)('with %s reach nothing outside', async (_, entries) => {
    const target = join(sandbox.directory, 'target')
    rmSync(target, { recursive: true, force: true })
    mkdirSync(target)
    const changed = entries.map((entry) => ({
      ...entry,
      ...(typeof entry.linkName === 'string' ? { linkName: entry.linkName.replace('/TARGET', target) } : {}),
    }))
    const evil = image([tar({ name: 'number', content: `${count}` }, ...changed)])
    const layers = contentOf(sandbox.root).filter((path) => path.startsWith('layers/'))
    await using server = await serveImage(evil)
    const outcome: unknown = await engine
      .pull(`${server.host}/app:1`, { registry })
      .then(() => 'pulled')
      .catch((error: unknown) => error)
    expect(readdirSync(target)).toEqual([])
    expect(contentOf(sandbox.root).filter((path) => /^[^/]*outside/.test(path))).toEqual([])
    expect(existsSync('/outside')).toBe(false)
    expect(existsSync(join(sandbox.directory, 'outside'))).toBe(false)
    // What can be meant in a harmless way is taken that way, as the root of an archive is the root of the image.
    if (outcome !== 'pulled') {
      expect(outcome).toBeInstanceOf(LayerError)
      expect((outcome as LayerError).entry).not.toBe('')
      expect(contentOf(sandbox.root).filter((path) => path.startsWith('layers/'))).toEqual(layers)
    }
    expect(contentOf(sandbox.root).filter((path) => /^(tmp|content\/ingest)\//.test(path))).toEqual([])
  })

  it.skipIf(process.geteuid?.() !== 0)('on a full disk: told by name, and the store is as it was', async () => {
    const big = Buffer.alloc(24 << 20)
    for (let i = 0; i < big.length; i += 4) big.writeUInt32LE((Math.random() * 2 ** 32) >>> 0, i)
    for (const [size, phase] of [
      ['8m', 'fetch'],
      ['40m', 'unpack'],
    ] as const) {
      await using server = await serveImage(image([tar({ name: 'big', content: big })]))
      const root = join(sandbox.directory, `small-${phase}`)
      const script = `mkdir "$1" && mount -t tmpfs -o size=${size},mode=700 tmpfs "$1" && exec "$2" --import tsx "$3" "$1" "$4"`
      const args = ['-m', 'sh', '-c', script, 'sh', root, process.execPath, puller, `${server.host}/app:1`]
      const { stdout } = await promisify(execFile)('unshare', args, { cwd: project })
      const { error, files } = JSON.parse(stdout) as { error: Record<string, unknown>; files: readonly string[] }
      expect(error).toMatchObject({ isOciError: true, code: 'ERR_OCI_SYSCALL', errnoName: 'ENOSPC' })
      expect(error.message).toMatch(/no space left/i)
      expect(files.filter((path) => /^(tmp|content\/ingest|layers\/sha256)\//.test(path))).toEqual([])
    }
  })
})
