import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import {
  ConflictError,
  DigestMismatchError,
  InvalidArgumentError,
  LayerError,
  NotFoundError,
  SpecError,
  UnsupportedError,
} from '../../src/errors.ts'
import { chainIds, type Descriptor, digestOf, mediaType } from '../../src/image/index.ts'
import { untilAborted } from '../../src/internal/abort.ts'
import { openStore, type Store, type UnpackProgress } from '../../src/store/index.ts'
import { tar } from '../layer/support/tar.ts'
import { tree } from '../layer/support/tree.ts'
import { image, put } from './support/image.ts'
import { hasTools } from './support/tools.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-store-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

let root: string
let store: Store
let count = 0
beforeEach(async () => {
  count += 1
  root = join(scratch, `store-${count}`)
  store = await openStore({ root, durability: 'none' })
})

const base = tar(
  { name: 'etc/', type: '5' },
  { name: 'etc/passwd', content: 'root' },
  { name: 'tmp/', type: '5', mode: 0o1777, pax: { mtime: '1000.5' } },
)
const more = tar({ name: 'etc/hostname', content: 'box' }, { name: 'etc/.wh.passwd' }, { name: 'tmp/file' })

/** What lies around in a store besides what is published. */
const leftovers = (): string[] => [...readdirSync(join(root, 'tmp')), ...readdirSync(join(root, 'content', 'ingest'))]

/** Published layers. */
function published(): string[] {
  const folder = join(root, 'layers', 'sha256')
  return existsSync(folder) ? readdirSync(folder).sort() : []
}

describe('a store', () => {
  it('belongs to its owner alone', () => {
    expect(statSync(root).mode & 0o777).toBe(0o700)
    for (const part of readdirSync(root)) expect(statSync(join(root, part)).mode & 0o077).toBe(0)
  })

  it('is made below directories that are not there, and opened again', async () => {
    const deep = join(scratch, 'a', 'b', 'c')
    const first = await openStore({ root: deep })
    await put(first, image([base]), 'one')
    expect((await (await openStore({ root: deep })).resolve('one')).digest).toBe(image([base]).descriptor.digest)
  })

  it('is where OCI_TS_ROOT says when nothing else is said', async () => {
    process.env.OCI_TS_ROOT = join(scratch, 'by-environment')
    try {
      expect((await openStore()).root).toBe(join(scratch, 'by-environment'))
    } finally {
      delete process.env.OCI_TS_ROOT
    }
  })

  it('names content, renames it, and takes names away', async () => {
    const one = image([base])
    await put(store, one, 'docker.io/library/one:1')
    await store.tag(one.descriptor, 'docker.io/library/one:2')
    expect((await store.references()).map((each) => each.reference)).toEqual([
      'docker.io/library/one:1',
      'docker.io/library/one:2',
    ])
    expect(await store.untag('docker.io/library/one:1')).toBe(true)
    expect(await store.untag('docker.io/library/one:1')).toBe(false)
    await expect(store.resolve('docker.io/library/one:1')).rejects.toThrow(NotFoundError)
  })

  it.skipIf(!hasTools('skopeo', 'umoci'))(
    'keeps its content as an OCI layout that skopeo and umoci read (needs both)',
    async () => {
      await put(store, image([base, more]), 'docker.io/library/two:1')
      const at = `${join(root, 'content')}:docker.io/library/two:1`
      const inspected = execFileSync('skopeo', ['inspect', '--config', `oci:${at}`], { encoding: 'utf8' })
      expect(JSON.parse(inspected)).toMatchObject({ rootfs: { diff_ids: [digestOf(base), digestOf(more)] } })
      const listed = execFileSync('umoci', ['ls', '--layout', join(root, 'content')], { encoding: 'utf8' })
      expect(listed).toContain('docker.io/library/two:1')
    },
  )
})

describe('unpacking', () => {
  it('gives the layers for overlayfs, the highest one first', async () => {
    const two = image([base, more])
    await put(store, two)
    const unpacked = await store.unpack(two.manifest, two.config)
    const [lower, upper] = chainIds(two.config.rootfs.diff_ids)
    expect(unpacked.chainId).toBe(upper)
    expect(unpacked.chainIds).toEqual([lower, upper])
    expect(unpacked.layers).toHaveLength(2)
    expect(readFileSync(join(unpacked.layers[1] ?? '', 'etc/passwd'), 'utf8')).toBe('root')
    expect(readFileSync(join(unpacked.layers[0] ?? '', 'etc/hostname'), 'utf8')).toBe('box')
    expect(statSync(join(unpacked.layers[0] ?? '', 'etc/passwd')).rdev).toBe(0)
    expect(leftovers()).toEqual([])
  })

  it('lets directories that a layer does not name look as in the layers below', async () => {
    const two = image([base, more])
    await put(store, two)
    const [upper = '', lower = ''] = (await store.unpack(two.manifest, two.config)).layers
    expect(tree(upper).tmp).toEqual(tree(lower).tmp)
    expect(tree(upper).tmp?.mode).toBe('41777')
  })

  it('gives directories that no layer names always the same attributes', async () => {
    const one = image([tar({ name: 'a/b/f' })])
    await put(store, one)
    const [layer = ''] = (await store.unpack(one.manifest, one.config)).layers
    for (const path of ['.', 'a', 'a/b']) expect(tree(layer)[path]).toMatchObject({ mode: '40755', mtime: 0n })
  })

  it('leaves out what is below a layer that hides everything', async () => {
    const three = image([base, tar({ name: '.wh..wh..opq' }, { name: 'new' }), more])
    await put(store, three)
    const { layers } = await store.unpack(three.manifest, three.config)
    expect(layers).toHaveLength(2)
    expect(readdirSync(layers[1] ?? '')).toEqual(['new'])
  })

  it('goes by the first bytes of a blob, and tells when its media type says something else', async () => {
    const one = image([base])
    const [blob] = one.blobs
    const layer = { ...(one.manifest.layers[0] as Descriptor), mediaType: mediaType.ociLayerZstd }
    await store.push(layer, blob?.[1] ?? Buffer.alloc(0))
    const warnings: string[] = []
    const { layers } = await store.unpack({ ...one.manifest, layers: [layer] }, one.config, {
      onWarning: ({ message }) => warnings.push(message),
    })
    expect(layers).toHaveLength(1)
    expect(warnings).toEqual([`its media type is ${mediaType.ociLayerZstd}, but its compression is gzip`])
  })

  it('does it once for all images that share a layer', async () => {
    const one = image([base])
    const two = image([base, more])
    await put(store, one)
    await put(store, two)
    await store.unpack(one.manifest, one.config)
    const seen: UnpackProgress['kind'][] = []
    const again = await store.unpack(two.manifest, two.config, { onProgress: ({ kind }) => seen.push(kind) })
    expect(seen.filter((kind) => kind !== 'progress').sort()).toEqual(['done', 'skipped', 'started'])
    expect(published()).toHaveLength(2)
    expect(await store.unpack(two.manifest, two.config)).toEqual(again)
  })

  it('does it once for callers that ask at the same time', async () => {
    const two = image([base, more])
    await put(store, two)
    let started = 0
    const onProgress = ({ kind }: UnpackProgress): void => {
      if (kind === 'started') started += 1
    }
    const other = await openStore({ root, durability: 'none' })
    const all = await Promise.all(
      [store, other, store, other].map((each) => each.unpack(two.manifest, two.config, { onProgress })),
    )
    expect(new Set(all.map((each) => JSON.stringify(each))).size).toBe(1)
    expect(started).toBe(2)
    expect(leftovers()).toEqual([])
  })

  it('takes an image without layers', async () => {
    const none = image([])
    await put(store, none)
    expect(await store.unpack(none.manifest, none.config)).toEqual({ chainId: undefined, chainIds: [], layers: [] })
    const writable = await store.createWritable(undefined, { id: 'empty' })
    expect(writable.lower).toEqual([])
  })

  it('waits until all of it is on the disk, unless told not to', async () => {
    const durable = await openStore({ root })
    const one = image([base])
    await put(store, one)
    const [chainId = ''] = (await store.unpack(one.manifest, one.config)).chainIds
    const directory = join(root, 'layers', ...chainId.split(':'))
    expect(readdirSync(directory).sort()).toEqual(['diff', 'layer.json'])
    await durable.unpack(one.manifest, one.config)
    expect(readdirSync(directory).sort()).toEqual(['diff', 'layer.json', 'synced'])
  })

  it.each([
    [
      'was not on the disk when the machine went down',
      (json: string) => json.replace(/"bootId": "[^"]*"/, '"bootId": "x"'),
    ],
    ['lost its record', () => ''],
    ['has a record that is none', () => '{"version": 1}'],
  ])('makes a layer anew that %s', async (_, change) => {
    const one = image([base])
    await put(store, one)
    const { chainIds: ids, layers } = await store.unpack(one.manifest, one.config)
    const record = join(root, 'layers', ...(ids[0] ?? '').split(':'), 'layer.json')
    writeFileSync(record, change(readFileSync(record, 'utf8')))
    writeFileSync(join(layers[0] ?? '', 'etc/passwd'), '')
    await store.unpack(one.manifest, one.config)
    expect(readFileSync(join(layers[0] ?? '', 'etc/passwd'), 'utf8')).toBe('root')
    expect(leftovers()).toEqual([])
  })

  it('keeps a layer that was on the disk when the machine went down', async () => {
    const durable = await openStore({ root })
    const one = image([base])
    await put(store, one)
    const { chainIds: ids } = await durable.unpack(one.manifest, one.config)
    const record = join(root, 'layers', ...(ids[0] ?? '').split(':'), 'layer.json')
    writeFileSync(record, readFileSync(record, 'utf8').replace(/"bootId": "[^"]*"/, '"bootId": "x"'))
    const seen: string[] = []
    await durable.unpack(one.manifest, one.config, { onProgress: ({ kind }) => seen.push(kind) })
    expect(seen).toEqual(['skipped'])
  })

  describe('fails and leaves the store as it was', () => {
    const failing = async (error: unknown, ...args: Parameters<typeof image>): Promise<void> => {
      const bad = image(...args)
      await put(store, bad)
      await expect(store.unpack(bad.manifest, bad.config)).rejects.toThrow(error as new () => Error)
      expect(leftovers()).toEqual([])
    }

    it('for a layer that is not what the config says', async () => {
      await failing(DigestMismatchError, [base], { diff_ids: [digestOf(more)] })
      expect(published()).toEqual([])
    })

    it('for a hostile layer, and keeps those below it', async () => {
      await failing(LayerError, [base, tar({ name: '../../evil' })])
      expect(published()).toHaveLength(1)
    })

    it('for a config with another number of layers', async () => {
      await failing(SpecError, [base, more], { diff_ids: [digestOf(base)] })
    })

    it('for a blob that is missing', async () => {
      const one = image([base])
      await expect(store.unpack(one.manifest, one.config)).rejects.toThrow(NotFoundError)
      expect(leftovers()).toEqual([])
    })

    it('for something that is no layer', async () => {
      const one = image([base])
      await put(store, one)
      const layers = one.manifest.layers.map((layer) => ({ ...layer, mediaType: 'application/pdf' }))
      await expect(store.unpack({ ...one.manifest, layers }, one.config)).rejects.toThrow(UnsupportedError)
    })

    it('when it is aborted at any moment before its content comes', { timeout: 5000 }, async () => {
      const one = image([base, more])
      const reason = new Error('enough')
      const fetch = (_: Descriptor, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<never> =>
        untilAborted(new Promise<never>(() => {}), options.signal)
      const content = { fetch }
      for (let turns = 0; turns < 30; turns += 1) {
        const controller = new AbortController()
        const unpacked = store.unpack(one.manifest, one.config, { signal: controller.signal, content })
        unpacked.catch(() => {})
        for (let i = 0; i < turns; i += 1) await new Promise((resolve) => setImmediate(resolve))
        controller.abort(reason)
        await expect(unpacked).rejects.toBe(reason)
      }
    })

    it('when it is aborted, with the reason', async () => {
      const big = image([base, tar({ name: 'big', content: Buffer.alloc(5_000_000, 'x') })])
      await put(store, big)
      const controller = new AbortController()
      const reason = new Error('enough')
      const unpacked = store.unpack(big.manifest, big.config, {
        signal: controller.signal,
        onProgress: ({ size }) => {
          if (size > 1_000_000) controller.abort(reason)
        },
      })
      await expect(unpacked).rejects.toBe(reason)
      expect(leftovers()).toEqual([])
      await store.unpack(big.manifest, big.config)
    })
  })
})

describe('a writable layer', () => {
  it('lies on the layers of an image, and looks like them at its root', async () => {
    const two = image([tar({ name: './', type: '5', mode: 0o711 }), more])
    await put(store, two)
    const { chainId, layers } = await store.unpack(two.manifest, two.config)
    const writable = await store.createWritable(chainId, { id: 'box-1' })
    expect(writable.lower).toEqual(layers)
    expect(statSync(writable.upper).mode & 0o7777).toBe(0o711)
    expect(readdirSync(writable.work)).toEqual([])
    expect(leftovers()).toEqual([])
    expect(await store.openWritable('box-1')).toMatchObject({ lower: layers, upper: writable.upper })
  })

  it('has a name of its own', async () => {
    await store.createWritable(undefined, { id: 'a' })
    await expect(store.createWritable(undefined, { id: 'a' })).rejects.toThrow(ConflictError)
    for (const id of ['', '.', '..', '../a', 'a/b', '-a', 'a'.repeat(129)]) {
      await expect(store.createWritable(undefined, { id })).rejects.toThrow(InvalidArgumentError)
    }
    const racing = await Promise.allSettled([1, 2, 3, 4].map(() => store.createWritable(undefined, { id: 'b' })))
    expect(racing.filter((each) => each.status === 'fulfilled')).toHaveLength(1)
  })

  it('is removed whole, also when nobody may write to it, and any number of times', async () => {
    const writable = await store.createWritable(undefined, { id: 'a' })
    execFileSync('sh', [
      '-c',
      `mkdir -p "$1/d/e" && echo x > "$1/d/e/f" && chmod 0 "$1/d/e" "$1/d"`,
      'sh',
      writable.upper,
    ])
    await writable.remove()
    await writable.remove()
    expect(readdirSync(join(root, 'containers'))).toEqual([])
    expect(leftovers()).toEqual([])
    await expect(store.openWritable('a')).rejects.toThrow(NotFoundError)
    await store.createWritable(undefined, { id: 'a' })
  })

  it('needs an image that is unpacked', async () => {
    await expect(store.createWritable(digestOf(base), { id: 'a' })).rejects.toThrow(NotFoundError)
  })
})

describe('what dead processes leave behind', () => {
  it('of container layers is what was to outlive them, and that alone', async () => {
    const kept = await store.createWritable(undefined, { id: 'kept' })
    const own = await store.createWritable(undefined, { id: 'own', ephemeral: true })
    const record = (id: string): string => join(root, 'containers', id, 'writable.json')
    execFileSync('cp', ['-a', join(root, 'containers', 'own'), join(root, 'containers', 'dead')])
    writeFileSync(record('dead'), readFileSync(record('own'), 'utf8').replace('"own"', '"dead"'))
    execFileSync('mkdir', ['-p', join(root, 'containers', 'half', 'upper')])
    const other = await openStore({ root })
    expect(readdirSync(join(root, 'containers')).sort()).toEqual(['kept', 'own'])
    expect(readdirSync(join(root, 'locks')).sort()).toEqual(['container-own.lock', 'gc.lock'])
    await expect(other.createWritable(undefined, { id: 'own' })).rejects.toThrow(ConflictError)
    await own.remove()
    await kept.remove()
    await openStore({ root })
    expect(readdirSync(join(root, 'containers'))).toEqual([])
    expect(leftovers()).toEqual([])
  })

  it('is removed by the next one that opens the store, and nothing else is', async () => {
    execFileSync('sh', [
      '-c',
      `mkdir -p "$1/layer-x/diff/d" && touch "$1/layer-x.lock" && chmod 0 "$1/layer-x/diff"`,
      'sh',
      join(root, 'tmp'),
    ])
    await store.lease()
    const lease = await store.lease()
    await lease.add(digestOf(base), digestOf(more))
    writeFileSync(join(root, 'leases', 'dead.lock'), 'sha256:x\n')
    await openStore({ root })
    expect(leftovers()).toEqual([])
    expect(readdirSync(join(root, 'leases'))).toHaveLength(2)
    expect(readFileSync(join(root, 'leases', `${lease.id}.lock`), 'utf8')).toBe(
      `${digestOf(base)}\n${digestOf(more)}\n`,
    )
    await lease.release()
    await lease.release()
    expect(readdirSync(join(root, 'leases'))).toHaveLength(1)
  })
})

chmodSync(scratch, 0o755)
