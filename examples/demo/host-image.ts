import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { openRepository } from 'oci-ts/distribution'
import { type Descriptor, descriptorOf, digestOf, hostPlatform, mediaType } from 'oci-ts/image'
import { pack } from 'tar-stream'
import { sharedLibraries } from './shared-libraries.ts'

/** An image in memory. */
export interface HostImage {
  /** Names of the programs in it. */
  readonly programs: readonly string[]
  readonly layers: readonly Blob[]
  readonly config: Blob
  readonly manifest: Blob
}

/** Content and what it is called by. */
export interface Blob {
  readonly descriptor: Descriptor
  readonly bytes: Buffer
}

/** Path in the image, without the leading slash, to content and permissions. */
type Files = Map<string, { readonly bytes: Buffer; readonly mode: number }>

const accounts = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
}

/**
 * Makes an image of two layers of this machine's own shell and tools: the shell with its libraries, and the tools
 * (those that are there) with theirs and `texts`.
 */
export async function assembleHostImage(
  tools: readonly string[],
  command: readonly string[],
  texts: Readonly<Record<string, string>> = {},
): Promise<HostImage> {
  const shell: Files = new Map()
  addProgram(shell, 'sh')
  for (const [path, text] of Object.entries(accounts)) addText(shell, path, text)

  const rest: Files = new Map()
  const present = tools.filter((name) => findProgram(name) !== undefined)
  for (const name of present) addProgram(rest, name)
  for (const [path, text] of Object.entries(texts)) addText(rest, path, text)
  for (const path of shell.keys()) rest.delete(path)

  const archives = [await archive(shell), await archive(rest)]
  const layers = archives.map((tar) => blob(mediaType.ociLayerGzip, gzipSync(tar)))
  const { architecture, os } = hostPlatform()
  const config = json(mediaType.ociConfig, {
    architecture,
    os,
    config: { Env: ['PATH=/bin'], Cmd: command, Labels: { 'org.opencontainers.image.title': 'demo' } },
    rootfs: { type: 'layers', diff_ids: archives.map((tar) => digestOf(tar)) },
    history: [{ created_by: 'the shell of this machine' }, { created_by: 'its tools' }],
  })
  const manifest = json(mediaType.ociManifest, {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: config.descriptor,
    layers: layers.map(({ descriptor }) => descriptor),
  })
  return { programs: ['sh', ...present], layers, config, manifest }
}

/** Pushes an image, and names it `tag`. */
export async function pushImage(image: HostImage, repositoryName: string, tag: string): Promise<void> {
  const repository = openRepository(repositoryName)
  for (const { descriptor, bytes } of [...image.layers, image.config, image.manifest]) {
    await repository.push(descriptor, bytes)
  }
  await repository.tag(image.manifest.descriptor, tag)
}

function findProgram(name: string): string | undefined {
  return ['/bin', '/usr/bin'].map((directory) => join(directory, name)).find((path) => existsSync(path))
}

function addProgram(files: Files, name: string): void {
  const program = findProgram(name)
  if (program === undefined) throw new Error(`this machine has no ${name}`)
  files.set(`bin/${name}`, { bytes: readFileSync(program), mode: 0o755 })
  for (const library of sharedLibraries(program)) {
    files.set(library.slice(1), { bytes: readFileSync(library), mode: 0o755 })
  }
}

function addText(files: Files, path: string, text: string): void {
  files.set(path, { bytes: Buffer.from(text), mode: 0o644 })
}

/** A tar archive of the files and their directories, the same for the same files. */
function archive(files: Files): Promise<Buffer> {
  const tar = pack()
  const common = { uid: 0, gid: 0, mtime: new Date(0) }
  const directories = new Set<string>()
  for (const path of files.keys()) for (const parent of parents(path)) directories.add(parent)
  for (const name of [...directories].sort()) tar.entry({ ...common, name, type: 'directory', mode: 0o755 })
  for (const [name, { bytes, mode }] of files) tar.entry({ ...common, name, mode }, bytes)
  tar.finalize()
  return buffer(tar)
}

function parents(path: string): readonly string[] {
  const parent = dirname(path)
  return parent === '.' ? [] : [...parents(parent), parent]
}

function blob(type: string, bytes: Buffer): Blob {
  return { descriptor: descriptorOf(type, bytes), bytes }
}

function json(type: string, document: object): Blob {
  return blob(type, Buffer.from(JSON.stringify(document)))
}
