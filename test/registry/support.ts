import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Digest, digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { diskStorage, memoryStorage, type RegistryHandler, type RegistryStorage } from '../../src/registry/index.ts'

/** A place for a registry's content, and its end. */
export interface Place {
  readonly storage: RegistryStorage
  remove(): Promise<void>
}

/** Each kind of storage, for `describe.each`. */
export const storages: readonly { readonly kind: string; readonly open: () => Promise<Place> }[] = [
  { kind: 'memory', open: async () => ({ storage: memoryStorage(), remove: async () => {} }) },
  {
    kind: 'disk',
    open: async () => {
      const directory = await temporaryDirectory()
      return { storage: diskStorage(directory.path), remove: directory.remove }
    },
  },
]

export async function temporaryDirectory(): Promise<{ readonly path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'oci-ts-registry-'))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

/** Talks to a handler as a client talks to a server. */
export class Client {
  readonly #handler: RegistryHandler

  constructor(handler: RegistryHandler) {
    this.#handler = handler
  }

  send(
    method: string,
    path: string,
    options: { headers?: Record<string, string>; body?: Uint8Array } = {},
  ): Promise<Response> {
    const { headers = {}, body } = options
    const length = body === undefined ? {} : { 'content-length': String(body.byteLength) }
    return this.#handler(
      new Request(`http://registry.test${path}`, {
        method,
        headers: { 'content-type': 'application/octet-stream', ...length, ...headers },
        ...(body === undefined ? {} : { body: Buffer.from(body) }),
      }),
    )
  }

  /** Pushes a blob in one request. */
  async push(repository: string, content: Uint8Array): Promise<Digest> {
    const digest = digestOf(content)
    const response = await this.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, { body: content })
    if (response.status !== 201) throw new Error(`push was answered with ${response.status}: ${await response.text()}`)
    return digest
  }

  /** Begins an upload; returns its path. */
  async begin(repository: string): Promise<string> {
    const response = await this.send('POST', `/v2/${repository}/blobs/uploads/`)
    return response.headers.get('location') ?? ''
  }

  putManifest(
    repository: string,
    reference: string,
    manifest: TestManifest,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    return this.send('PUT', `/v2/${repository}/manifests/${reference}`, {
      body: manifest.raw,
      headers: { 'content-type': manifest.mediaType, ...headers },
    })
  }

  /** Pushes an image of one layer. */
  async pushImage(
    repository: string,
    tag: string,
    extra: Readonly<Record<string, unknown>> = {},
  ): Promise<TestManifest> {
    const config = Buffer.from('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')
    const layer = randomBytes(100)
    await this.push(repository, config)
    await this.push(repository, layer)
    const manifest = imageManifest(config, layer, extra)
    const response = await this.putManifest(repository, tag, manifest)
    if (response.status !== 201) throw new Error(`put was answered with ${response.status}: ${await response.text()}`)
    return manifest
  }
}

export interface TestManifest {
  readonly raw: Buffer
  readonly digest: Digest
  readonly mediaType: string
}

export function imageManifest(
  config: Uint8Array,
  layer: Uint8Array,
  extra: Readonly<Record<string, unknown>> = {},
): TestManifest {
  return manifestOf(mediaType.ociManifest, {
    config: { mediaType: mediaType.ociConfig, digest: digestOf(config), size: config.byteLength },
    layers: [{ mediaType: mediaType.ociLayer, digest: digestOf(layer), size: layer.byteLength }],
    ...extra,
  })
}

export function manifestOf(type: string, members: Readonly<Record<string, unknown>>): TestManifest {
  const raw = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, ...members }, undefined, 2))
  return { raw, digest: digestOf(raw), mediaType: type }
}

/** Code of the first error in the body of a response. */
export async function errorCode(response: Response): Promise<string> {
  const body: { errors?: { code: string }[] } = JSON.parse(await response.text())
  return body.errors?.[0]?.code ?? ''
}
