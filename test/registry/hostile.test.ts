import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/image/digest.ts'
import { createRegistryHandler, diskStorage } from '../../src/registry/index.ts'
import { Client, imageManifest, temporaryDirectory } from './support.ts'

const content = Buffer.from('content')
const digest = digestOf(content)

const names = [
  '..',
  '%2e%2e',
  '%2e%2e%2f%2e%2e%2fescaped',
  'a%2f..%2f..%2fb',
  '..%5c..%5cb',
  '.hidden',
  'a/.b',
  '_blobs',
  'a/_tags',
  'UPPER',
  'a//b',
  '-a',
  'a-',
  'a___b',
  'a%00b',
  'a%0ab',
  'a b',
  'ä',
  'a'.repeat(256),
  '~root',
  '*',
]

const references = [
  '..',
  '%2e%2e%2f%2e%2e%2fescaped',
  '.',
  '.tag',
  '-tag',
  'a%00b',
  'a%2fb',
  'ä',
  'a'.repeat(129),
  'sha256:..',
  'sha256:%2e%2e%2f%2e%2e%2fetc',
  `sha256:${'A'.repeat(64)}`,
  `sha256:${'a'.repeat(63)}`,
  `../sha256:${'a'.repeat(64)}`,
  'a:b:c',
  ':',
  'md5:d41d8cd98f00b204e9800998ecf8427e',
]

describe('hostile names', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let root: string
  let client: Client

  beforeAll(async () => {
    directory = await temporaryDirectory()
    root = join(directory.path, 'registry')
    client = new Client(createRegistryHandler({ storage: diskStorage(root) }))
    await client.pushImage('good', 'v1')
  })
  afterAll(async () => {
    // Whatever was asked for, nothing was written beside the registry's own directories.
    expect(await readdir(directory.path)).toEqual(['registry'])
    expect((await readdir(root)).sort()).toEqual(['blobs', 'repositories', 'uploads'])
    expect(await readdir(join(root, 'repositories'))).toEqual(['good'])
    expect(await readdir(join(root, 'repositories', 'good', '_tags'))).toEqual(['v1'])
    expect(await readdir(join(root, 'uploads'))).toEqual([])
    expect(await readdir(dirname(directory.path))).not.toContain('escaped')
    await directory.remove()
  })

  it.each(names)('the repository %j is refused by every endpoint', async (name) => {
    const requests: readonly (readonly [string, string])[] = [
      ['GET', `/v2/${name}/manifests/v1`],
      ['PUT', `/v2/${name}/manifests/v1`],
      ['DELETE', `/v2/${name}/manifests/v1`],
      ['GET', `/v2/${name}/blobs/${digest}`],
      ['DELETE', `/v2/${name}/blobs/${digest}`],
      ['POST', `/v2/${name}/blobs/uploads/?digest=${digest}`],
      ['GET', `/v2/${name}/tags/list`],
      ['GET', `/v2/${name}/referrers/${digest}`],
    ]
    for (const [method, path] of requests) {
      const body = method === 'PUT' || method === 'POST' ? { body: content } : {}
      const { status } = await client.send(method, path, body)
      expect([400, 404, 405], `${method} ${path}`).toContain(status)
    }
  })

  it.each(references)('the reference %j is refused or unknown', async (reference) => {
    const manifest = imageManifest(content, content)
    expect([400, 404, 405]).toContain((await client.send('GET', `/v2/good/manifests/${reference}`)).status)
    expect([400, 404, 405]).toContain((await client.send('DELETE', `/v2/good/manifests/${reference}`)).status)
    expect([400, 404, 405]).toContain((await client.putManifest('good', reference, manifest)).status)
    expect([400, 404, 405]).toContain((await client.send('GET', `/v2/good/blobs/${reference}`)).status)
    expect([400, 404, 405]).toContain((await client.send('DELETE', `/v2/good/blobs/${reference}`)).status)
    const upload = await client.send('POST', `/v2/good/blobs/uploads/?digest=${reference}`, { body: content })
    expect([400, 404]).toContain(upload.status)
    const mount = await client.send('POST', `/v2/good/blobs/uploads/?mount=${reference}&from=good`)
    expect(mount.status).toBe(202)
    await client.send('DELETE', mount.headers.get('location') ?? '')
  })

  it.each([
    '/',
    '/v1/',
    '/v2',
    '/v2/',
    '/v2/x',
    '/v2/x/',
    '//v2/',
    '/v2/x/blobs',
    '/v2/x/tags',
    '/v2/_catalog/x',
    '/v2/..',
    '/etc/passwd',
  ])('the path %s gets an answer that is no 5xx', async (path) => {
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'STRANGE']) {
      expect((await client.send(method, path)).status).toBeLessThan(500)
    }
  })
})
