import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Descriptor, descriptorOf } from '../../../src/image/descriptor.ts'
import { mediaType } from '../../../src/image/media-type.ts'

/** Runs a program; its output is returned, and part of the error when it fails. */
export const run: (file: string, args: readonly string[]) => Promise<unknown> = promisify(execFile)

/** A directory below the system's temporary one, which goes when it is disposed of. */
export async function temporaryDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'oci-ts-distribution-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Content with its descriptor. */
export interface Content {
  readonly descriptor: Descriptor
  readonly bytes: Uint8Array
}

/** Content of a media type. */
export function content(type: string, bytes: Uint8Array | string): Content {
  const raw = typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes
  return { descriptor: descriptorOf(type, raw), bytes: raw }
}

/** A layer of random bytes. Registries do not look inside. */
export function randomLayer(size: number): Content {
  return content(mediaType.ociLayer, randomBytes(size))
}

/** An image of some layers: its config, and a manifest with everything in it. */
export function image(...layers: readonly Content[]): { readonly config: Content; readonly manifest: Content } {
  const diffIds = layers.map((layer) => layer.descriptor.digest)
  const config = content(
    mediaType.ociConfig,
    JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } }),
  )
  const manifest = content(
    mediaType.ociManifest,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaType.ociManifest,
      config: config.descriptor,
      layers: layers.map((layer) => layer.descriptor),
    }),
  )
  return { config, manifest }
}

/** A layout with an image `1` of two layers, made by umoci. */
export async function umociLayout(directory: string): Promise<string> {
  const layout = join(directory, 'layout')
  await run('umoci', ['init', '--layout', layout])
  await run('umoci', ['new', '--image', `${layout}:1`])
  for (const name of ['a', 'b']) {
    const file = join(directory, name)
    await writeFile(file, randomBytes(100_000))
    await run('umoci', ['insert', '--rootless', '--image', `${layout}:1`, file, `/${name}`])
  }
  return layout
}

/** Everything that an async iterable gives. */
export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}
