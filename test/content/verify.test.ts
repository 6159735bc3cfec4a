import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { PassThrough, Readable, Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import { describe, expect, it } from 'vitest'
import type { Fetcher } from '../../src/content/interfaces.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { collect, readAll, verified } from '../../src/content/verify.ts'
import { DigestMismatchError, LimitError, SizeMismatchError } from '../../src/errors.ts'
import { type Descriptor, descriptorOf } from '../../src/image/descriptor.ts'
import { inPieces } from './support.ts'

const bytes = randomBytes(300_000)
const descriptor = descriptorOf('a/b', bytes)

/** Reads a stream to its end or error; what came, and whether `end` did. */
async function drain(stream: Readable): Promise<{ bytes: number; ended: boolean; error: unknown }> {
  let seen = 0
  let ended = false
  stream.on('data', (chunk: Buffer) => {
    seen += chunk.byteLength
  })
  stream.on('end', () => {
    ended = true
  })
  const error = await finished(stream).catch((e: unknown) => e)
  return { bytes: seen, ended, error }
}

describe('verified', () => {
  it.each([1, 1000, 65_536, 300_000])('passes good content on, in pieces of %d bytes', async (size) => {
    const pieces = size === 1 ? inPieces(bytes.subarray(0, 100), 1) : inPieces(bytes, size)
    const expected = size === 1 ? bytes.subarray(0, 100) : bytes
    expect(await collect(verified(descriptorOf('a/b', expected), pieces))).toEqual(Buffer.from(expected))
  })

  it('passes no content on', async () => {
    expect(await collect(verified(descriptorOf('a/b', Buffer.alloc(0)), Readable.from([])))).toHaveLength(0)
  })

  it('errors before the end when the digest is wrong', async () => {
    const other = { ...descriptor, digest: descriptorOf('a/b', Buffer.from('x')).digest }
    const result = await drain(verified(other, inPieces(bytes, 65_536)))
    expect(result).toMatchObject({
      ended: false,
      error: { code: 'ERR_OCI_DIGEST_MISMATCH', actual: descriptor.digest },
    })
    expect(result.error).toBeInstanceOf(DigestMismatchError)
  })

  it('errors before the end when content is missing', async () => {
    const result = await drain(verified(descriptor, inPieces(bytes.subarray(0, 200_000), 65_536)))
    expect(result).toMatchObject({ bytes: 200_000, ended: false, error: { expected: 300_000, actual: 200_000 } })
    expect(result.error).toBeInstanceOf(SizeMismatchError)
  })

  it('gives no byte beyond the size, and stops an endless source', async () => {
    let made = 0
    const endless = new Readable({
      read() {
        made += 65_536
        this.push(Buffer.alloc(65_536))
      },
    })
    const result = await drain(verified({ ...descriptor, size: 100_000 }, endless))
    expect(result.error).toBeInstanceOf(SizeMismatchError)
    expect(result.bytes).toBeLessThanOrEqual(100_000)
    expect(endless.destroyed).toBe(true)
    expect(made).toBeLessThan(1_000_000)
  })

  it('checks the size before the digest', async () => {
    const other: Descriptor = { ...descriptor, digest: `sha256:${'0'.repeat(64)}`, size: 10 }
    await expect(collect(verified(other, inPieces(bytes, 65_536)))).rejects.toBeInstanceOf(SizeMismatchError)
  })

  it('checks only the size where the algorithm is unknown', async () => {
    const unknown: Descriptor = { ...descriptor, digest: 'future:AAAA' }
    expect(await collect(verified(unknown, inPieces(bytes, 65_536)))).toHaveLength(300_000)
    const short = verified({ ...unknown, size: 300_001 }, inPieces(bytes, 65_536))
    await expect(collect(short)).rejects.toBeInstanceOf(SizeMismatchError)
  })

  it('passes an error of the source on', async () => {
    const cause = new Error('connection lost')
    const source = new PassThrough()
    const stream = verified(descriptor, source)
    source.write('abc')
    source.destroy(cause)
    expect((await drain(stream)).error).toBe(cause)
  })

  it('takes a source that is closed early for missing content', async () => {
    const source = new PassThrough()
    const stream = verified(descriptor, source)
    source.write('abc')
    setImmediate(() => source.destroy())
    expect((await drain(stream)).error).toBeInstanceOf(SizeMismatchError)
    const gone = new PassThrough()
    gone.destroy()
    await expect(collect(verified(descriptor, gone))).rejects.toBeInstanceOf(SizeMismatchError)
  })

  it('destroys the source when it is destroyed', async () => {
    const source = new PassThrough()
    const stream = verified(descriptor, source)
    stream.destroy()
    await once(source, 'close')
    expect(source.destroyed).toBe(true)
  })

  it('holds a fast source back', async () => {
    let made = 0
    const source = new Readable({
      read() {
        made += 65_536
        this.push(made > 64 * 65_536 ? null : Buffer.alloc(65_536))
      },
    })
    const zeros = Buffer.alloc(64 * 65_536)
    const stream = verified(descriptorOf('a/b', zeros), source)
    await once(stream, 'readable')
    await new Promise((resolve) => setImmediate(resolve))
    expect(made).toBeLessThan(10 * 65_536)
    await pipeline(stream, new Writable({ write: (_chunk, _encoding, done) => done() }))
    expect(made).toBe(65 * 65_536)
  })

  it('ends with the reason of an abort, and leaves no listener', async () => {
    const controller = new AbortController()
    const source = new PassThrough()
    const stream = verified(descriptor, source, { signal: controller.signal })
    const reason = new Error('enough')
    controller.abort(reason)
    expect((await drain(stream)).error).toBe(reason)
    expect(source.destroyed).toBe(true)
    const late = verified(descriptor, new PassThrough(), { signal: controller.signal })
    await expect(collect(late)).rejects.toBe(reason)
  })

  it('does not hash the same content twice', () => {
    const stream = verified(descriptor, inPieces(bytes, 65_536))
    expect(verified(descriptor, stream)).toBe(stream)
    expect(verified({ ...descriptor, size: 1 }, stream)).not.toBe(stream)
    const controller = new AbortController()
    expect(verified(descriptor, stream, { signal: controller.signal })).toBe(stream)
    controller.abort()
    expect(stream.destroyed).toBe(true)
  })

  it('ends when whoever counts the bytes throws', async () => {
    const failure = new Error('listener')
    const stream = verified(descriptor, inPieces(bytes, 65_536), {
      onBytes: () => {
        throw failure
      },
    })
    await expect(collect(stream)).rejects.toBe(failure)
  })
})

describe('readAll', () => {
  it('reads content of a store', async () => {
    const store = new MemoryStore()
    await store.push(descriptor, bytes)
    expect(await readAll(store, descriptor, 300_000)).toEqual(bytes)
  })

  it('asks for nothing when the content is larger than the limit', async () => {
    const never: Fetcher = { fetch: () => Promise.reject(new Error('it was asked')) }
    await expect(readAll(never, descriptor, 299_999)).rejects.toBeInstanceOf(LimitError)
  })

  it('takes what the descriptor carries, verified', async () => {
    const never: Fetcher = { fetch: () => Promise.reject(new Error('it was asked')) }
    const small = descriptorOf('a/b', Buffer.from('{}'))
    expect(await readAll(never, { ...small, data: 'e30=' }, 10)).toEqual(Buffer.from('{}'))
    await expect(readAll(never, { ...small, data: 'e1s=' }, 10)).rejects.toBeInstanceOf(DigestMismatchError)
  })

  it('leaves no listener at the signal', async () => {
    const store = new MemoryStore()
    await store.push(descriptor, bytes)
    const { signal } = new AbortController()
    let listeners = 0
    const { addEventListener, removeEventListener } = signal
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners++
      addEventListener.apply(signal, args)
    }
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners--
      removeEventListener.apply(signal, args)
    }
    await readAll(store, descriptor, 300_000, { signal })
    await new Promise((resolve) => setImmediate(resolve))
    expect(listeners).toBe(0)
  })
})
