import { createHash, createPublicKey } from 'node:crypto'
import { bundleFromJSON, toMessageSignatureBundle } from '@sigstore/bundle'
import { toSignedEntity, Verifier } from '@sigstore/verify'
import { type Admission, type CopyCandidate, NotFoundError } from 'oci-ts'
import { type Descriptor, parseManifest } from 'oci-ts/image'

const payloadType = 'application/vnd.dev.cosign.simplesigning.v1+json'
const bundleType = 'application/vnd.dev.sigstore.bundle.v0.3+json'
const signaturePredicate = 'https://sigstore.dev/cosign/sign/v1'

/** A signature as it was found. Nothing in it has been verified but its digest. */
interface Found {
  readonly content: Uint8Array
  /** Of the older form: the signature of the content. */
  readonly signature?: Buffer
}

/**
 * Admits only images that cosign has signed with the private half of a key, in PEM. The signature may be of
 * the image or of the index that it comes from, and where either version of cosign puts it: an artifact that
 * refers to it, or the tag `sha256-….sig`. Of transparency logs it asks nothing: with a key they prove when,
 * not who. For signatures without a key ("keyless"), give `Verifier` sigstore's trusted root and an identity.
 */
export function signedBy(pem: string): Admission {
  const publicKey = createPublicKey(pem)
  const trusted = {
    certificateAuthorities: [],
    timestampAuthorities: [],
    tlogs: [],
    ctlogs: [],
    publicKey: () => ({ publicKey, validFor: () => true }),
  }
  const verifier = new Verifier(trusted, { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 })
  return async (candidate) => {
    const reasons: string[] = []
    for (const subject of [candidate.named, candidate.root]) {
      for await (const found of signatures(candidate, subject)) {
        try {
          const signed = found.signature === undefined ? verifyBundle(found, verifier) : verifyPayload(found, verifier)
          if (signed.includes(subject.digest)) return
          reasons.push(`a signature is of ${signed.join(', ')}`)
        } catch (error) {
          reasons.push(error instanceof Error ? error.message : String(error))
        }
      }
    }
    throw new Error(reasons.length === 0 ? 'it is not signed' : `no signature is good: ${reasons.join('; ')}`)
  }
}

/** Every signature that is found of an image. */
async function* signatures(candidate: CopyCandidate, subject: Descriptor): AsyncGenerator<Found, void, undefined> {
  for await (const referrer of candidate.referrers(subject, bundleType)) {
    for (const layer of await layersOf(candidate, referrer)) yield { content: await candidate.read(layer) }
  }
  const tag = `${subject.digest.replace(':', '-')}.sig`
  const tagged = await candidate.resolve(tag).catch((error: unknown) => {
    if (error instanceof NotFoundError) return undefined
    throw error
  })
  for (const layer of tagged === undefined ? [] : await layersOf(candidate, tagged)) {
    const signature = layer.annotations?.['dev.cosignproject.cosign/signature']
    if (layer.mediaType !== payloadType || signature === undefined) continue
    yield { content: await candidate.read(layer), signature: Buffer.from(signature, 'base64') }
  }
}

async function layersOf(candidate: CopyCandidate, descriptor: Descriptor): Promise<readonly Descriptor[]> {
  return parseManifest(await candidate.read(descriptor), descriptor.mediaType).value.layers
}

/** As cosign 3 signs: a sigstore bundle around an in-toto statement. Returns the digests that it is about. */
function verifyBundle({ content }: Found, verifier: Verifier): readonly string[] {
  const bundle = bundleFromJSON(JSON.parse(Buffer.from(content).toString()))
  if (bundle.content.$case !== 'dsseEnvelope') throw new Error('the bundle is no statement about an image')
  bundle.verificationMaterial.tlogEntries = []
  verifier.verify(toSignedEntity(bundle))
  const { predicateType, subject } = JSON.parse(bundle.content.dsseEnvelope.payload.toString())
  if (predicateType !== signaturePredicate) throw new Error(`it is no signature but ${predicateType}`)
  return subject.map(({ digest }: { readonly digest: { readonly sha256?: string } }) => `sha256:${digest.sha256}`)
}

/** As cosign 1 and 2 sign: a payload with the signature beside it. Returns the digest that it is about. */
function verifyPayload({ content, signature = Buffer.alloc(0) }: Found, verifier: Verifier): readonly string[] {
  const bundle = toMessageSignatureBundle({ digest: createHash('sha256').update(content).digest(), signature })
  verifier.verify(toSignedEntity(bundle, Buffer.from(content)))
  const { critical } = JSON.parse(Buffer.from(content).toString())
  if (critical.type !== 'cosign container image signature') throw new Error(`it is no signature but ${critical.type}`)
  return [critical.image['docker-manifest-digest']]
}
