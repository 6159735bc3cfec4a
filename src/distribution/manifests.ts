import type { Readable } from 'node:stream'
import { collect, verified } from '../content/verify.ts'
import { DigestMismatchError, InvalidArgumentError, LimitError } from '../errors.ts'
import { type Descriptor, verifyBytes } from '../image/descriptor.ts'
import {
  type Digest,
  type DigestAlgorithm,
  digestAlgorithm,
  digestOf,
  isDigest,
  isVerifiable,
} from '../image/digest.ts'
import { parseManifestOrIndex } from '../image/manifest.ts'
import { isIndexType, isManifestType, isSchema1Type, mediaType, mediaTypeEssence } from '../image/media-type.ts'
import { assertReference, type Endpoint, type EndpointRequest, isTag, send, subjectOf } from './endpoint.ts'
import { contentLength, readBody } from './response.ts'
import type { HttpResponse } from './transport.ts'

/** Types that are asked for, the preferred ones first. */
const acceptedTypes = [mediaType.ociIndex, mediaType.ociManifest, mediaType.dockerIndex, mediaType.dockerManifest]

/** Whether a server's `Content-Type` says nothing about a manifest, which is some kind of JSON: then its content decides. */
function isVague(type: string): boolean {
  return type === 'application/json' || !/(?:json|jws)$/.test(type)
}

/** Whether content is found below `manifests/` rather than `blobs/`: by its type, or because it has been found there. */
export function isManifest({ manifests }: Endpoint, { mediaType: type, digest }: Descriptor): boolean {
  return isManifestType(type) || isIndexType(type) || isSchema1Type(type) || manifests.isNoted(digest)
}

/** Value of `Accept` for manifests, with one more type where a descriptor names it. */
export function acceptHeader(type?: string): Readonly<Record<string, string>> {
  const types = type === undefined || acceptedTypes.some((t) => t === type) ? acceptedTypes : [type, ...acceptedTypes]
  return { accept: types.join(', ') }
}

/**
 * Finds what a tag or digest names: by HEAD, or by GET where the answer to HEAD does not tell
 * everything. What GET returns is hashed, and kept for the fetch that follows.
 */
export async function resolveManifest(
  endpoint: Endpoint,
  reference: string,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  assertReference(reference)
  const request = manifestRequest(reference, signal)
  // Some registries refuse HEAD; others answer it with less than GET. Neither says anything about the manifest.
  const head = await send(endpoint, { ...request, method: 'HEAD', accept: [200, 400, 403, 405, 406, 501] })
  head.discard()
  const descriptor = head.status === 200 ? describeHead(endpoint, reference, head) : undefined
  const found = descriptor ?? (await getManifest(endpoint, reference, signal))
  endpoint.manifests.note(found.digest)
  return found
}

function manifestRequest(
  reference: string,
  signal: AbortSignal | undefined,
): Omit<EndpointRequest, 'method' | 'accept'> {
  return { path: `manifests/${reference}`, reference, actions: ['pull'], headers: acceptHeader(), signal }
}

async function getManifest(
  endpoint: Endpoint,
  reference: string,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  const request = manifestRequest(reference, signal)
  const response = await send(endpoint, { ...request, method: 'GET', accept: [200] })
  const subject = `manifest ${subjectOf(endpoint, reference)}`
  const bytes = await readBody(response, endpoint.maxManifestSize, subject, signal)
  return describeBody(endpoint, reference, response, bytes)
}

/** What an answer to HEAD says of a manifest; undefined when a part is missing. */
function describeHead(endpoint: Endpoint, reference: string, head: HttpResponse): Descriptor | undefined {
  const type = mediaTypeEssence(head.headers.get('content-type') ?? '')
  const size = contentLength(head)
  const digest = announcedDigest(head)
  if (isVague(type) || size === undefined || size === 0 || digest === undefined) return undefined
  if (size > endpoint.maxManifestSize) {
    throw new LimitError(`manifest ${subjectOf(endpoint, reference)}`, endpoint.maxManifestSize, 'bytes')
  }
  if (!isDigest(reference)) return { mediaType: type, digest, size }
  assertSameDigest(reference, digest)
  return { mediaType: type, digest: reference, size }
}

function describeBody(endpoint: Endpoint, reference: string, response: HttpResponse, bytes: Uint8Array): Descriptor {
  const announced = announcedDigest(response)
  const known = isDigest(reference) ? reference : announced
  const actual = digestLike(bytes, known)
  for (const expected of [known, announced]) if (expected !== undefined) assertSameDigest(expected, actual)
  const digest = isDigest(reference) ? reference : actual
  const stated = mediaTypeEssence(response.headers.get('content-type') ?? '')
  const type = isVague(stated) ? parseManifestOrIndex(bytes).mediaType : stated
  if (isVerifiable(digest)) endpoint.manifests.set(digest, bytes)
  return { mediaType: type, digest, size: bytes.byteLength }
}

/** The digest of bytes by the algorithm of another digest, where that can be computed; else by sha256. */
export function digestLike(bytes: Uint8Array, other: Digest | undefined): Digest {
  const known = other !== undefined && isVerifiable(other)
  return digestOf(bytes, known ? (digestAlgorithm(other) as DigestAlgorithm) : 'sha256')
}

/** `Docker-Content-Digest`, which older registries leave out. */
export function announcedDigest(response: HttpResponse): Digest | undefined {
  const header = response.headers.get('docker-content-digest')?.trim() ?? ''
  return isDigest(header) ? header : undefined
}

/** Digests of different algorithms can't be compared, and say nothing about each other. */
function assertSameDigest(expected: Digest, actual: Digest): void {
  if (digestAlgorithm(expected) === digestAlgorithm(actual) && expected !== actual) {
    throw new DigestMismatchError(expected, actual)
  }
}

/** @throws DigestMismatchError when a registry says that it has stored something else. */
export function assertStored(response: HttpResponse, digest: Digest): void {
  const stored = announcedDigest(response)
  if (stored !== undefined) assertSameDigest(digest, stored)
}

/** @throws InvalidArgumentError when `reference` can't be given to a manifest. */
export function assertTag(reference: string): void {
  if (!isTag(reference))
    throw new InvalidArgumentError(`${JSON.stringify(reference)} is not a tag`, { subject: reference })
}

/**
 * A manifest to be pushed, in memory; verified.
 * @throws LimitError before anything is read when its descriptor says that it is too large.
 */
export async function readManifest(
  endpoint: Endpoint,
  descriptor: Descriptor,
  content: Readable | Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const { digest, size } = descriptor
  if (size > endpoint.maxManifestSize) throw new LimitError(`manifest ${digest}`, endpoint.maxManifestSize, 'bytes')
  if (!(content instanceof Uint8Array)) return collect(verified(descriptor, content, { signal }))
  verifyBytes(descriptor, content)
  return content
}
