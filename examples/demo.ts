/**
 * `npm run demo`: from programs of this machine to an image, a registry, and a container, in this process.
 * No network, no Docker, nothing left behind.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { arch, release, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { createEngine, type Engine, type Image, OciError, type RunOptions } from 'oci-ts'
import { createRegistryServer } from 'oci-ts/registry'
import { assembleHostImage, pushImage } from './demo/host-image.ts'
import { look, readReport } from './demo/look.ts'
import { bold, detail, dim, line, megabytes, progress, red } from './demo/report.ts'

const isRoot = process.getuid?.() === 0
const limits: RunOptions = isRoot ? { memory: '64m', cpus: 0.5, pids: 64 } : {}
const again = 20

async function demo(engine: Engine, signal: AbortSignal): Promise<void> {
  let started = performance.now()
  const lap = (): number => {
    const before = started
    started = performance.now()
    return started - before
  }

  await using registry = await createRegistryServer()
  line('registry', `listens on ${registry.host}`, lap())

  const tools = ['cat', 'hostname', 'id', 'ls']
  const made = await assembleHostImage(tools, ['sh', '/look.sh'], { 'look.sh': look })
  const bytes = made.layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0)
  line('image', `${made.layers.length} layers, ${megabytes(bytes)}: ${made.programs.join(' ')}`, lap())

  const reference = `${registry.host}/demo:1`
  await pushImage(made, `${registry.host}/demo`, '1')
  line('push', reference, lap())

  const pulling = engine.pull(reference, { signal })
  for await (const { phase, transferred, total } of pulling) if (phase === 'fetch') progress('pull', transferred, total)
  const image = await pulling
  line('pull', `${image.digest.slice(0, 19)}…, verified and unpacked`, lap())

  const options: RunOptions = { ...limits, hostname: 'demo', signal }
  await using box = await engine.run(image, options)
  line('run', `${isRoot ? 'as root' : 'rootless'}, all namespaces, pid ${box.pid} on the host`, lap())
  const exit = await box.exited
  await box.remove()
  line('exit', `code ${exit.code}, container removed`, lap())

  console.log(`\n  ${bold('What the container saw')}`)
  for (const [name, value] of readReport(await linesOf(box), isRoot)) detail(name, value)
  if (!isRoot) detail('limits', 'none: they take a cgroup, which an ordinary user does not own')
  for (const warning of box.warnings) detail('warning', warning)

  const times = await runAgain(engine, image, options)
  const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0
  console.log()
  line('again', `${again} more, each run, read, removed: median`, median)
}

async function linesOf(box: { logs(): AsyncIterable<{ text: string }> }): Promise<string[]> {
  const lines: string[] = []
  for await (const { text } of box.logs()) lines.push(text)
  return lines
}

async function runAgain(engine: Engine, image: Image, options: RunOptions): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < again; i++) {
    const started = performance.now()
    await using box = await engine.run(image, { ...options, command: ['sh', '-c', 'echo hello'] })
    await box.exited
    await box.remove()
    times.push(performance.now() - started)
  }
  return times
}

const directory = await mkdtemp(join(tmpdir(), 'oci-ts-demo-'))
const controller = new AbortController()
process.once('SIGINT', () => controller.abort(new Error('interrupted')))
console.log(
  `\n  ${bold('oci-ts')} ${dim(`on Node ${process.versions.node}, Linux ${release()} ${arch()}, as ${userInfo().username}`)}\n`,
)
try {
  await demo(createEngine({ root: join(directory, 'store'), state: join(directory, 'run') }), controller.signal)
} catch (error) {
  // Errors of this library say what to do; others are faults of the demo.
  if (!(error instanceof OciError)) throw error
  console.error(`\n  ${red(error.message.replaceAll('\n', '\n  '))}`)
  process.exitCode = 1
} finally {
  await rm(directory, { recursive: true, force: true })
}
console.log()
