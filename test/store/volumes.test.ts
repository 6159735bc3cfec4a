import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { ConflictError, InvalidArgumentError, NotFoundError } from '../../src/errors.ts'
import { openStore, type Store } from '../../src/store/index.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-volumes-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

let root: string
let store: Store
let count = 0
beforeEach(async () => {
  count += 1
  root = join(scratch, String(count))
  store = await openStore({ root, durability: 'none' })
})

const names = async (...options: Parameters<Store['volumes']['list']>): Promise<readonly string[]> =>
  (await store.volumes.list(...options)).map(({ name }) => name)

describe.skipIf(process.platform !== 'linux')('volumes (skipped on anything but Linux)', () => {
  it('are made, listed, inspected and removed', async () => {
    const before = Date.now()
    const data = await store.volumes.create('data', { labels: { tier: 'db' } })
    expect(data).toMatchObject({ name: 'data', anonymous: false, labels: { tier: 'db' }, usedBy: [] })
    expect(Math.abs(data.created.getTime() - before)).toBeLessThan(60_000)
    expect(readdirSync(data.path)).toEqual([])
    expect(statSync(data.path).mode & 0o7777).toBe(0o755)
    await store.volumes.create('another')
    expect(await names()).toEqual(['another', 'data'])
    expect(await store.volumes.inspect('data')).toEqual(data)
    await store.volumes.remove('data')
    expect(await names()).toEqual(['another'])
    expect(existsSync(data.path)).toBe(false)
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
    await expect(store.volumes.inspect('data')).rejects.toThrow(NotFoundError)
    await expect(store.volumes.remove('data')).rejects.toThrow(NotFoundError)
    await store.volumes.remove('data', { force: true })
  })

  it('are kept when they are made again, unless other labels are wanted', async () => {
    const { path } = await store.volumes.create('data', { labels: { a: '1' } })
    writeFileSync(join(path, 'file'), 'kept')
    await store.volumes.create('data')
    await store.volumes.create('data', { labels: { a: '1' } })
    await expect(store.volumes.create('data', { labels: { a: '2' } })).rejects.toThrow(ConflictError)
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('kept')
  })

  it('are anonymous when nobody names them', async () => {
    const one = await store.volumes.create()
    const two = await store.volumes.create()
    expect(one).toMatchObject({ name: expect.stringMatching(/^[0-9a-f]{64}$/), anonymous: true })
    expect(two.name).not.toBe(one.name)
  })

  it('have names that can be names of directories', async () => {
    for (const name of ['', '.', '..', '../x', 'a/b', '-a', 'a b', 'é', 'x'.repeat(129), 'a\0']) {
      await expect(store.volumes.create(name), JSON.stringify(name)).rejects.toThrow(InvalidArgumentError)
      await expect(store.volumes.remove(name)).rejects.toThrow(InvalidArgumentError)
    }
    await expect(store.volumes.create('x', { labels: { a: 1 } as never })).rejects.toThrow(InvalidArgumentError)
  })

  it('that a container mounts are in use until its layer is removed', async () => {
    const layer = await store.createWritable(undefined, { id: 'box', volumes: [{ name: 'data', labels: { a: 'b' } }] })
    expect(await store.volumes.inspect('data')).toMatchObject({ usedBy: ['box'], labels: { a: 'b' } })
    for (const options of [{}, { force: true }]) {
      await expect(store.volumes.remove('data', options)).rejects.toThrow(/mounted by container box/)
    }
    expect(await store.volumes.prune({ all: true })).toEqual({ volumes: [], freed: 0 })
    await store.volumes.create('free')
    expect(await names({ dangling: true })).toEqual(['free'])
    expect(await names({ dangling: false })).toEqual(['data'])
    await layer.remove()
    expect(await names({ dangling: true })).toEqual(['data', 'free'])
    await store.volumes.remove('data')
  })

  it('that are anonymous go with the layer they were made for, unless another one has them', async () => {
    const one = { name: 'one', anonymous: true }
    const two = { name: 'two', anonymous: true }
    const first = await store.createWritable(undefined, { id: 'first', volumes: [one, two, { name: 'named' }] })
    const second = await store.createWritable(undefined, { id: 'second', volumes: [two] })
    await first.remove()
    expect(await names()).toEqual(['named', 'two'])
    await second.remove()
    expect(await names()).toEqual(['named'])
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
  })

  it('that are anonymous are pruned by default, the others when told, by their labels', async () => {
    const anonymous = await store.volumes.create(undefined, { labels: { keep: 'no' } })
    writeFileSync(join(anonymous.path, 'file'), Buffer.alloc(100_000))
    await store.volumes.create('a', { labels: { tier: 'x' } })
    await store.volumes.create('b', { labels: { tier: 'y' } })
    const foreseen = await store.volumes.prune({ dryRun: true })
    expect(foreseen.volumes).toEqual([anonymous.name])
    expect(foreseen.freed).toBeGreaterThanOrEqual(100_000)
    expect(await store.volumes.prune({ withoutLabels: { keep: true } })).toMatchObject({ volumes: [] })
    expect(await store.volumes.prune()).toEqual(foreseen)
    expect(await names()).toEqual(['a', 'b'])
    expect((await store.volumes.prune({ all: true, labels: { tier: 'x' } })).volumes).toEqual(['a'])
    expect((await store.volumes.prune({ all: true, withoutLabels: { tier: 'y' } })).volumes).toEqual([])
    expect((await store.volumes.prune({ all: true })).volumes).toEqual(['b'])
  })

  it('whose record was lost in a crash are volumes all the same, and count as named', async () => {
    const { path } = await store.volumes.create()
    writeFileSync(join(path, 'file'), 'precious')
    writeFileSync(join(path, '..', 'volume.json'), '')
    const [found] = await store.volumes.list()
    expect(found).toMatchObject({ anonymous: false, labels: {} })
    expect((await store.volumes.prune()).volumes).toEqual([])
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('precious')
  })
})

describe.skipIf(process.platform !== 'linux')('filling a volume (skipped on anything but Linux)', () => {
  const write =
    (text: string) =>
    async (directory: string): Promise<void> =>
      writeFileSync(join(directory, 'file'), text)

  it('happens once, when it is empty', async () => {
    const { path } = await store.volumes.create('data')
    expect(await store.volumes.fill('data', 'box', write('first'))).toBe(true)
    expect(await store.volumes.fill('data', 'box', write('second'))).toBe(false)
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('first')
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
  })

  it('happens whole or not at all', async () => {
    const { path } = await store.volumes.create('data')
    const fails = store.volumes.fill('data', 'box', async (directory) => {
      await write('half')(directory)
      throw new Error('in the middle')
    })
    await expect(fails).rejects.toThrow('in the middle')
    expect(readdirSync(path)).toEqual([])
    expect(await store.volumes.fill('data', 'box', write('whole'))).toBe(true)
  })

  it('is seen by a container that has the volume already', async () => {
    await store.createWritable(undefined, { id: 'early', volumes: [{ name: 'data' }] })
    const { path } = await store.volumes.inspect('data')
    const { ino } = statSync(path)
    await store.volumes.fill('data', 'late', write('x'))
    expect(statSync(path).ino).toBe(ino)
    expect(readdirSync(path)).toEqual(['file'])
  })

  it('is done by one of several who want to', async () => {
    await store.volumes.create('data')
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, i) => store.volumes.fill('data', String(i), write(String(i)))),
    )
    expect(results.filter((filled) => filled)).toHaveLength(1)
  })

  it('does not need a volume without a mark of a crash: what a dead process was filling is gone', async () => {
    const { path } = await store.volumes.create('data')
    mkdirSync(join(root, 'tmp/volume-data/data'), { recursive: true })
    writeFileSync(join(root, 'tmp/volume-data/data/half'), '')
    await openStore({ root, durability: 'none' })
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
    expect(readdirSync(path)).toEqual([])
  })
})
