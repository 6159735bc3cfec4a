import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ConflictError, InvalidArgumentError, InvalidReferenceError, NotFoundError } from '../../src/errors.ts'
import type { Descriptor } from '../../src/image/descriptor.ts'
import { createEngine, type Engine } from '../../src/index.ts'
import { tar } from '../layer/support/tar.ts'
import { image, put } from '../store/support/image.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { serveImage } from './support/image-server.ts'
import { Sandbox } from './support/sandbox.ts'

const one = image([tar({ name: 'one', content: 'x'.repeat(5000) })], {}, { config: { Labels: { tier: 'x' } } })
const two = image([tar({ name: 'two' })], {}, { config: {} })

describe.skipIf(process.platform !== 'linux')('images of an engine (skipped on anything but Linux)', () => {
  let sandbox: Sandbox
  let engine: Engine
  beforeEach(async () => {
    sandbox = new Sandbox()
    engine = sandbox.engine
    await sandbox.put('one', one)
    return () => sandbox.remove()
  })

  it('are listed, by name or not, with their labels', async () => {
    await sandbox.put('two', two)
    await sandbox.put('two', one)
    expect(await engine.images()).toMatchObject([
      { name: 'docker.io/library/one:latest', id: one.manifest.config.digest, labels: { tier: 'x' } },
      { name: 'docker.io/library/two:latest', digest: one.descriptor.digest },
      { name: undefined, dangling: true, digest: two.descriptor.digest },
    ])
    expect(await engine.images({ dangling: true })).toHaveLength(1)
    expect(await engine.images({ dangling: false, labels: { tier: 'x' } })).toHaveLength(2)
    expect(await engine.images({ withoutLabels: { tier: true } })).toHaveLength(1)
  })

  it('get further names, by any form of one that they have', async () => {
    const id = one.manifest.config.digest
    const ways = ['one', 'one:latest', 'docker.io/library/one', id, id.slice(7, 19), one.descriptor.digest]
    for (const [index, way] of ways.entries()) await engine.tag(way, `registry.example.org/x:${index}`)
    await engine.tag('one', 'other')
    expect((await engine.images()).map(({ name }) => name)).toEqual([
      'docker.io/library/one:latest',
      ...ways.map((_, index) => `registry.example.org/x:${index}`),
      'docker.io/library/other:latest',
    ])
    await expect(engine.tag('missing', 'x')).rejects.toThrow(NotFoundError)
    await expect(engine.tag('one', 'UPPER')).rejects.toThrow(InvalidReferenceError)
    await expect(engine.tag('one', `x@${one.descriptor.digest}`)).rejects.toThrow(InvalidArgumentError)
    await expect(engine.tag('', 'x')).rejects.toThrow(InvalidArgumentError)
  })

  it('are removed by any form of their name, by id, and whole with the last name', async () => {
    await engine.tag('one', 'same')
    await expect(engine.removeImage(one.manifest.config.digest)).rejects.toThrow(ConflictError)
    expect(await engine.removeImage('same')).toMatchObject({
      untagged: ['docker.io/library/same:latest'],
      deleted: false,
    })
    expect(await engine.removeImage('library/one:latest')).toMatchObject({ deleted: true })
    await expect(engine.removeImage('one')).rejects.toThrow(/there is no image "docker.io\/library\/one:latest"/)
    await expect(engine.removeImage('abcdef')).rejects.toThrow(NotFoundError)
    expect(readdirSync(join(sandbox.root, 'content/blobs/sha256'))).toEqual([])
  })

  it('are checked, and repaired from the registry they are named after', async () => {
    await using server = await serveImage(one)
    const name = `${server.host}/app:1`
    await engine.tag('one', name)
    const store = await engine.store()
    const { digest } = one.manifest.layers[0] as Descriptor
    writeFileSync(store.content.blobPath(digest), 'damaged')
    const kind = 'blob-damaged'
    expect((await engine.check()).findings).toMatchObject([{ kind, digest, images: [expect.any(String), name] }])
    expect((await engine.repair({ fetch: false })).repairs).toMatchObject([{ repaired: false }])
    await engine.removeImage('one')
    expect((await engine.repair()).repairs).toMatchObject([{ repaired: true, finding: { kind, digest } }])
    expect((await engine.check()).findings).toEqual([])
  })

  it('are weighed, what they share once', async () => {
    const base = tar({ name: 'base', content: Buffer.alloc(10_000, 'x') })
    const [a, b] = ['a', 'b'].map((name) => image([base, tar({ name, content: name })]))
    if (a === undefined || b === undefined) throw new Error('unreachable')
    await sandbox.put('a', a)
    await sandbox.put('b', b)
    const store = await engine.store()
    for (const each of [a, b]) await store.unpack(each.manifest, each.config)
    const { volumes } = engine
    await volumes.create('data')
    const usage = await engine.diskUsage()
    const [, first, second] = usage.images
    expect(first).toMatchObject({ names: ['docker.io/library/a:latest'], usedBy: [] })
    expect(first?.shared).toBe(base.length + (a.manifest.layers[0]?.size ?? 0))
    expect(second?.shared).toBe(first?.shared)
    expect((first?.unique ?? 0) + (first?.shared ?? 0)).toBe(first?.size)
    expect(usage.layers).toEqual({ count: 3, size: base.length + 2 * 2048 })
    expect(usage.blobs.count).toBe(10)
    const freed = usage.reclaimable.images
    expect(freed).toBe(usage.blobs.size + usage.layers.size)
    expect((await engine.prune({ images: 'unused' })).freed).toBe(freed)
    expect(usage.volumes).toMatchObject([{ name: 'data', usedBy: [] }])
    expect(usage.total).toBeGreaterThanOrEqual(freed)
    expect((await engine.diskUsage()).images).toEqual([])
  })
})

describe.skipIf(cannotRunAsRoot)(`pruning an engine (${cannotRunAsRoot ?? 'real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterAll(() => sandbox.remove())

  it('removes containers that have ended, images without a name, and volumes when told', async () => {
    const { engine } = sandbox
    await put(await engine.store(), two, 'docker.io/library/moved:latest')
    await put(await engine.store(), one, 'docker.io/library/moved:latest')
    const ended = await sandbox.run(['true'], { detach: true })
    const running = await sandbox.run(['sleep', '1000'], { detach: true })
    await ended.exited
    await engine.volumes.create('named')
    const anonymous = await engine.volumes.create()

    const foreseen = await engine.prune({ dryRun: true, volumes: 'anonymous' })
    expect(foreseen).toMatchObject({ containers: [ended.id], volumes: [anonymous.name] })
    expect(foreseen.images.map(({ digest }) => digest)).toEqual([two.descriptor.digest])
    expect(await engine.prune({ containers: false, images: 'none' })).toMatchObject({
      containers: [],
      images: [],
      volumes: [],
    })
    expect(await engine.prune({ volumes: 'anonymous' })).toEqual(foreseen)
    expect((await engine.containers()).map(({ id }) => id)).toEqual([running.id])
    expect((await engine.volumes.list()).map(({ name }) => name)).toEqual(['named'])

    // The image of a container that runs is in use; other engines see that, too.
    const other = createEngine({ root: sandbox.root, state: sandbox.state })
    expect((await other.prune({ images: 'unused' })).images).toMatchObject([{ name: 'docker.io/library/moved:latest' }])
    await expect(other.removeImage('busybox')).rejects.toThrow(/is used by container/)
    await running.remove()
    expect(await other.removeImage('busybox')).toMatchObject({ deleted: true })
    await sandbox.put('busybox', busyboxImage())
    await engine.volumes.remove('named')
  })
})
