import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { anonymous, openRepository, type Repository } from '../../src/distribution/index.ts'
import { createRegistryServer, type RegistryServer } from '../../src/registry/index.ts'
import { all } from '../distribution/support/images.ts'
import { put, type TestImage } from '../store/support/image.ts'
import { attach, example, fresh, root } from './support.ts'

let directory: string
let registry: RegistryServer

beforeAll(async () => {
  if (!existsSync(join(root, 'dist/index.js'))) throw new Error('There is no dist/: run `npm run build` first')
  directory = mkdtempSync(join(tmpdir(), 'oci-ts-examples-'))
})
beforeEach(async () => {
  await registry?.close()
  registry = await createRegistryServer()
})
afterAll(async () => {
  await registry?.close()
  rmSync(directory, { recursive: true, force: true })
})

const repositoryOf = (name: string): Repository =>
  openRepository(`${registry.host}/${name}`, { credentials: anonymous })

async function push(name: string, tag: string, made: TestImage): Promise<Repository> {
  const repository = repositoryOf(name)
  await put(repository, made, tag)
  return repository
}

describe('examples for images', () => {
  it('mirror.ts copies a set with what refers to it, and nothing twice', async () => {
    const source = await push('library/app', '1', fresh())
    await push('other', '2', fresh())
    const app = await source.resolve('1')
    const sbom = await attach(
      source,
      { type: 'text/plain', bytes: Buffer.from('x') },
      { artifactType: 'a/b', subject: app },
    )
    await using target = await createRegistryServer()
    const names = ['library/app:1', 'none:1', 'other:2']
    const first = await example(directory, 'mirror.ts', registry.host, target.host, ...names)
    expect(first.code).toBe(1)
    expect(first.text).toMatch(new RegExp(`^library/app:1: ${app.digest}, [1-9]\\d* bytes sent$`, 'm'))
    expect(first.text).toMatch(/^none:1: .*not found/m)
    const mirrored = openRepository(`${target.host}/library/app`, { credentials: anonymous })
    expect(await all(mirrored.referrers(app))).toMatchObject([{ digest: sbom.digest }])
    const second = await example(directory, 'mirror.ts', registry.host, target.host, 'library/app:1', 'other:2')
    expect(second.code).toBe(0)
    expect(second.text.match(/, 0 bytes sent$/gm)).toHaveLength(2)
  })

  it('sbom.ts attaches a file, and lists it', async () => {
    const repository = await push('app', '1', fresh())
    const file = join(directory, 'sbom.json')
    writeFileSync(file, '{"spdxVersion":"SPDX-2.3"}')
    const name = `${registry.host}/app:1`
    const attached = await example(directory, 'sbom.ts', 'attach', name, file)
    expect(attached).toMatchObject({ code: 0, text: expect.stringMatching(/^sha256:[0-9a-f]{64}\n$/) })
    const listed = await example(directory, 'sbom.ts', 'list', name)
    expect(listed.text).toMatch(new RegExp(`^${attached.text.trim()} application/spdx\\+json 20`))
    expect(await all(repository.referrers(await repository.resolve('1')))).toHaveLength(1)
  })

  it('delete-old-tags.ts keeps the newest, and what they name', async () => {
    const days = ['05', '01', '03', '02', '04']
    const made = days.map((day) => fresh(`2026-01-${day}T00:00:00Z`))
    for (const [index, day] of days.entries()) await push('nightly', `d${day}`, made[index] as TestImage)
    const repository = repositoryOf('nightly')
    await repository.tag(await repository.resolve('d01'), 'same')
    const name = `${registry.host}/nightly`
    const dry = await example(directory, 'delete-old-tags.ts', name, '3')
    expect(dry.text.split('\n').map((line) => line.split(' ')[0])).toEqual(['d02', 'd01', 'same', ''])
    expect(await all(repository.tags())).toHaveLength(6)
    expect((await example(directory, 'delete-old-tags.ts', name, '3', '--yes')).code).toBe(0)
    expect(await all(repository.tags())).toEqual(['d03', 'd04', 'd05'])
  })
})
