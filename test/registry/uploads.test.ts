import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { digestOf } from '../../src/image/digest.ts'
import { createRegistryHandler, memoryStorage } from '../../src/registry/index.ts'
import { Client, errorCode, type Place, storages } from './support.ts'

describe.each(storages)('uploads to $kind storage', ({ open }) => {
  let place: Place
  let client: Client

  beforeAll(async () => {
    place = await open()
    client = new Client(createRegistryHandler({ storage: place.storage }))
  })
  afterAll(() => place.remove())

  it('take a blob in chunks, and tell how much arrived', async () => {
    const content = Buffer.from('0123456789')
    const upload = await client.begin('chunks')
    const first = await client.send('PATCH', upload, {
      body: content.subarray(0, 4),
      headers: { 'content-range': '0-3' },
    })
    expect(first.status).toBe(202)
    expect(first.headers.get('range')).toBe('0-3')
    const status = await client.send('GET', first.headers.get('location') ?? '')
    expect(status.status).toBe(204)
    expect(status.headers.get('range')).toBe('0-3')
    const second = await client.send('PATCH', upload, {
      body: content.subarray(4, 8),
      headers: { 'content-range': '4-7' },
    })
    expect(second.headers.get('range')).toBe('0-7')
    const last = await client.send('PUT', `${upload}?digest=${digestOf(content)}`, {
      body: content.subarray(8),
      headers: { 'content-range': '8-9' },
    })
    expect(last.status).toBe(201)
    expect(await (await client.send('GET', last.headers.get('location') ?? '')).text()).toBe('0123456789')
  })

  it.each(['5-6', '0-1', '3-4'])(
    'answer a chunk at %s that is not next with 416, and go on afterwards',
    async (range) => {
      const upload = await client.begin('order')
      await client.send('PATCH', upload, { body: Buffer.from('abcd'), headers: { 'content-range': '0-3' } })
      const wrong = await client.send('PATCH', upload, { body: Buffer.from('xx'), headers: { 'content-range': range } })
      expect(wrong.status).toBe(416)
      expect(wrong.headers.get('range')).toBe('0-3')
      await client.send('PATCH', upload, { body: Buffer.from('ef'), headers: { 'content-range': '4-5' } })
      const end = await client.send('PUT', `${upload}?digest=${digestOf(Buffer.from('abcdef'))}`)
      expect(end.status).toBe(201)
    },
  )

  it.each(['5', 'a-b', '3-1', '-1-2', '99999999999999999999-99999999999999999999'])(
    'refuse the Content-Range %s',
    async (range) => {
      const upload = await client.begin('order')
      const response = await client.send('PATCH', upload, {
        body: Buffer.from('xx'),
        headers: { 'content-range': range },
      })
      expect(response.status).toBe(400)
      expect(await errorCode(response)).toBe('BLOB_UPLOAD_INVALID')
    },
  )

  it('refuse a chunk whose length and range contradict each other', async () => {
    const upload = await client.begin('order')
    const response = await client.send('PATCH', upload, {
      body: Buffer.from('abc'),
      headers: { 'content-range': '0-99' },
    })
    expect(response.status).toBe(400)
    expect(await errorCode(response)).toBe('SIZE_INVALID')
  })

  it('take a stream without any length', async () => {
    const content = randomBytes(1_500_000)
    const handler = createRegistryHandler({ storage: place.storage })
    const own = new Client(handler)
    const upload = await own.begin('stream')
    const chunks = [content.subarray(0, 10), content.subarray(10, 1_000_000), content.subarray(1_000_000)]
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const chunk = chunks.shift()
        if (chunk === undefined) controller.close()
        else controller.enqueue(chunk)
      },
    })
    const patch = await handler(new Request(`http://registry.test${upload}`, { method: 'PATCH', body, duplex: 'half' }))
    expect(patch.headers.get('range')).toBe('0-1499999')
    expect((await own.send('PUT', `${upload}?digest=${digestOf(content)}`)).status).toBe(201)
  })

  it('keep what arrived when the connection breaks', async () => {
    const handler = createRegistryHandler({ storage: place.storage })
    const own = new Client(handler)
    const upload = await own.begin('broken')
    let sent = false
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent) controller.error(new Error('gone'))
        else controller.enqueue(Buffer.from('half'))
        sent = true
      },
    })
    const patch = await handler(new Request(`http://registry.test${upload}`, { method: 'PATCH', body, duplex: 'half' }))
    expect(patch.status).toBe(400)
    expect((await own.send('GET', upload)).headers.get('range')).toBe('0-3')
    await own.send('PATCH', upload, { body: Buffer.from(' done'), headers: { 'content-range': '4-8' } })
    expect((await own.send('PUT', `${upload}?digest=${digestOf(Buffer.from('half done'))}`)).status).toBe(201)
  })

  it('may be finished by another algorithm than they began with', async () => {
    const content = Buffer.from('late sha512')
    const upload = await client.begin('late')
    await client.send('PATCH', upload, { body: content })
    const bad = digestOf(Buffer.from('other'), 'sha512')
    const good = digestOf(content, 'sha512')
    expect((await client.send('PUT', `${upload}?digest=${good}`)).status).toBe(201)
    const declared = await client.send('POST', '/v2/late/blobs/uploads/?digest-algorithm=sha512')
    const path = declared.headers.get('location') ?? ''
    await client.send('PATCH', path, { body: content })
    expect((await client.send('PUT', `${path}?digest=${bad}`)).status).toBe(400)
  })

  it('refuse an algorithm that nobody can compute', async () => {
    const response = await client.send('POST', '/v2/late/blobs/uploads/?digest-algorithm=md5')
    expect(response.status).toBe(400)
    expect(await errorCode(response)).toBe('DIGEST_INVALID')
  })

  it('are over when their digest was wrong', async () => {
    const upload = await client.begin('wrong')
    await client.send('PATCH', upload, { body: Buffer.from('evil') })
    const put = await client.send('PUT', `${upload}?digest=${digestOf(Buffer.from('good'))}`)
    expect(put.status).toBe(400)
    expect(await errorCode(put)).toBe('DIGEST_INVALID')
    expect((await client.send('GET', upload)).status).toBe(404)
  })

  it('are gone when they are cancelled', async () => {
    const upload = await client.begin('cancelled')
    expect((await client.send('DELETE', upload)).status).toBe(204)
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      const response = await client.send(method, upload, method === 'PATCH' ? { body: Buffer.from('x') } : {})
      expect(response.status).toBe(404)
      expect(await errorCode(response)).toBe('BLOB_UPLOAD_UNKNOWN')
    }
  })

  it('belong to one repository', async () => {
    const upload = await client.begin('owner')
    expect((await client.send('GET', upload.replace('/owner/', '/thief/'))).status).toBe(404)
    expect((await client.send('GET', upload)).status).toBe(204)
  })

  it.each(['0', '..', '%2e%2e%2f%2e%2e', 'c0ffee00-0000-4000-8000-000000000000', '*'])(
    'of the unknown id %s are unknown',
    async (id) => {
      const response = await client.send('PATCH', `/v2/owner/blobs/uploads/${id}`, { body: Buffer.from('x') })
      expect(response.status).toBeGreaterThanOrEqual(400)
      expect(response.status).toBeLessThan(500)
    },
  )

  it('are written by one request at a time', async () => {
    const handler = createRegistryHandler({ storage: place.storage })
    const own = new Client(handler)
    const upload = await own.begin('busy')
    let finish: (() => void) | undefined
    let reading: (() => void) | undefined
    const isReading = new Promise<void>((resolve) => {
      reading = resolve
    })
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          reading?.()
          return new Promise((resolve) => {
            finish = () => {
              controller.close()
              resolve()
            }
          })
        },
      },
      { highWaterMark: 0 },
    )
    const slow = handler(new Request(`http://registry.test${upload}`, { method: 'PATCH', body, duplex: 'half' }))
    await isReading
    expect((await own.send('PATCH', upload, { body: Buffer.from('x') })).status).toBe(409)
    const next = own.send('PATCH', upload, { body: Buffer.from('x') })
    await new Promise(setImmediate)
    finish?.()
    expect((await slow).status).toBe(202)
    expect((await next).status).toBe(202)
    expect((await own.send('PATCH', upload, { body: Buffer.from('x') })).status).toBe(202)
  })

  it('are bounded in number, and make room when they end', async () => {
    const own = new Client(createRegistryHandler({ storage: place.storage, maxUploads: 2 }))
    const first = await own.begin('bounded')
    await own.begin('bounded')
    const third = await own.send('POST', '/v2/bounded/blobs/uploads/')
    expect(third.status).toBe(429)
    expect(await errorCode(third)).toBe('TOOMANYREQUESTS')
    await own.send('DELETE', first)
    expect((await own.send('POST', '/v2/bounded/blobs/uploads/')).status).toBe(202)
  })

  it('end when nobody writes to them', async () => {
    const own = new Client(createRegistryHandler({ storage: place.storage, uploadTimeout: 50 }))
    const upload = await own.begin('idle')
    await vi.waitFor(async () => expect((await own.send('GET', upload)).status).toBe(404), { timeout: 10_000 })
  })

  it('are refused when they are larger than a blob may be', async () => {
    const own = new Client(createRegistryHandler({ storage: place.storage, maxBlobSize: 1000 }))
    const upload = await own.begin('large')
    const declared = await own.send('PATCH', upload, { body: new Uint8Array(1001) })
    expect(declared.status).toBe(413)
    expect((await own.send('PATCH', upload, { body: new Uint8Array(600) })).status).toBe(202)
    expect((await own.send('PATCH', upload, { body: new Uint8Array(600) })).status).toBe(413)
  })

  it('announce the smallest chunk when there is one', async () => {
    const own = new Client(createRegistryHandler({ storage: place.storage, chunkMinLength: '1m' }))
    const response = await own.send('POST', '/v2/chunks/blobs/uploads/')
    expect(response.headers.get('oci-chunk-min-length')).toBe('1048576')
  })
})

describe('memory storage', () => {
  it('answers with 507 beyond its bound, and has room again when something is deleted', async () => {
    const errors: unknown[] = []
    const client = new Client(
      createRegistryHandler({ storage: memoryStorage({ maxSize: 100_000 }), onError: (error) => errors.push(error) }),
    )
    const first = await client.push('full', randomBytes(60_000))
    const second = randomBytes(60_000)
    const path = `/v2/full/blobs/uploads/?digest=${digestOf(second)}`
    expect((await client.send('POST', path, { body: second })).status).toBe(507)
    expect(errors).toHaveLength(1)
    await client.send('DELETE', `/v2/full/blobs/${first}`)
    expect((await client.send('POST', path, { body: second })).status).toBe(201)
  })
})
