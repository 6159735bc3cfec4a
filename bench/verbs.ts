import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { createContainer, createPool } from 'oci-ts/runtime'
import type { Bundle, Bundles } from './bundle.ts'
import { alternate, type Contestant, median, ownCpu, silence, tenth } from './measure.ts'
import { find, inMountNamespace, Peer } from './peers.ts'
import { atMost, type Row } from './result.ts'

/** What is done with containers besides making them one after the other: by a pool, `exec`, `delete`, little memory. */
export async function singleRows(
  bundles: Bundles,
  state: string,
  run: string,
  quick: boolean,
): Promise<readonly Row[]> {
  const repetitions = quick ? 20 : 100
  const docker = await bundles.make('verbs', 'docker', ['/bin/true'])
  const sleep = await bundles.make('verbs-sleep', 'docker', ['/bin/sleep', '600'])
  return [
    ...(await poolRows(docker, state, repetitions)),
    ...(await execRows(sleep, state, run, repetitions)),
    await deleteRow(sleep, state, repetitions),
    await smallMemoryRow(docker, state, repetitions),
  ]
}

/** From the call to the exit. In between the pool has time to be full again. */
async function poolRows(bundle: Bundle, state: string, repetitions: number): Promise<readonly Row[]> {
  const what = 'from a warm pool, call to exit'
  const onTmpfs = await poolTimes(bundle, state, repetitions)
  const onDisk = await poolTimes(bundle, join(bundle.path, 'state'), repetitions)
  return [
    { what, unit: 'ms', ours: median(onTmpfs), target: atMost(1.5) },
    { what: '  undisturbed (10th percentile)', unit: 'ms', ours: tenth(onTmpfs) },
    { what: '  90th percentile', unit: 'ms', ours: tenth(onTmpfs, 9) },
    { what: '  with its state beside the bundle', unit: 'ms', ours: median(onDisk) },
  ]
}

async function poolTimes({ path, spec }: Bundle, stateRoot: string, repetitions: number): Promise<readonly number[]> {
  const times: number[] = []
  await using pool = createPool({ size: 4, spec, bundle: path, stateRoot, id: `bench-pool-${process.pid}` })
  await pool.full()
  for (let n = -5; n < repetitions; n++) {
    await silence(30)
    const began = performance.now()
    const container = await pool.run()
    await container.exited
    if (n >= 0) times.push(performance.now() - began)
    await container.delete()
  }
  return times
}

async function execRows(
  { path, spec }: Bundle,
  stateRoot: string,
  run: string,
  repetitions: number,
): Promise<readonly Row[]> {
  const what = 'exec of /bin/true'
  await using container = await createContainer({ id: `bench-exec-${process.pid}`, spec, bundle: path, stateRoot })
  await container.start()
  const ours: Contestant = {
    name: 'oci-ts',
    async run() {
      const began = performance.now()
      const { exited } = await container.exec({ args: ['/bin/true'] })
      const { code } = await exited
      if (code !== 0) throw new Error(`exec ended with ${code}`)
      return performance.now() - began
    },
    cpu: ownCpu,
  }
  const crun = find('crun')
  if (crun === undefined) {
    const samples = await alternate([ours], { repetitions, block: 10 })
    return [{ what, unit: 'ms', ours: median(samples.get('oci-ts')?.times ?? []) }]
  }
  const root = join(run, 'crun-exec')
  const id = `bench-exec-${process.pid}`
  const errors = join(run, 'crun-exec.err')
  const inNamespace = (script: string): void => {
    const [program, ...args] = inMountNamespace(script, ['sh', crun, root, path, id])
    const { status } = spawnSync(program as string, args, { stdio: 'ignore' })
    if (status !== 0) throw new Error(`${script} ended with ${status}`)
  }
  inNamespace('"$1" --root "$2" run --detach --bundle "$3" "$4" </dev/null >/dev/null 2>&1')
  const peer = new Peer('crun', [crun, '--root', root, 'exec', id], errors, () => '/bin/true')
  try {
    const samples = await alternate([ours, peer], { repetitions, block: 10 })
    const timesOf = (name: string): number => median(samples.get(name)?.times ?? [])
    return [
      {
        what,
        unit: 'ms',
        ours: timesOf('oci-ts'),
        peer: { name: 'crun', value: timesOf('crun') },
        target: atMost(0.5),
      },
    ]
  } finally {
    peer.close()
    inNamespace('"$1" --root "$2" delete --force "$4"')
  }
}

async function deleteRow({ path, spec }: Bundle, stateRoot: string, repetitions: number): Promise<Row> {
  const times: number[] = []
  for (let n = -2; n < repetitions; n++) {
    const id = `bench-delete-${process.pid}-${n + 2}`
    const container = await createContainer({ id, spec, bundle: path, stateRoot })
    await container.start()
    const began = performance.now()
    await container.delete({ force: true })
    if (n >= 0) times.push(performance.now() - began)
  }
  return { what: 'delete of a running container', unit: 'ms', ours: median(times), target: atMost(5) }
}

/** The whole life of a container that may use 512 KB. */
async function smallMemoryRow({ path, spec }: Bundle, stateRoot: string, repetitions: number): Promise<Row> {
  const resources = { ...spec.linux?.resources, memory: { limit: 512 << 10 } }
  const small = { ...spec, linux: { ...spec.linux, resources } }
  let succeeded = 0
  for (let n = 0; n < repetitions; n++) {
    const id = `bench-small-${process.pid}-${n}`
    await using container = await createContainer({ id, spec: small, bundle: path, stateRoot })
    await container.start()
    if ((await container.exited).code === 0) succeeded++
  }
  return {
    what: 'runs of /bin/true within 512 KB that failed',
    unit: '',
    ours: repetitions - succeeded,
    target: atMost(0),
  }
}
