import { randomBytes } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { Arrivals } from '../../src/content/arrivals.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { collect } from '../../src/content/verify.ts'
import { ConflictError, DigestMismatchError, NetworkError, NotFoundError } from '../../src/errors.ts'
import { descriptorOf } from '../../src/image/descriptor.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { temporaryDirectory } from './support.ts'

const cleanups: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

async function newStore(): Promise<LayoutStore> {
  const { path, remove } = await temporaryDirectory()
  cleanups.push(remove)
  return LayoutStore.create(join(path, 'layout'), { sync: false })
}

const bytes = randomBytes(4_000_000)
const blob = descriptorOf(mediaType.ociLayer, bytes)

/** Reads at least `size` bytes of a stream that goes on. */
async function read(stream: Readable, size: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let total = 0
  while (total < size) {
    const chunk = stream.read() as Buffer | null
    if (chunk === null) await new Promise((resolve) => stream.once('readable', resolve))
    else total += chunks.push(chunk) && chunk.length
  }
  return Buffer.concat(chunks)
}

describe('content that arrives', () => {
  it('is read as far as it is there, and the stream ends when all of it is', async () => {
    const arrivals = new Arrivals(await newStore())
    const reader = await arrivals.fetch(blob)
    const source = new PassThrough()
    const received = arrivals.target.receive(blob, async () => source)
    source.write(bytes.subarray(0, 2_000_000))
    const first = await read(reader, 1_000_000)
    source.end(bytes.subarray(2_000_000))
    const rest = await collect(reader)
    await received
    expect(Buffer.concat([first, rest]).equals(bytes)).toBe(true)
  })

  it('is read by several, also by who comes when it is there', async () => {
    const arrivals = new Arrivals(await newStore())
    const early = [await arrivals.fetch(blob), await arrivals.fetch(blob)].map(collect)
    await arrivals.target.receive(blob, async () => Readable.from([bytes]))
    for (const content of [...early, collect(await arrivals.fetch(blob))]) {
      expect(bytes.equals(await content)).toBe(true)
    }
  })

  it('is read whole from the store where it is pushed, small, or there before', async () => {
    const store = await newStore()
    const small = Buffer.from('small')
    await store.push(descriptorOf('text/plain', small), small)
    const arrivals = new Arrivals(store)
    const pushed = collect(await arrivals.fetch(blob))
    const found = collect(await arrivals.fetch(descriptorOf('text/plain', small)))
    await arrivals.target.push(blob, bytes)
    expect(await arrivals.target.exists(descriptorOf('text/plain', small))).toBe(true)
    expect(bytes.equals(await pushed)).toBe(true)
    expect(small.equals(await found)).toBe(true)
  })

  it('never ends as if it were whole when its digest is wrong: whoever waits goes when he is told', async () => {
    const arrivals = new Arrivals(await newStore())
    const stop = new AbortController()
    const read = collect(await arrivals.fetch(blob, { signal: stop.signal }))
    const wrong = Buffer.from(bytes)
    wrong[100] = (wrong[100] as number) ^ 1
    await expect(arrivals.target.receive(blob, async () => Readable.from([wrong]))).rejects.toThrow(DigestMismatchError)
    const reason = new Error('over')
    stop.abort(reason)
    await expect(read).rejects.toBe(reason)
  })

  it('is not read on when it is fetched anew', async () => {
    const store = await newStore()
    const lost = new NetworkError('http://registry.test', 'the connection was closed')
    const wrong = new PassThrough()
    const broken = store.receive(blob, async () => wrong)
    wrong.write(Buffer.alloc(2_000_000))
    const ingest = join(store.path, 'ingest')
    const written = (): number => Math.max(...readdirSync(ingest).map((name) => statSync(join(ingest, name)).size))
    await expect.poll(written).toBe(2_000_000)
    wrong.destroy(lost)
    await expect(broken).rejects.toBe(lost)
    const arrivals = new Arrivals(store)
    const read = collect(await arrivals.fetch(blob))
    const refused = expect(read).rejects.toThrow(ConflictError)
    await arrivals.target.receive(blob, async (offset) => Readable.from([bytes.subarray(offset)]))
    await refused
    expect(bytes.equals(await collect(await arrivals.fetch(blob)))).toBe(true)
  })

  it('is looked for in the store when nothing more will arrive', async () => {
    const arrivals = new Arrivals(await newStore())
    const read = collect(await arrivals.fetch(blob))
    arrivals.over()
    await expect(read).rejects.toThrow(NotFoundError)
    await expect(collect(await arrivals.fetch(blob))).rejects.toThrow(NotFoundError)
  })
})
