import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/image/digest.ts'
import { createRegistryHandler } from '../../src/registry/index.ts'
import { Client, errorCode, type Place, storages } from './support.ts'

describe.each(storages)('blobs in $kind storage', ({ open }) => {
  let place: Place
  let client: Client

  beforeAll(async () => {
    place = await open()
    client = new Client(createRegistryHandler({ storage: place.storage }))
  })
  afterAll(() => place.remove())

  it('come back as they were pushed', async () => {
    const content = randomBytes(700_000)
    const digest = await client.push('a/b', content)
    const response = await client.send('GET', `/v2/a/b/blobs/${digest}`)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-length')).toBe('700000')
    expect(response.headers.get('docker-content-digest')).toBe(digest)
    expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true)
  })

  it('may be empty', async () => {
    const digest = await client.push('a/b', new Uint8Array())
    const response = await client.send('GET', `/v2/a/b/blobs/${digest}`)
    expect(response.status).toBe(200)
    expect(await response.text()).toBe('')
  })

  it('have the same headers for HEAD as for GET, and no body', async () => {
    const digest = await client.push('a/b', Buffer.from('head'))
    const head = await client.send('HEAD', `/v2/a/b/blobs/${digest}`)
    const get = await client.send('GET', `/v2/a/b/blobs/${digest}`)
    expect(Object.fromEntries(head.headers)).toEqual(Object.fromEntries(get.headers))
    expect(head.body).toBeNull()
    await get.text()
  })

  it('are unknown where they were not pushed, also when another repository has them', async () => {
    const digest = await client.push('private/one', Buffer.from('mine'))
    const response = await client.send('GET', `/v2/private/two/blobs/${digest}`)
    expect(response.status).toBe(404)
    expect(await errorCode(response)).toBe('BLOB_UNKNOWN')
  })

  it('under sha512 are kept and checked like those under sha256', async () => {
    const content = Buffer.from('sha512')
    const digest = digestOf(content, 'sha512')
    const path = `/v2/a/b/blobs/uploads/?digest=${digest}`
    const bad = await client.send('POST', path, { body: Buffer.from('sha511') })
    expect(bad.status).toBe(400)
    expect((await client.send('POST', path, { body: content })).status).toBe(201)
    expect(await (await client.send('GET', `/v2/a/b/blobs/${digest}`)).text()).toBe('sha512')
  })

  it('are refused when they do not have their digest, and leave nothing', async () => {
    const digest = digestOf(Buffer.from('good'))
    const response = await client.send('POST', `/v2/a/b/blobs/uploads/?digest=${digest}`, { body: Buffer.from('evil') })
    expect(response.status).toBe(400)
    expect(await errorCode(response)).toBe('DIGEST_INVALID')
    expect((await client.send('HEAD', `/v2/a/b/blobs/${digest}`)).status).toBe(404)
  })

  it.each([
    ['bytes=2-5', 206, '2345', 'bytes 2-5/10'],
    ['bytes=7-', 206, '789', 'bytes 7-9/10'],
    ['bytes=-3', 206, '789', 'bytes 7-9/10'],
    ['bytes=-30', 206, '0123456789', 'bytes 0-9/10'],
    ['bytes=8-20', 206, '89', 'bytes 8-9/10'],
    ['bytes=0-0', 206, '0', 'bytes 0-0/10'],
    ['bytes=0-1,4-5', 200, '0123456789', null],
    ['chapters=1-2', 200, '0123456789', null],
    ['bytes=x-2', 200, '0123456789', null],
  ])('give what Range %s asks for', async (range, status, content, contentRange) => {
    const digest = await client.push('ranges', Buffer.from('0123456789'))
    const response = await client.send('GET', `/v2/ranges/blobs/${digest}`, { headers: { range } })
    expect(response.status).toBe(status)
    expect(response.headers.get('content-range')).toBe(contentRange)
    expect(response.headers.get('content-length')).toBe(String(content.length))
    expect(await response.text()).toBe(content)
  })

  it.each(['bytes=10-', 'bytes=99-100', 'bytes=-0', 'bytes=5-2', 'bytes=9999999999999999-'])(
    'answer Range %s with 416 and the size',
    async (range) => {
      const digest = await client.push('ranges', Buffer.from('0123456789'))
      const response = await client.send('GET', `/v2/ranges/blobs/${digest}`, { headers: { range } })
      expect(response.status).toBe(416)
      expect(response.headers.get('content-range')).toBe('bytes */10')
    },
  )

  it('are not sent again to a client that has them', async () => {
    const digest = await client.push('a/b', Buffer.from('cached'))
    const response = await client.send('GET', `/v2/a/b/blobs/${digest}`, {
      headers: { 'if-none-match': `"${digest}"` },
    })
    expect(response.status).toBe(304)
  })

  it('mount from the repository that has them, and stay when that one gives them up', async () => {
    const digest = await client.push('mount/source', Buffer.from('mounted'))
    const path = `/v2/mount/target/blobs/uploads/?mount=${digest}&from=mount/source`
    const response = await client.send('POST', path)
    expect(response.status).toBe(201)
    expect(response.headers.get('location')).toBe(`/v2/mount/target/blobs/${digest}`)
    await client.send('DELETE', `/v2/mount/source/blobs/${digest}`)
    expect((await client.send('GET', `/v2/mount/source/blobs/${digest}`)).status).toBe(404)
    expect(await (await client.send('GET', `/v2/mount/target/blobs/${digest}`)).text()).toBe('mounted')
  })

  it.each(['mount/nowhere', '../../etc', 'UPPER', ''])(
    'that %j does not have begin an upload instead of a mount',
    async (from) => {
      const digest = await client.push('mount/elsewhere', Buffer.from('not there'))
      const response = await client.send('POST', `/v2/mount/target/blobs/uploads/?mount=${digest}&from=${from}`)
      expect(response.status).toBe(202)
      expect(response.headers.get('location')).toMatch(/^\/v2\/mount\/target\/blobs\/uploads\/.+/)
      expect((await client.send('HEAD', `/v2/mount/target/blobs/${digest}`)).status).toBe(404)
    },
  )

  it('mount without a source only where that is allowed', async () => {
    const strict = new Client(createRegistryHandler({ storage: place.storage, anonymousMount: false }))
    const digest = await client.push('mount/source', randomBytes(20))
    const path = `/v2/mount/anonymous/blobs/uploads/?mount=${digest}`
    expect((await strict.send('POST', path)).status).toBe(202)
    expect((await client.send('POST', path)).status).toBe(201)
  })

  it('can be deleted, once', async () => {
    const digest = await client.push('a/b', Buffer.from('short-lived'))
    expect((await client.send('DELETE', `/v2/a/b/blobs/${digest}`)).status).toBe(202)
    expect((await client.send('DELETE', `/v2/a/b/blobs/${digest}`)).status).toBe(404)
    expect((await client.send('GET', `/v2/a/b/blobs/${digest}`)).status).toBe(404)
  })

  it('go on being read while they are deleted', async () => {
    const content = randomBytes(3_000_000)
    const digest = await client.push('a/b', content)
    const response = await client.send('GET', `/v2/a/b/blobs/${digest}`)
    await client.send('DELETE', `/v2/a/b/blobs/${digest}`)
    expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true)
  })

  it('survive being pushed by many at once', async () => {
    const content = randomBytes(100_000)
    await Promise.all(Array.from({ length: 20 }, (_, i) => client.push(`many/${i % 4}`, content)))
    const responses = await Promise.all(
      Array.from({ length: 4 }, (_, i) => client.send('GET', `/v2/many/${i}/blobs/${digestOf(content)}`)),
    )
    for (const response of responses) expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true)
  })
})
