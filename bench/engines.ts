import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createWriteStream, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createEngine, type Engine } from 'oci-ts'
import { Bundles } from './bundle.ts'
import { alternate, type Contestant, median, ownCpu, silence } from './measure.ts'
import { find, Peer } from './peers.ts'
import { mountTmpfs } from './places.ts'
import { atMost, type Part, type Row } from './result.ts'

const image = 'bench.test/true:1'
const fifteenth = atMost(1 / 15)

/** `run` of an image that is there, to the removal of its container, against what users would pick. */
export async function benchEngines(directory: string, quick: boolean): Promise<Part> {
  const title = 'Run: a container of an image, from the call to its removal'
  if (process.getuid?.() !== 0) return { title, rows: [], notes: ['Skipped: needs root.'] }
  const place = mountTmpfs(directory, 'engines')
  try {
    return { title, ...(await benchIn(place.path, quick)) }
  } finally {
    place.close()
  }
}

async function benchIn(directory: string, quick: boolean): Promise<Omit<Part, 'title'>> {
  const { rootfs, origin } = new Bundles(join(directory, 'bundles'))
  const engine = createEngine({ root: join(directory, 'oci-ts'), state: join(directory, 'state') })
  await engine.importRootfs(rootfs, { name: image })
  const archive = join(directory, 'image.tar')
  await engine.save(image, createWriteStream(archive))

  const rows: Row[] = []
  const notes = [
    `The image is of ${origin}; containers have no network but their own loopback, and all files are on a tmpfs.`,
  ]
  for (const start of [docker, podman, ctr]) {
    const peer = await start(join(directory, start.name), archive)
    if (typeof peer === 'string') {
      notes.push(peer)
      continue
    }
    try {
      const samples = await alternate([ours(engine), peer.contestant], { repetitions: quick ? 5 : 20, block: 5 })
      const timesOf = (name: string): number => median(samples.get(name)?.times ?? [])
      const { name } = peer.contestant
      rows.push({
        what: 'run of /bin/true',
        unit: 'ms',
        ours: timesOf('oci-ts'),
        peer: { name, value: timesOf(name) },
        target: fifteenth,
      })
    } catch (error) {
      notes.push(`${peer.contestant.name}: ${(error as Error).message}`)
    } finally {
      await peer.close()
    }
  }
  return { rows, notes }
}

function ours(engine: Engine): Contestant {
  return {
    name: 'oci-ts',
    async run() {
      const began = performance.now()
      const container = await engine.run(image, { command: ['/bin/true'], pull: 'never' })
      const { code } = await container.exited
      await container.remove()
      if (code !== 0) throw new Error(`run ended with ${code}`)
      return performance.now() - began
    },
    cpu: ownCpu,
  }
}

interface Running {
  readonly contestant: Contestant
  close(): Promise<void>
}

async function docker(directory: string, archive: string): Promise<Running | string> {
  const [daemon, client] = [find('dockerd'), find('docker')]
  if (daemon === undefined || client === undefined) return 'docker run --rm: docker.io is not installed.'
  mkdirSync(directory)
  const socket = join(directory, 'socket')
  const paths = ['--data-root', join(directory, 'data'), '--exec-root', join(directory, 'exec')]
  const network = ['--bridge', 'none', '--iptables=false', '--ip-forward=false', '--ip-masq=false']
  const options = [...paths, '--pidfile', join(directory, 'pid'), ...network, '--host', `unix://${socket}`]
  const globals = ['--host', `unix://${socket}`]
  return withDaemon(daemon, options, async () => {
    await untilAnswers(client, [...globals, 'version'])
    must(client, [...globals, 'load', '--input', archive])
    const command = [client, ...globals, 'run', '--rm', '--network', 'none', image]
    return new Peer('docker run --rm', command, join(directory, 'errors'), () => '/bin/true')
  })
}

async function podman(directory: string, archive: string): Promise<Running | string> {
  const program = find('podman')
  if (program === undefined) return 'podman run --rm: podman is not installed.'
  mkdirSync(directory)
  const globals = ['--root', join(directory, 'root'), '--runroot', join(directory, 'run')]
  must(program, [...globals, 'load', '--input', archive])
  // More descriptors than it would ask for itself may be more than this machine allows.
  const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024']
  const command = [program, ...globals, 'run', '--rm', '--network', 'none', ...limits, image]
  const contestant = new Peer('podman run --rm', command, join(directory, 'errors'), () => '/bin/true')
  return {
    contestant,
    async close() {
      contestant.close()
      // It mounts its directory onto itself.
      spawnSync('umount', ['--lazy', join(directory, 'root', 'overlay')], { stdio: 'ignore' })
    },
  }
}

async function ctr(directory: string, archive: string): Promise<Running | string> {
  const [daemon, client] = [find('containerd'), find('ctr')]
  if (daemon === undefined || client === undefined) return 'ctr run --rm: containerd is not installed.'
  mkdirSync(directory)
  const socket = join(directory, 'socket')
  const options = ['--root', join(directory, 'root'), '--state', join(directory, 'state'), '--address', socket]
  const globals = ['--address', socket]
  return withDaemon(daemon, options, async () => {
    await untilAnswers(client, [...globals, 'version'])
    must(client, [...globals, 'images', 'import', archive])
    let count = 0
    const script = `exec "$1" --address "$2" run --rm "$3" "$4" /bin/true`
    const command = ['sh', '-c', script, 'sh', client, socket, image]
    return new Peer('ctr run --rm', command, join(directory, 'errors'), () => `bench-${process.pid}-${++count}`)
  })
}

async function withDaemon(
  program: string,
  options: readonly string[],
  prepare: () => Promise<Peer>,
): Promise<Running | string> {
  const daemon = spawn(program, options, { stdio: 'ignore' })
  try {
    const contestant = await prepare()
    return {
      contestant,
      async close() {
        contestant.close()
        await ended(daemon)
      },
    }
  } catch (error) {
    await ended(daemon)
    return `${program}: ${(error as Error).message}`
  }
}

async function untilAnswers(client: string, args: readonly string[]): Promise<void> {
  for (let attempt = 0; spawnSync(client, args, { stdio: 'ignore' }).status !== 0; attempt++) {
    if (attempt === 100) throw new Error('the daemon does not answer')
    await silence(100)
  }
}

function must(program: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`)
}

function ended(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null) return Promise.resolve()
  const over = new Promise<void>((resolve) => daemon.once('exit', () => resolve()))
  daemon.kill()
  return over
}
