import { randomFillSync } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { type CopyTotals, copy, LayoutStore } from 'oci-ts/content'
import { createRegistryClient } from 'oci-ts/distribution'
import { type Descriptor, descriptorOf, digestOf, mediaType, parseReference } from 'oci-ts/image'
import { alternate, median, type Sample } from './measure.ts'
import { find, Peer } from './peers.ts'
import { makePlaces } from './places.ts'
import { type Registry, startRegistry } from './registry.ts'
import { atMost, type Part, type Row } from './result.ts'

const layers = 8
const layerSize = 128 * 2 ** 20

/** An image of random layers between a registry and a layout, both on tmpfs, each time by a process of its own. */
export async function benchCopy(directory: string, quick: boolean): Promise<Part> {
  const title = `Copy: an image of ${layers} layers of ${layerSize / 2 ** 20} MiB, registry and layouts on tmpfs`
  if (process.getuid?.() !== 0) return { title, rows: [], notes: ['Skipped: needs root.'] }
  const places = makePlaces(directory)
  const place = places[0]?.path ?? directory
  try {
    const registry = await startRegistry(place)
    try {
      const layout = join(place, 'layout')
      await makeImage(layout)
      const repetitions = quick ? 3 : 9
      const rows = [
        ...(await benchPush(directory, place, registry, layout, repetitions)),
        ...(await benchPull(directory, place, registry, layout, repetitions)),
        ...(await countMounts(registry)),
      ]
      const missing = find('skopeo') === undefined ? ['skopeo: not installed.'] : []
      return { title, rows, notes: [`Served by ${registry.name}.`, ...missing] }
    } finally {
      await registry.close()
    }
  } finally {
    for (const each of places) each.close()
  }
}

/** Layers that gzip can't make smaller, so that nobody spends time on that. */
async function makeImage(path: string): Promise<void> {
  const store = await LayoutStore.create(path, { sync: false })
  const content = Buffer.alloc(layerSize)
  const described: Descriptor[] = []
  const diffIds: string[] = []
  const put = async (type: string, bytes: Buffer): Promise<Descriptor> => {
    const descriptor = descriptorOf(type, bytes)
    await store.push(descriptor, bytes)
    return descriptor
  }
  for (let i = 0; i < layers; i++) {
    randomFillSync(content)
    diffIds.push(digestOf(content))
    described.push(await put(mediaType.ociLayerGzip, gzipSync(content, { level: 0 })))
  }
  const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } }
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: await put(mediaType.ociConfig, Buffer.from(JSON.stringify(config))),
    layers: described,
  }
  await store.tag(await put(mediaType.ociManifest, Buffer.from(JSON.stringify(manifest))), '1')
}

function benchPush(
  directory: string,
  place: string,
  { host, name }: Registry,
  layout: string,
  repetitions: number,
): Promise<readonly Row[]> {
  const ours = script(
    directory,
    'push',
    "await copy(await LayoutStore.open(layout), '1', client.repository(parseReference(to)))",
  )
  // A registry that has the layers would take no bytes; docker-registry is content with an empty directory.
  const reset = (): void => {
    if (name.startsWith('docker-registry')) rmSync(join(place, 'registry/docker'), { recursive: true, force: true })
  }
  let count = 0
  const fresh = (): string => {
    reset()
    return `${host}/bench/push-${++count}`
  }
  return against('push', repetitions, {
    ours: { command: [...ours.command, layout], next: fresh, rss: ours.rss },
    skopeo: {
      command: [
        'sh',
        '-c',
        'exec skopeo copy --quiet --dest-tls-verify=false "oci:$1:1" "docker://$2:1"',
        'sh',
        layout,
      ],
      next: fresh,
    },
    errors: join(directory, 'push.err'),
  })
}

async function benchPull(
  directory: string,
  place: string,
  { host }: Registry,
  layout: string,
  repetitions: number,
): Promise<readonly Row[]> {
  const from = `${host}/bench/from`
  const client = createRegistryClient()
  await copy(await LayoutStore.open(layout), '1', client.repository(parseReference(from)))
  client.close()
  const ours = script(
    directory,
    'pull',
    "await copy(client.repository(parseReference(layout)), '1', await LayoutStore.create(to, { sync: false }))",
  )
  const fresh = (): string => {
    const path = join(place, 'pulled')
    rmSync(path, { recursive: true, force: true })
    mkdirSync(path)
    return join(path, 'layout')
  }
  return against('pull', repetitions, {
    ours: { command: [...ours.command, from], next: fresh, rss: ours.rss },
    skopeo: {
      command: ['sh', '-c', 'exec skopeo copy --quiet --src-tls-verify=false "docker://$1:1" "oci:$2:1"', 'sh', from],
      next: fresh,
    },
    errors: join(directory, 'pull.err'),
  })
}

/** A program that does `work` with its last two arguments, and leaves its largest size in a file, in KB. */
function script(directory: string, name: string, work: string): { readonly command: string[]; readonly rss: string } {
  const path = join(directory, `${name}.mjs`)
  const rss = join(directory, `${name}.rss`)
  const entry = (subpath: string): string => JSON.stringify(import.meta.resolve(`oci-ts/${subpath}`))
  writeFileSync(
    path,
    `import { writeFileSync } from 'node:fs'
import { copy, LayoutStore } from ${entry('content')}
import { createRegistryClient } from ${entry('distribution')}
import { parseReference } from ${entry('image')}
const [layout, to] = process.argv.slice(2)
const client = createRegistryClient()
${work}
client.close()
writeFileSync(${JSON.stringify(rss)}, String(process.resourceUsage().maxRSS))
`,
  )
  return { command: [process.execPath, path], rss }
}

interface Side {
  readonly command: readonly string[]
  readonly next: () => string
}

async function against(
  what: string,
  repetitions: number,
  sides: { readonly ours: Side & { readonly rss: string }; readonly skopeo: Side; readonly errors: string },
): Promise<readonly Row[]> {
  const { ours, skopeo, errors } = sides
  const peers = [new Peer('oci-ts', ours.command, errors, ours.next)]
  if (find('skopeo') !== undefined) peers.push(new Peer('skopeo', skopeo.command, errors, skopeo.next))
  const samples = await alternate(peers, { repetitions, block: 1, warmUp: 1 })
  for (const peer of peers) peer.close()
  const own = samples.get('oci-ts') as Sample
  const other = samples.get('skopeo')
  const cpu = (sample: Sample): number => sample.cpu / sample.times.length
  const compared = (value: (sample: Sample) => number): Partial<Row> =>
    other === undefined ? {} : { peer: { name: 'skopeo', value: value(other) } }
  const wall = (sample: Sample): number => median(sample.times)
  return [
    { what, unit: 'ms', ours: wall(own), ...compared(wall), target: other && atMost(0.8) },
    { what: '', unit: 'ms CPU', ours: cpu(own), ...compared(cpu), target: other && atMost(0.5) },
    { what: '  largest size', unit: 'KB', ours: Number(readFileSync(ours.rss, 'utf8')), target: atMost(150_000) },
  ]
}

/** Between two repositories of one registry, no blob is to pass through this process. */
async function countMounts({ host }: Registry): Promise<readonly Row[]> {
  const client = createRegistryClient()
  const repository = (name: string) => client.repository(parseReference(`${host}/bench/${name}`))
  let totals: CopyTotals | undefined
  let moved = 0
  await copy(repository('from'), '1', repository('to'), {
    onProgress: (progress) => {
      totals = progress.totals
      if (progress.kind === 'transferred') moved += progress.bytes
    },
  })
  client.close()
  return [
    { what: 'between repositories, bytes of blobs moved', unit: '', ours: moved, target: atMost(0) },
    { what: '  blobs mounted', unit: '', ours: totals?.mounted ?? 0 },
  ]
}
