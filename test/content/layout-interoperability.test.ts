import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { readAll } from '../../src/content/verify.ts'
import { parseImageConfig } from '../../src/image/config.ts'
import { assertLayerCount, parseManifest } from '../../src/image/manifest.ts'
import { putImage, putIndex, temporaryDirectory } from './support.ts'

const cleanups: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

function has(tool: string): boolean {
  return spawnSync(tool, ['--version']).error === undefined
}

function run(tool: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${stderr}`)
  return stdout
}

async function directory(): Promise<string> {
  const { path, remove } = await temporaryDirectory()
  cleanups.push(remove)
  return path
}

/** A layout of ours with two images, one of them named by a full reference. */
async function ours(path: string): Promise<void> {
  const source = new MemoryStore()
  const store = await LayoutStore.create(path)
  for (const name of ['1.0', '127.0.0.1:5000/team/x:1']) {
    await source.tag((await putImage(source)).manifest, name)
    await copy(source, name, store)
  }
}

describe.skipIf(!has('skopeo'))('an image layout and skopeo (skipped where skopeo is not installed)', () => {
  const skopeo = (...args: readonly string[]): string => run('skopeo', '--insecure-policy', ...args)

  it.each(['1.0', '127.0.0.1:5000/team/x:1'])('reads what we wrote, named %s', async (name) => {
    const root = await directory()
    await ours(join(root, 'layout'))
    const raw = skopeo('inspect', '--raw', `oci:${join(root, 'layout')}:${name}`)
    const store = await LayoutStore.open(join(root, 'layout'))
    const named = await store.resolve(name)
    expect(Buffer.from(await readAll(store, named, 10_000)).toString()).toBe(raw)
    skopeo('copy', `oci:${join(root, 'layout')}:${name}`, `dir:${join(root, 'dir')}`)
    expect(existsSync(join(root, 'dir', 'manifest.json'))).toBe(true)
  })

  it('adds to our layout, and we to its', async () => {
    const root = await directory()
    const layout = join(root, 'layout')
    await ours(layout)
    skopeo('copy', `oci:${layout}:1.0`, `oci:${layout}:by-skopeo`)
    skopeo('copy', `oci:${layout}:1.0`, `oci:${join(root, 'new')}:example.com/a/b:c`)
    const store = await LayoutStore.create(layout)
    expect((await store.list()).map(({ reference }) => reference)).toContain('by-skopeo')
    const theirs = await LayoutStore.open(join(root, 'new'))
    const found = await theirs.resolve('example.com/a/b:c')
    await theirs.tag(found, 'd')
    expect(await theirs.list()).toHaveLength(2)
    expect(skopeo('inspect', '--raw', `oci:${join(root, 'new')}:d`)).toContain('"layers"')
    expect(skopeo('inspect', '--raw', `oci:${join(root, 'new')}:example.com/a/b:c`)).toContain('"layers"')
  })

  it('reads a whole index that we wrote', async () => {
    const root = await directory()
    const source = new MemoryStore()
    const images = [
      await putImage(source, { inIndex: true }),
      await putImage(source, { inIndex: true, platform: 'linux/arm64' }),
    ]
    await source.tag(
      await putIndex(
        source,
        images.map(({ manifest }) => manifest),
      ),
      'multi',
    )
    await copy(source, 'multi', await LayoutStore.create(join(root, 'layout')))
    skopeo('copy', '--all', `oci:${join(root, 'layout')}:multi`, `oci:${join(root, 'copy')}:multi`)
    const read = await LayoutStore.open(join(root, 'copy'))
    const again = new MemoryStore()
    const root2 = await copy(read, 'multi', again, { platform: { os: 'linux', architecture: 'arm64' } })
    expect(root2.digest).toBe(images[1]?.manifest.digest)
  })
})

describe.skipIf(!has('umoci'))('an image layout and umoci (skipped where umoci is not installed)', () => {
  const umoci = (...args: readonly string[]): string => run('umoci', ...args)

  it('lists and describes what we wrote', async () => {
    const root = await directory()
    const layout = join(root, 'layout')
    await ours(layout)
    expect(umoci('list', '--layout', layout)).toContain('1.0')
    expect(umoci('stat', '--image', `${layout}:1.0`)).toContain('LAYER')
  })

  it('may collect garbage in our layout: everything that has a name stays', async () => {
    const root = await directory()
    const layout = join(root, 'layout')
    await ours(layout)
    const store = await LayoutStore.open(layout)
    const blobs = await readdir(join(layout, 'blobs', 'sha256'))
    const garbage = new MemoryStore()
    await copy(garbage, (await putImage(garbage)).manifest.digest, store)
    umoci('gc', '--layout', layout)
    expect((await readdir(join(layout, 'blobs', 'sha256'))).sort()).toEqual(blobs.sort())
    await copy(store, '1.0', new MemoryStore())
  })

  it.skipIf(process.getuid?.() !== 0)('makes an image that we read, layers and all (needs root)', async () => {
    const root = await directory()
    const layout = join(root, 'layout')
    umoci('init', '--layout', layout)
    umoci('new', '--image', `${layout}:empty`)
    await mkdir(join(root, 'tree'))
    await writeFile(join(root, 'tree', 'hello'), 'world')
    umoci('insert', '--image', `${layout}:empty`, '--tag', 'full', join(root, 'tree'), '/tree')
    umoci('config', '--image', `${layout}:full`, '--config.cmd', 'cat', '--config.env', 'A=b')
    const store = await LayoutStore.open(layout)
    const target = new MemoryStore()
    for (const name of ['empty', 'full']) {
      const manifest = parseManifest(await readAll(target, await copy(store, name, target), 100_000)).value
      const { value } = parseImageConfig(await readAll(target, manifest.config, 100_000))
      assertLayerCount(manifest, value.rootfs.diff_ids)
      if (name === 'full') expect(value.config).toMatchObject({ Cmd: ['cat'], Env: ['A=b'] })
    }
    await store.tag(await store.resolve('full'), 'ours')
    expect(umoci('list', '--layout', layout).trim().split('\n').sort()).toEqual(['empty', 'full', 'ours'])
    expect(JSON.parse(await readFile(join(layout, 'index.json'), 'utf8'))).toMatchObject({ schemaVersion: 2 })
  })
})
