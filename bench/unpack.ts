import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { alternate, median, type Sample } from './measure.ts'
import { nodeLayers, writeLayout } from './node-image.ts'
import { find, Peer } from './peers.ts'
import { mountTmpfs } from './places.ts'
import { atMost, type Part, type Row } from './result.ts'

/** An image of six layers from a layout into an empty directory, on tmpfs, each time by a process of its own. */
export async function benchUnpack(directory: string, quick: boolean): Promise<Part> {
  const title = 'Unpack: Debian with Python and Node, six layers, on tmpfs'
  if (process.getuid?.() !== 0) return { title, rows: [], notes: ['Skipped: needs root.'] }
  const layers = nodeLayers()
  if (typeof layers === 'string') return { title, rows: [], notes: [`Skipped: ${layers}`] }
  const place = mountTmpfs(directory, 'unpack')
  try {
    const layout = join(place.path, 'layout')
    await writeLayout(layout, layers)
    const size = layers.reduce((sum, layer) => sum + statSync(layer).size, 0)
    const notes = [
      `${Math.round(size / 1e6)} MB compressed. tar checks no digest, and takes one layer after the other.`,
    ]
    if (find('umoci') === undefined) notes.push('umoci: not installed.')
    return { title, rows: await measure(directory, place.path, layout, layers, quick ? 3 : 7), notes }
  } finally {
    place.close()
  }
}

/** Unpacks the layers named before the last argument below that. */
const untar = `
for to in "$@"; do :; done
while [ $# -gt 1 ]; do
  mkdir "$to/$#" && tar -xzf "$1" -C "$to/$#" || exit 1
  shift
done`

async function measure(
  directory: string,
  place: string,
  layout: string,
  layers: readonly string[],
  repetitions: number,
): Promise<readonly Row[]> {
  const errors = join(directory, 'unpack.err')
  const log = join(directory, 'unpack.log')
  const fresh = (name: string, content?: string): string => {
    const path = join(place, name)
    rmSync(path, { recursive: true, force: true })
    mkdirSync(path)
    if (content !== undefined) cpSync(content, join(path, 'content'), { recursive: true })
    return path
  }
  const umoci = ['sh', '-c', 'exec umoci unpack --image "$1:1" "$2/bundle"', 'sh', layout]
  const peers = [
    new Peer('oci-ts', [process.execPath, unpackScript(directory, log)], errors, () => fresh('oci-ts', layout)),
    new Peer('tar -xzf', ['sh', '-c', untar, 'sh', ...layers], errors, () => fresh('tar')),
    ...(find('umoci') === undefined ? [] : [new Peer('umoci', umoci, errors, () => fresh('umoci'))]),
  ]
  const samples = await alternate(peers, { repetitions, block: 1, warmUp: 1 })
  for (const peer of peers) peer.close()
  const runs = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line) as Run)
  return rows(samples, runs, phasesAlone(directory, layers))
}

/** What one run of ours tells of itself: milliseconds, and KB. */
interface Run {
  readonly stall: number
  readonly size: number
  /** CPU of the processes that make the files. */
  readonly files: number
}

function unpackScript(directory: string, log: string): string {
  const path = join(directory, 'unpack.mjs')
  writeFileSync(
    path,
    `import { appendFileSync, readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { openStore } from ${JSON.stringify(import.meta.resolve('oci-ts/store'))}
const store = await openStore({ root: process.argv[2] })
const read = async (descriptor) => JSON.parse(Buffer.concat(await (await store.fetch(descriptor)).toArray()))
const manifest = await read(await store.resolve('1'))
const config = await read(manifest.config)
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
await store.unpack(manifest, config)
delay.disable()
const stat = readFileSync('/proc/self/stat', 'latin1')
const [user, system] = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(13, 15)
const run = { stall: delay.max / 1e6, size: process.resourceUsage().maxRSS, files: 10 * (Number(user) + Number(system)) }
appendFileSync(${JSON.stringify(log)}, JSON.stringify(run) + '\\n')
`,
  )
  return path
}

/** CPU milliseconds that inflating and hashing take when nothing else is done, by this same Node. */
function phasesAlone(
  directory: string,
  layers: readonly string[],
): { readonly inflate: number; readonly hash: number } {
  const path = join(directory, 'phases.mjs')
  writeFileSync(
    path,
    `import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createGunzip } from 'node:zlib'
let inflate = 0, hash = 0
const cpu = (since) => { const { user, system } = process.cpuUsage(since); return (user + system) / 1000 }
for (const layer of process.argv.slice(2)) {
  const blob = readFileSync(layer)
  const began = process.cpuUsage()
  const before = hash
  const update = (hasher, bytes) => { const from = process.cpuUsage(); hasher.update(bytes); hash += cpu(from) }
  const diffId = createHash('sha256')
  const gunzip = createGunzip({ chunkSize: 256 * 1024 })
  gunzip.end(blob)
  for await (const chunk of gunzip) update(diffId, chunk)
  inflate += cpu(began) - (hash - before)
  update(createHash('sha256'), blob)
}
console.log(JSON.stringify({ inflate, hash }))
`,
  )
  const runs = Array.from({ length: 3 }, () => {
    const { stdout } = spawnSync(process.execPath, [path, ...layers], { encoding: 'utf8' })
    return JSON.parse(stdout) as { inflate: number; hash: number }
  })
  return { inflate: Math.min(...runs.map((run) => run.inflate)), hash: Math.min(...runs.map((run) => run.hash)) }
}

function rows(
  samples: ReadonlyMap<string, Sample>,
  runs: readonly Run[],
  alone: { readonly inflate: number; readonly hash: number },
): readonly Row[] {
  const own = samples.get('oci-ts') as Sample
  const tar = samples.get('tar -xzf') as Sample
  const umoci = samples.get('umoci')
  const cpu = ({ cpu, times }: Sample): number => cpu / times.length
  const wall = ({ times }: Sample): number => median(times)
  const limit = { name: 'limit', value: cpu(tar) }
  const against = (name: string, sample: Sample, most: { wall?: number; cpu: number }): readonly Row[] => [
    {
      what: 'unpack',
      unit: 'ms',
      ours: wall(own),
      peer: { name, value: wall(sample) },
      target: most.wall === undefined ? undefined : atMost(most.wall),
    },
    { what: '', unit: 'ms CPU', ours: cpu(own), peer: { name, value: cpu(sample) }, target: atMost(most.cpu) },
  ]
  return [
    ...(umoci === undefined ? [] : against('umoci', umoci, { wall: 0.25, cpu: 0.25 })),
    ...against('tar -xzf', tar, { cpu: 1 }),
    { what: '  inflating, alone', unit: 'ms CPU', ours: alone.inflate, peer: limit },
    { what: '  hashing, alone', unit: 'ms CPU', ours: alone.hash, peer: limit },
    { what: '  making files', unit: 'ms CPU', ours: median(runs.map(({ files }) => files)), peer: limit },
    { what: '  largest size', unit: 'KB', ours: Math.max(...runs.map(({ size }) => size)), target: atMost(200_000) },
    { what: '  longest stall, median', unit: 'ms', ours: median(runs.map(({ stall }) => stall)), target: atMost(20) },
    { what: '  longest stall, best run', unit: 'ms', ours: Math.min(...runs.map(({ stall }) => stall)) },
  ]
}
