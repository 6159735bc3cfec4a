import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { copy, LayoutStore } from 'oci-ts/content'
import { openRepository } from 'oci-ts/distribution'
import { Containerd } from './containerd.ts'
import { pushDebian } from './debian.ts'
import { alternate, type Contestant, median, type Sample } from './measure.ts'
import { nodeLayers, writeLayout } from './node-image.ts'
import { find, Peer } from './peers.ts'
import { makePlaces, type Place } from './places.ts'
import { startRegistry } from './registry.ts'
import { atMost, type Part, type Row, type Target } from './result.ts'

/** Commands that pull `$reference` into the empty directory `$1`. */
const commands: Readonly<Record<string, string>> = {
  'podman overlay': podman('overlay'),
  'podman vfs': podman('vfs'),
  'skopeo, no unpacking': 'exec skopeo copy --quiet --src-tls-verify=false "docker://$reference" "dir:$1/image"',
}

function podman(driver: string): string {
  const store = `--root "$1/root" --runroot "$1/run" --storage-driver ${driver}`
  return `exec podman ${store} pull --quiet --tls-verify=false "$reference"`
}

/** What is asked for against some of the peers, of wall and CPU time. */
type Targets = Readonly<Record<string, Target>>

/** Pull and unpack into an empty store, each time by a process of its own, whose start counts. */
export async function benchPull(
  directory: string,
  quick: boolean,
  image: string | undefined,
): Promise<readonly Part[]> {
  const title = 'Pull: a Debian image into an empty store, unpacked'
  const titleOfSix = 'Pull: Debian with Python and Node, six layers, into an empty store on ext4, unpacked'
  if (process.getuid?.() !== 0) return [{ title, rows: [], notes: ['Skipped: needs root.'] }]
  const places = makePlaces(directory)
  try {
    const registry = await startRegistry(places[0]?.path ?? directory)
    const half = { 'podman overlay': atMost(0.5), 'podman vfs': atMost(0.5) }
    const third = { 'podman overlay': atMost(1 / 3), ctr: atMost(1 / 3) }
    const run = (reference: string, at: readonly Place[], targets: Targets): Promise<Omit<Part, 'title'>> =>
      benchPlaces(at, reference, directory, quick ? 3 : 9, targets)
    const served = `Served by ${registry.name}, from a tmpfs.`
    try {
      if (image !== undefined) return [{ title: `Pull: ${image}`, ...(await run(image, places, half)) }]
      const reason = await pushDebian(`${registry.host}/debian`, 'bench')
      const first = reason === undefined ? await run(`${registry.host}/debian:bench`, places, half) : skipped(reason)
      const missing = await pushNode(`${registry.host}/node:bench`, join(directory, 'node'))
      const ext4 = places.filter(({ name }) => name === 'ext4')
      const second = missing === undefined ? await run(`${registry.host}/node:bench`, ext4, third) : skipped(missing)
      return [
        { title, ...first, notes: [served, ...first.notes] },
        { title: titleOfSix, ...second },
      ]
    } finally {
      await registry.close()
    }
  } finally {
    for (const place of places) place.close()
  }
}

function skipped(reason: string): Omit<Part, 'title'> {
  return { rows: [], notes: [`Skipped: ${reason}`] }
}

/** Pushes the image of six layers. @returns why not, when there is none. */
async function pushNode(reference: string, directory: string): Promise<string | undefined> {
  const layers = nodeLayers()
  if (typeof layers === 'string') return layers
  await writeLayout(directory, layers)
  await copy(await LayoutStore.open(directory), '1', openRepository(reference), { as: 'bench' })
  rmSync(directory, { recursive: true })
  return undefined
}

async function benchPlaces(
  places: readonly Place[],
  reference: string,
  directory: string,
  repetitions: number,
  targets: Targets,
): Promise<Omit<Part, 'title'>> {
  const isInstalled = (name: string): boolean => find(name.split(/\W/)[0] as string) !== undefined
  const present = Object.entries(commands).filter(([name]) => isInstalled(name))
  const withContainerd = targets.ctr !== undefined && find('containerd') !== undefined && find('ctr') !== undefined
  const rows: Row[] = []
  for (const place of places) {
    const all = [...ours(directory), ...present]
    const contestants: (Contestant & { close(): void })[] = all.map(([name, script], index) => {
      // podman wants the path of its run state to be short.
      return contestant(name, script, reference, place, join(place.path, String(index)))
    })
    if (withContainerd) contestants.push(new Containerd(join(place.path, 'ctr'), reference))
    const samples = await alternate(contestants, { repetitions, block: 1, warmUp: 1 })
    for (const one of contestants) one.close()
    rows.push(...compare(place.name, samples, targets))
  }
  const missing = Object.keys(commands).filter((name) => !isInstalled(name))
  if (targets.ctr !== undefined && !withContainerd) missing.push('containerd')
  return { rows, notes: missing.map((name) => `${name}: not installed.`) }
}

/**
 * Commands that pull with this library, in a Node of its own: as it does by default, and without waiting for the disk, as
 * podman and containerd do with what they unpack.
 */
function ours(directory: string): readonly [string, string][] {
  const path = join(directory, 'pull.mjs')
  const entry = import.meta.resolve('oci-ts')
  writeFileSync(
    path,
    `import { createEngine } from ${JSON.stringify(entry)}
const [reference, root, durability] = process.argv.slice(2)
await createEngine({ root, state: root + '/run', store: { durability } }).pull(reference)
`,
  )
  const script = (durability: string): string =>
    `exec "${process.execPath}" "${path}" "$reference" "$1/store" ${durability}`
  return [
    ['oci-ts', script('image')],
    ['oci-ts, not synced', script('none')],
  ]
}

function contestant(name: string, script: string, reference: string, place: Place, base: string): Peer {
  let count = 0
  const fresh = (): string => {
    rmSync(base, { recursive: true, force: true })
    // What was written before must not be written back at the expense of what comes now.
    spawnSync('sync', ['--file-system', place.path])
    const path = join(base, String(++count))
    mkdirSync(path, { recursive: true })
    return path
  }
  // With certificates of its own Node takes 40 ms longer to start, for a registry that is asked for none.
  const environment = ['-u', 'NODE_EXTRA_CA_CERTS', `reference=${reference}`]
  return new Peer(name, ['env', ...environment, 'sh', '-c', script, 'sh'], `${base}.err`, fresh)
}

/** Rows of wall and CPU time against each peer. */
function compare(place: string, samples: ReadonlyMap<string, Sample>, target: Targets): readonly Row[] {
  const own = samples.get('oci-ts') as Sample
  const peers = [...samples].filter(([name]) => name !== 'oci-ts')
  if (peers.length === 0) return [{ what: place, unit: 'ms', ours: median(own.times) }]
  const each = ({ cpu, times }: Sample): number => cpu / times.length
  return peers.flatMap(([name, sample]): Row[] => [
    {
      what: place,
      unit: 'ms',
      ours: median(own.times),
      peer: { name, value: median(sample.times) },
      target: target[name],
    },
    { what: '', unit: 'ms CPU', ours: each(own), peer: { name, value: each(sample) }, target: target[name] },
  ])
}
