import { spawnSync } from 'node:child_process'
import { createReadStream, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { LayoutStore } from 'oci-ts/content'
import { type Descriptor, descriptorOf, digestOf, hostPlatform, mediaType } from 'oci-ts/image'
import { find } from './peers.ts'

/** Packages of each layer; the first one is a minimal Debian. */
const layers = [
  [],
  ['ca-certificates', 'curl', 'git', 'gnupg'],
  ['python3', 'python3-pip', 'python3-venv'],
  ['nodejs'],
  ['npm'],
  ['make', 'less', 'openssh-client', 'vim-tiny'],
]

/** Makes `<n>.tar.gz` in the working directory; what has changed since the layer before is the next layer. */
const script = `
set -e
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
pack() {
  layer=$1; shift
  (cd root && find . -xdev \\( -path ./var/cache/apt -o -path ./var/lib/apt/lists \\) -prune -o "$@" ! -type s -print0 | sort -z |
    tar --null --no-recursion --files-from=- --xattrs --numeric-owner -cf -) | gzip -n > "$layer.tar.gz"
}
mmdebstrap --quiet --variant=minbase bookworm root
pack 0
cp /etc/resolv.conf root/etc/resolv.conf
chroot root apt-get update
number=0
while read -r packages; do
  number=$((number + 1))
  # Times of changes are told apart by the second.
  sleep 1.1; touch stamp
  chroot root apt-get install -y --no-install-recommends $packages </dev/null
  pack $number -cnewer ../stamp
done
rm -rf root stamp
`

/**
 * Layers of an image of Debian with Python and Node, gzipped: made once (some minutes, network) and kept for the next
 * bench. @returns why not, when there are none.
 */
export function nodeLayers(): readonly string[] | string {
  const path = join(tmpdir(), `oci-ts-bench-node-${process.getuid?.()}`)
  // Whoever else could have put it there is none whose files we unpack.
  if (existsSync(path) && statSync(path).uid !== process.getuid?.()) return `${path} belongs to somebody else.`
  if (!existsSync(path)) {
    if (find('mmdebstrap') === undefined) return 'mmdebstrap is not installed.'
    const temporary = mkdtempSync(`${path}-`)
    const input = layers
      .slice(1)
      .map((packages) => `${packages.join(' ')}\n`)
      .join('')
    const { status } = spawnSync('bash', ['-c', script], { cwd: temporary, input, stdio: ['pipe', 'ignore', 'ignore'] })
    if (status === 0) renameSync(temporary, path)
    else rmSync(temporary, { recursive: true, force: true })
    if (status !== 0) return 'the image could not be made: mmdebstrap or apt-get finds no mirror.'
  }
  return layers.map((_, index) => join(path, `${index}.tar.gz`))
}

/** Writes an image of gzipped layers to a layout, as `1`. */
export async function writeLayout(path: string, files: readonly string[]): Promise<void> {
  const store = await LayoutStore.create(path, { sync: false })
  const put = async (type: string, bytes: Buffer): Promise<Descriptor> => {
    const descriptor = descriptorOf(type, bytes)
    await store.push(descriptor, bytes)
    return descriptor
  }
  const described: Descriptor[] = []
  const diffIds: string[] = []
  for (const file of files) {
    const blob = readFileSync(file)
    described.push(descriptorOf(mediaType.ociLayerGzip, blob))
    await store.push(described.at(-1) as Descriptor, createReadStream(file))
    diffIds.push(digestOf(gunzipSync(blob)))
  }
  const { architecture, os } = hostPlatform()
  const config = { architecture, os, rootfs: { type: 'layers', diff_ids: diffIds } }
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: await put(mediaType.ociConfig, Buffer.from(JSON.stringify(config))),
    layers: described,
  }
  await store.tag(await put(mediaType.ociManifest, Buffer.from(JSON.stringify(manifest))), '1')
}
