import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createContainer } from 'oci-ts/runtime'
import { type Bundle, Bundles, type Settings } from './bundle.ts'
import { alternate, type Contestant, median, ownCpu, type Sample, silence, tenth } from './measure.ts'
import { memoryRows } from './memory.ts'
import { find, Peer } from './peers.ts'
import { mountTmpfs } from './places.ts'
import { atLeast, atMost, type Part, type Row, type Target } from './result.ts'
import { singleRows } from './verbs.ts'

/** Of the time and the CPU time of `crun run` and the time of `runc run`, by how the container is made. */
const targets: Readonly<Record<Settings, Readonly<Record<string, Target>>>> = {
  docker: { crun: atMost(0.25), runc: atMost(0.25) },
  bare: { crun: atMost(0.5) },
}

const names: Readonly<Record<Settings, string>> = {
  docker: "Docker's defaults",
  bare: 'no limits, no seccomp',
}

/**
 * Containers of each kind before the first that counts, as many as one every 50 ms makes in 100 seconds: a program that runs
 * is compiled while it runs, its peers were before.
 */
const warmUp = 2000

/** Containers at a time, where there are many. */
const parallel = 8

/** Containers from create to delete, against the same bundles run by crun and runc. */
export async function benchRuntime(directory: string, quick: boolean): Promise<Part> {
  const title = 'Runtime: create, start, exit, delete'
  if (process.getuid?.() !== 0) return { title, rows: [], notes: ['Skipped: needs root.'] }
  // All of them keep their state in /run, which is a tmpfs on every machine with an init system.
  const run = mountTmpfs(directory, 'run')
  try {
    return { title, ...(await benchIn(directory, run.path, quick)) }
  } finally {
    run.close()
  }
}

async function benchIn(directory: string, run: string, quick: boolean): Promise<Omit<Part, 'title'>> {
  const bundles = new Bundles(join(directory, 'bundles'))
  const runtimes = ['crun', 'runc'].filter((name) => find(name) !== undefined)
  const notes = ['crun', 'runc'].filter((name) => !runtimes.includes(name)).map((name) => `${name} is not installed.`)
  const rows: Row[] = []
  const state = join(run, 'oci-ts')
  const before = quick ? warmUp / 10 : warmUp

  for (const settings of ['docker', 'bare'] as const) {
    const bundle = await bundles.make(settings, settings, ['/bin/true'])
    const peers = runtimes.map((name) => peer(name, bundle, run))
    const contestants = [inProcess(bundle, state), ...peers]
    for (let i = 0; i < before; i++) await cycle(bundle, state)
    for (const [how, schedule] of [
      ['one after the other', { repetitions: quick ? 30 : 200, block: 10 }],
      ['one every 50 ms', { repetitions: quick ? 10 : 100, block: 1, pause: 50 }],
    ] as const) {
      const samples = await alternate(contestants, schedule)
      rows.push(...compare(`${names[settings]}, ${how}`, samples, targets[settings]))
    }
    for (const one of peers) one.close()
  }
  const bundle = await bundles.make('many', 'docker', ['/bin/true'])
  rows.push(...(await throughput(bundle, state, runtimes, run, quick ? 160 : 800)))
  rows.push(...(await singleRows(bundles, state, run, quick)))
  rows.push(...(await memoryRows(await bundles.make('sleep', 'docker', ['/bin/sleep', '600']), state, run)))
  // Processes that could be used again end when nobody has wanted them for a second.
  await silence(2000)
  notes.push(...leftovers(state), `oci-ts has run ${before} containers of each kind before those that count.`)
  notes.push(`The root filesystem is of ${bundles.origin}, the state of all is on a tmpfs.`)
  return { rows, notes }
}

/** A runtime that is run as a program. Each run gets an id of its own. */
function peer(name: string, { path }: Bundle, run: string): Peer {
  const root = join(run, name)
  let count = 0
  const random = Math.random().toString(36).slice(2, 8)
  return new Peer(
    name,
    [find(name) as string, '--root', root, 'run', '--bundle', path],
    join(run, `${name}-${random}.err`),
    () => `bench-${random}-${++count}`,
  )
}

let ids = 0

/** Runs a container to its end in this process. @returns the CPU milliseconds of the container. */
async function cycle({ path, spec }: Bundle, stateRoot: string): Promise<number> {
  const id = `bench-${process.pid}-${++ids}`
  const container = await createContainer({ id, spec, bundle: path, stateRoot })
  await container.start()
  const { code } = await container.exited
  await container.delete()
  if (code !== 0) throw new Error(`${id} ended with ${code}`)
  const { userTime = 0, systemTime = 0 } = (await container.usage()) ?? {}
  return userTime + systemTime
}

function inProcess(bundle: Bundle, state: string): Contestant {
  let ofContainers = 0
  return {
    name: 'oci-ts',
    async run() {
      const started = performance.now()
      ofContainers += await cycle(bundle, state)
      return performance.now() - started
    },
    cpu: () => ownCpu() + ofContainers,
  }
}

/** Rows of the median time, of that on a quiet machine, and of the CPU time per repetition, against each peer. */
function compare(
  what: string,
  samples: ReadonlyMap<string, Sample>,
  wanted: Readonly<Record<string, Target>>,
): readonly Row[] {
  const ours = samples.get('oci-ts') as Sample
  const each = ({ cpu, times }: Sample): number => cpu / times.length
  const peers = [...samples].filter(([name]) => name !== 'oci-ts')
  if (peers.length === 0) return [{ what, unit: 'ms', ours: median(ours.times) }]
  return peers.flatMap(([name, sample]): Row[] => [
    {
      what,
      unit: 'ms',
      ours: median(ours.times),
      peer: { name, value: median(sample.times) },
      target: wanted[name],
    },
    {
      what: '  undisturbed (10th percentile)',
      unit: 'ms',
      ours: tenth(ours.times),
      peer: { name, value: tenth(sample.times) },
    },
    {
      what: '  CPU',
      unit: 'ms CPU',
      ours: each(ours),
      peer: { name, value: each(sample) },
      target: name === 'crun' ? wanted[name] : undefined,
    },
  ])
}

async function throughput(
  bundle: Bundle,
  state: string,
  runtimes: readonly string[],
  run: string,
  count: number,
): Promise<readonly Row[]> {
  const what = `Docker's defaults, ${count} containers, ${parallel} at a time`
  const ours = await rate(count, async () => () => cycle(bundle, state))
  if (runtimes.length === 0) return [{ what, unit: 'a second', ours }]
  const rows: Row[] = []
  for (const name of runtimes) {
    const lanes: Peer[] = []
    const value = await rate(count, async () => {
      const lane = peer(name, bundle, run)
      lanes.push(lane)
      await lane.run()
      return () => lane.run()
    })
    for (const lane of lanes) lane.close()
    const target = name === 'crun' ? atLeast(3) : undefined
    rows.push({ what, unit: 'a second', ours, peer: { name, value }, target })
  }
  return rows
}

/** Runs `count` containers in {@link parallel} lanes. @returns how many a second. */
async function rate(count: number, makeLane: () => Promise<() => Promise<unknown>>): Promise<number> {
  const lanes = await Promise.all(Array.from({ length: parallel }, makeLane))
  let left = count
  const started = performance.now()
  await Promise.all(
    lanes.map(async (run) => {
      while (left-- > 0) await run()
    }),
  )
  return count / ((performance.now() - started) / 1000)
}

/** Says what our containers have left: it should be nothing. */
function leftovers(state: string): readonly string[] {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').trim().split(' ')
  const remotes = children.filter((pid) => pid !== '' && /oci-ts/.test(commandOf(pid)))
  const cgroups = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((mount) => mount.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .flatMap(([, point = '']) => readdirSync(point).filter((name) => name.startsWith(`oci-ts-bench-${process.pid}-`)))
  const states = existsSync(state) ? readdirSync(state).filter((name) => name.startsWith('bench-')) : []
  return [
    `Left behind: ${remotes.length} processes, ${new Set(cgroups).size} cgroups, ${states.length} state directories.`,
  ]
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return ''
  }
}
