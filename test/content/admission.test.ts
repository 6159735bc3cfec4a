import { describe, expect, it } from 'vitest'
import { type CopyCandidate, copy } from '../../src/content/copy.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { AdmissionError, DigestMismatchError, LimitError, NotFoundError, UnsupportedError } from '../../src/errors.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { parsePlatform } from '../../src/image/platform.ts'
import { put, putImage, putIndex, RecordingStore } from './support.ts'

const type = 'application/vnd.example.signature'

/** An index `x` of two images; a signature refers to it. */
async function signedIndex() {
  const store = new RecordingStore()
  const images = [
    await putImage(store, { platform: 'linux/amd64', inIndex: true }),
    await putImage(store, { platform: 'linux/arm64', inIndex: true }),
  ]
  const index = await putIndex(
    store,
    images.map(({ manifest }) => manifest),
  )
  await store.tag(index, 'x')
  const statement = await put(store, type, Buffer.from('signed'))
  const empty = await put(store, mediaType.emptyJson, {})
  const signature = await put(store, mediaType.ociManifest, {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    artifactType: type,
    config: empty,
    layers: [statement],
    subject: index,
  })
  await store.tag(signature, 'x.sig')
  return { store, index, images, signature, statement }
}

/** What a copy is refused with. */
async function refusal(copying: Promise<unknown>): Promise<AdmissionError> {
  const error: unknown = await copying.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(AdmissionError)
  return error as AdmissionError
}

describe('copy with admit', () => {
  it('shows what was named, what is copied, and what refers to it', async () => {
    const { store, index, images, signature, statement } = await signedIndex()
    const target = new MemoryStore()
    let candidate: CopyCandidate | undefined
    const copied = await copy(store, 'x', target, {
      platform: parsePlatform('linux/arm64'),
      async admit(asked) {
        candidate = asked
        expect(await target.exists(asked.root)).toBe(false)
        const found = []
        for await (const each of asked.referrers(asked.named, type)) found.push(each.digest)
        expect(found).toEqual([signature.digest])
        expect(await asked.resolve('x.sig')).toMatchObject({ digest: signature.digest })
        expect(Buffer.from(await asked.read(statement)).toString()).toBe('signed')
      },
    })
    expect(copied.digest).toBe(images[1]?.manifest.digest)
    expect(candidate).toMatchObject({ reference: 'x', named: { digest: index.digest }, root: copied })
    expect(JSON.parse(Buffer.from(candidate?.raw ?? []).toString())).toMatchObject({ schemaVersion: 2 })
  })

  it('that throws or rejects writes nothing, and says why', async () => {
    const { store, images } = await signedIndex()
    const target = new RecordingStore()
    const reason = new Error('nobody has signed it')
    for (const admit of [
      () => Promise.reject(reason),
      () => {
        throw reason
      },
    ]) {
      const error = await refusal(copy(store, 'x', target, { platform: parsePlatform('linux/amd64'), admit }))
      expect(error).toMatchObject({ code: 'ERR_OCI_ADMISSION', subject: 'x', digest: images[0]?.manifest.digest })
      expect(error.cause).toBe(reason)
      expect(error.message).toContain('nobody has signed it')
    }
    expect(target.pushed).toEqual([])
    await expect(target.resolve('x')).rejects.toThrow(NotFoundError)
  })

  it('may refuse with an AdmissionError of its own', async () => {
    const { store } = await signedIndex()
    const own = new AdmissionError('x', 'sha256:0', { hint: 'Ask for it.' })
    const admit = () => Promise.reject(own)
    expect(await refusal(copy(store, 'x', new MemoryStore(), { admit }))).toBe(own)
  })

  it('rejects with the reason of an abort, whatever the policy says then', async () => {
    const { store } = await signedIndex()
    const controller = new AbortController()
    const reason = new Error('enough')
    const copying = copy(store, 'x', new MemoryStore(), {
      signal: controller.signal,
      async admit({ signal }) {
        controller.abort(reason)
        expect(signal.aborted).toBe(true)
        throw new Error('interrupted')
      },
    })
    await expect(copying).rejects.toBe(reason)
  })

  it('reads only what is verified, within its limit', async () => {
    const { store, statement } = await signedIndex()
    const target = new MemoryStore()
    const wrong = { ...statement, digest: `sha256:${'0'.repeat(64)}` as const }
    const forged = Object.assign(Object.create(store), {
      fetch: (descriptor: typeof wrong, options: object) =>
        store.fetch(descriptor.digest === wrong.digest ? statement : descriptor, options),
      resolve: (reference: string) => store.resolve(reference),
      referrers: undefined,
    }) as MemoryStore
    const causes: unknown[] = []
    for (const read of [
      (candidate: CopyCandidate) => candidate.read(wrong),
      (candidate: CopyCandidate) => candidate.read(statement, 5),
      async (candidate: CopyCandidate) => candidate.referrers(candidate.root),
    ]) {
      const admit = async (candidate: CopyCandidate): Promise<void> => void (await read(candidate))
      causes.push((await refusal(copy(forged, 'x', target, { admit }))).cause)
    }
    expect(causes).toEqual([expect.any(DigestMismatchError), expect.any(LimitError), expect.any(UnsupportedError)])
  })
})
