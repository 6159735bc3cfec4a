import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { anonymous, openRepository, type Repository } from '../../src/distribution/index.ts'
import type { Descriptor } from '../../src/image/index.ts'
import { createRegistryServer, type RegistryServer } from '../../src/registry/index.ts'
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

/** Signs as cosign 3 does: a bundle of a statement about the image. */
async function signBundle(repository: Repository, subject: Descriptor, key: KeyObject, about = subject): Promise<void> {
  const statement = {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ digest: { sha256: about.digest.slice('sha256:'.length) } }],
    predicateType: 'https://sigstore.dev/cosign/sign/v1',
    predicate: {},
  }
  const payload = Buffer.from(JSON.stringify(statement))
  const payloadType = 'application/vnd.in-toto+json'
  const signed = Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.byteLength} ${payload}`)
  const bundle = {
    mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: { publicKey: { hint: '' }, tlogEntries: [] },
    dsseEnvelope: {
      payload: payload.toString('base64'),
      payloadType,
      signatures: [{ sig: sign('sha256', signed, key).toString('base64'), keyid: '' }],
    },
  }
  const layer = { type: bundle.mediaType, bytes: Buffer.from(JSON.stringify(bundle)) }
  await attach(repository, layer, { artifactType: bundle.mediaType, subject })
}

/** Signs as cosign 1 and 2 do: a payload under a tag that is named after the image. */
async function signTag(repository: Repository, { digest }: Descriptor, key: KeyObject): Promise<void> {
  const critical = {
    identity: { 'docker-reference': '' },
    image: { 'docker-manifest-digest': digest },
    type: 'cosign container image signature',
  }
  const bytes = Buffer.from(JSON.stringify({ critical, optional: null }))
  const annotations = { 'dev.cosignproject.cosign/signature': sign('sha256', bytes, key).toString('base64') }
  const type = 'application/vnd.dev.cosign.simplesigning.v1+json'
  const signature = await attach(repository, { type, bytes, annotations }, {})
  await repository.tag(signature, `${digest.replace(':', '-')}.sig`)
}

describe.skipIf(process.platform !== 'linux')('signature/pull-signed.ts (needs Linux: layers are unpacked)', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey

  /** Pushes an image, lets `prepare` sign it, and pulls it. */
  async function pullSigned(prepare: (repository: Repository, image: Descriptor) => Promise<void>) {
    const made = fresh()
    const repository = await push('app', '1', made)
    await prepare(repository, made.descriptor)
    const key = join(directory, 'cosign.pub')
    writeFileSync(key, publicKey.export({ type: 'spki', format: 'pem' }))
    const { code, text } = await example(directory, 'signature/pull-signed.ts', `${registry.host}/app:1`, key)
    const isStored = existsSync(join(directory, 'store/content/blobs/sha256', made.descriptor.digest.slice(7)))
    expect(isStored).toBe(code === 0)
    return { code, text }
  }

  it.each([
    ['a bundle that refers to it', signBundle],
    ['a tag', signTag],
  ] as const)('pulls what has been signed with the key, by %s', async (_, signWith) => {
    const { code, text } = await pullSigned((repository, made) => signWith(repository, made, privateKey))
    expect({ code, text }).toMatchObject({ code: 0, text: expect.stringMatching(/app:1@sha256:/) })
  })

  it.each([
    ['what nobody has signed', 'it is not signed', async () => {}],
    [
      'what another key has signed, in either way',
      'signature verification failed',
      async (repository: Repository, made: Descriptor) => {
        await signBundle(repository, made, other)
        await signTag(repository, made, other)
      },
    ],
    [
      'a signature of another image',
      'a signature is of sha256:0000',
      (repository: Repository, made: Descriptor) =>
        signBundle(repository, made, privateKey, { ...made, digest: `sha256:${'0'.repeat(64)}` }),
    ],
  ] as const)('refuses %s, and stores nothing', async (_, reason, prepare) => {
    const { code, text } = await pullSigned(prepare)
    expect(code).toBe(1)
    expect(text).toContain('is not admitted')
    expect(text).toContain(reason)
  })
})
