import { execFile, spawnSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Digest, digestEncoded, digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { createRegistryServer, diskStorage, memoryStorage, type RegistryServer } from '../../src/registry/index.ts'
import { imageManifest, manifestOf, type TestManifest, temporaryDirectory } from './support.ts'

function lacks(tool: string): boolean {
  return spawnSync(tool, ['--version']).status !== 0
}

const noRoot = process.getuid?.() !== 0
const run = promisify(execFile)

async function output(tool: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await run(tool, args, { maxBuffer: 2 ** 24 })
  return stdout
}

/** An image layout with an index over two platforms, as other tools write it. */
interface Layout {
  readonly path: string
  readonly index: TestManifest
  readonly images: readonly TestManifest[]
}

async function writeLayout(path: string): Promise<Layout> {
  const blobs = join(path, 'blobs', 'sha256')
  await mkdir(blobs, { recursive: true })
  const put = (content: Uint8Array): Promise<void> => writeFile(join(blobs, digestEncoded(digestOf(content))), content)
  const images: TestManifest[] = []
  for (const architecture of ['amd64', 'arm64']) {
    const files = join(path, `files-${architecture}`)
    await mkdir(files)
    await writeFile(join(files, 'hello'), `hello from ${architecture}\n`)
    const { stdout: tar } = await run('tar', ['-C', files, '-cf', '-', '.'], { encoding: 'buffer' })
    const layer = gzipSync(tar)
    const rootfs = { type: 'layers', diff_ids: [digestOf(tar)] }
    const config = Buffer.from(JSON.stringify({ architecture, os: 'linux', config: { Cmd: ['/hello'] }, rootfs }))
    const descriptor = { mediaType: mediaType.ociLayerGzip, digest: digestOf(layer), size: layer.byteLength }
    const image = imageManifest(config, layer, { layers: [descriptor] })
    for (const content of [config, layer, image.raw]) await put(content)
    images.push(image)
  }
  const index = manifestOf(mediaType.ociIndex, {
    manifests: images.map(({ mediaType, digest, raw }, i) => ({
      mediaType,
      digest,
      size: raw.byteLength,
      platform: { os: 'linux', architecture: i === 0 ? 'amd64' : 'arm64' },
    })),
  })
  await put(index.raw)
  await writeFile(join(path, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  const entry = { mediaType: index.mediaType, digest: index.digest, size: index.raw.byteLength }
  const named = { ...entry, annotations: { 'org.opencontainers.image.ref.name': 'test' } }
  await writeFile(join(path, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }))
  return { path, index, images }
}

describe.each(['memory', 'disk'])('a registry with %s storage', (kind) => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let registry: RegistryServer
  let layout: Layout

  beforeAll(async () => {
    directory = await temporaryDirectory()
    const storage = kind === 'disk' ? diskStorage(join(directory.path, 'registry')) : memoryStorage()
    registry = await createRegistryServer({ storage })
    layout = await writeLayout(join(directory.path, 'layout'))
  })
  afterAll(async () => {
    await registry.close()
    await directory.remove()
  })

  /** Options that keep what podman and buildah store in a directory of its own. */
  const storage = (tool: string): readonly string[] => {
    const state = join(directory.path, tool)
    return [`--root=${join(state, 'root')}`, `--runroot=${join(state, 'run')}`, '--storage-driver=vfs']
  }

  describe.skipIf(lacks('skopeo'))('with skopeo (apt-get install skopeo)', () => {
    const skopeo = (...args: readonly string[]): Promise<string> => output('skopeo', '--insecure-policy', ...args)
    const copy = (from: string, to: string): Promise<string> =>
      skopeo('copy', '--all', '--preserve-digests', '--src-tls-verify=false', '--dest-tls-verify=false', from, to)

    it('takes an image of several platforms and gives it back byte for byte', async () => {
      await copy(`oci:${layout.path}:test`, `docker://${registry.host}/skopeo/image:v1`)
      const back = join(directory.path, `back`)
      await copy(`docker://${registry.host}/skopeo/image:v1`, `oci:${back}:test`)
      const index = JSON.parse(await readFile(join(back, 'index.json'), 'utf8'))
      expect(index.manifests[0].digest).toBe(layout.index.digest)
      for (const { digest, raw } of [layout.index, ...layout.images]) {
        expect((await readFile(join(back, 'blobs', 'sha256', digestEncoded(digest)))).equals(raw)).toBe(true)
        const manifest: { layers?: { digest: Digest }[] } = JSON.parse(raw.toString())
        for (const layer of manifest.layers ?? []) {
          const name = join('blobs', 'sha256', digestEncoded(layer.digest))
          expect((await readFile(join(back, name))).equals(await readFile(join(layout.path, name)))).toBe(true)
        }
      }
    })

    it('copies between repositories by mounting, lists, inspects and deletes', async () => {
      await copy(`oci:${layout.path}:test`, `docker://${registry.host}/skopeo/first:v1`)
      await copy(`docker://${registry.host}/skopeo/first:v1`, `docker://${registry.host}/skopeo/second:v2`)
      const second = `docker://${registry.host}/skopeo/second`
      const inspected = JSON.parse(
        await skopeo('inspect', '--tls-verify=false', '--override-arch=arm64', `${second}:v2`),
      )
      expect(inspected).toMatchObject({ Digest: layout.index.digest, Architecture: 'arm64', RepoTags: ['v2'] })
      const raw = await skopeo('inspect', '--tls-verify=false', '--raw', `${second}@${layout.images[1]?.digest}`)
      expect(raw).toBe(layout.images[1]?.raw.toString())
      expect(JSON.parse(await skopeo('list-tags', '--tls-verify=false', second)).Tags).toEqual(['v2'])
      await skopeo('delete', '--tls-verify=false', `${second}:v2`)
      await expect(skopeo('inspect', '--tls-verify=false', `${second}:v2`)).rejects.toThrow(
        /manifest unknown|no manifest/,
      )
    })

    it('converts to the format of Docker, and syncs a repository', async () => {
      const target = `docker://${registry.host}/skopeo/docker:v1`
      await skopeo('copy', '--format=v2s2', '--dest-tls-verify=false', `oci:${layout.path}:test`, target)
      expect(JSON.parse(await skopeo('inspect', '--raw', '--tls-verify=false', target)).mediaType).toBe(
        mediaType.dockerManifest,
      )
      const synced = join(directory.path, 'synced')
      await mkdir(synced)
      await skopeo(
        'sync',
        '--all',
        '--src-tls-verify=false',
        '--src=docker',
        '--dest=dir',
        `${registry.host}/skopeo/docker`,
        synced,
      )
      const manifest = await readFile(join(synced, 'docker:v1', 'manifest.json'), 'utf8')
      expect(JSON.parse(manifest).mediaType).toBe(mediaType.dockerManifest)
    })
  })

  describe.skipIf(noRoot || lacks('podman'))('with podman (needs root; apt-get install podman)', () => {
    it('is pushed to and pulled from', async () => {
      const podman = (...args: readonly string[]): Promise<string> =>
        output('podman', ...storage('podman'), `--tmpdir=${directory.path}`, ...args)
      const { stdout: tar } = await run('tar', ['-C', join(layout.path, 'files-amd64'), '-cf', '-', '.'], {
        encoding: 'buffer',
      })
      const archive = join(directory.path, 'files.tar')
      await writeFile(archive, tar)
      const id = (await podman('import', '--quiet', archive)).trim()
      const name = `${registry.host}/podman/image:v1`
      const digestFile = join(directory.path, 'podman-digest')
      await podman('push', '--quiet', '--tls-verify=false', `--digestfile=${digestFile}`, id, name)
      const response = await fetch(`${registry.url}/v2/podman/image/manifests/v1`)
      expect(response.headers.get('docker-content-digest')).toBe(await readFile(digestFile, 'utf8'))
      await podman('rmi', '--force', id)
      await podman('pull', '--quiet', '--tls-verify=false', name)
      expect((await podman('images', '--quiet', '--no-trunc')).trim()).toBe(id)
    })
  })

  describe.skipIf(noRoot || lacks('buildah'))('with buildah (needs root; apt-get install buildah)', () => {
    it('takes an image that was built', async () => {
      const buildah = (...args: readonly string[]): Promise<string> => output('buildah', ...storage('buildah'), ...args)
      const context = join(directory.path, 'context')
      await mkdir(context)
      await writeFile(join(context, 'Containerfile'), 'FROM scratch\nCOPY file /file\nLABEL made=by-buildah\n')
      await writeFile(join(context, 'file'), 'content')
      await buildah('bud', '--quiet', '--tag=built', context)
      await buildah('push', '--quiet', '--tls-verify=false', 'built', `docker://${registry.host}/buildah/built:v1`)
      const get = async (path: string): Promise<string> =>
        (await fetch(`${registry.url}/v2/buildah/built/${path}`)).text()
      const manifest = JSON.parse(await get('manifests/v1'))
      const config = JSON.parse(await get(`blobs/${manifest.config.digest}`))
      expect(config.config.Labels.made).toBe('by-buildah')
    })
  })
})
