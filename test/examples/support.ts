import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Repository } from '../../src/distribution/index.ts'
import { type Descriptor, descriptorOf, mediaType } from '../../src/image/index.ts'
import { tar } from '../layer/support/tar.ts'
import { image, type TestImage } from '../store/support/image.ts'

/** The checkout. */
export const root: string = fileURLToPath(new URL('../..', import.meta.url))

/** Runs an example, with its store and its home below `directory`; the test's own servers answer meanwhile. */
export function example(
  directory: string,
  path: string,
  ...args: readonly string[]
): Promise<{ readonly code: number | null; readonly text: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', join('examples', path), ...args], {
    cwd: root,
    env: { PATH: process.env.PATH, HOME: directory, OCI_TS_ROOT: join(directory, 'store') },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, text }))
  })
}

let count = 0

/** An image that nobody has seen yet, made on this day. */
export function fresh(created = '2026-01-01T00:00:00Z'): TestImage {
  count += 1
  return image([tar({ name: 'file', content: `${count}` })], {}, { created })
}

/** A layer to be attached to something. */
export interface AttachedLayer {
  readonly type: string
  readonly bytes: Buffer
  readonly annotations?: Record<string, string>
}

/** Pushes a manifest of one layer. */
export async function attach(
  repository: Repository,
  layer: AttachedLayer,
  more: { readonly artifactType?: string; readonly subject?: Descriptor },
): Promise<Descriptor> {
  const empty = Buffer.from('{}')
  const described = descriptorOf(layer.type, layer.bytes, { annotations: layer.annotations ?? {} })
  const config = descriptorOf(mediaType.emptyJson, empty)
  await repository.push(config, empty)
  await repository.push(described, layer.bytes)
  const document = { schemaVersion: 2, mediaType: mediaType.ociManifest, ...more, config, layers: [described] }
  const bytes = Buffer.from(JSON.stringify(document))
  const descriptor = descriptorOf(mediaType.ociManifest, bytes)
  await repository.push(descriptor, bytes)
  return descriptor
}
