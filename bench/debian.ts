import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { openRepository } from 'oci-ts/distribution'
import { descriptorOf, digestOf, hostPlatform, mediaType } from 'oci-ts/image'
import { find } from './peers.ts'

/** Pushes an image of a minimal Debian to `repositoryName` as `tag`. @returns why not, when there is none. */
export async function pushDebian(repositoryName: string, tag: string): Promise<string | undefined> {
  const path = debianArchive()
  if (path === undefined) return 'mmdebstrap is not installed, or finds no mirror; name an image with --image.'
  const archive = readFileSync(path)
  const repository = openRepository(repositoryName)
  const push = async (type: string, bytes: Buffer): Promise<ReturnType<typeof descriptorOf>> => {
    const descriptor = descriptorOf(type, bytes)
    await repository.push(descriptor, bytes)
    return descriptor
  }
  const { architecture, os } = hostPlatform()
  const layer = await push(mediaType.ociLayerGzip, gzipSync(archive))
  const config = { architecture, os, rootfs: { type: 'layers', diff_ids: [digestOf(archive)] } }
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: await push(mediaType.ociConfig, Buffer.from(JSON.stringify(config))),
    layers: [layer],
  }
  await repository.tag(await push(mediaType.ociManifest, Buffer.from(JSON.stringify(manifest))), tag)
  return undefined
}

/** A minimal Debian as a tar archive: made once (half a minute, network) and kept for the next bench. */
function debianArchive(): string | undefined {
  const path = join(tmpdir(), `oci-ts-bench-debian-${process.getuid?.()}.tar`)
  // Whoever else could have put it there is none whose files we unpack.
  if (existsSync(path) && statSync(path).uid === process.getuid?.()) return path
  if (find('mmdebstrap') === undefined) return undefined
  const temporary = `${path.slice(0, -4)}-${process.pid}.tar`
  const { status } = spawnSync('mmdebstrap', ['--quiet', '--variant=minbase', 'bookworm', temporary], {
    stdio: 'ignore',
  })
  if (status !== 0) return undefined
  renameSync(temporary, path)
  return path
}
