import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copy, loadArchive, MemoryStore, openArchive, writeArchive } from '../../src/content/index.ts'
import { anonymous, openRepository } from '../../src/distribution/index.ts'
import { createRegistryServer } from '../../src/registry/index.ts'
import { putImage, putIndex } from '../content/support.ts'
import { hasProgram } from '../distribution/support/docker-registry.ts'

const missing = !(hasProgram('ctr') && hasProgram('containerd'))
  ? 'containerd is not installed'
  : process.getuid?.() === 0
    ? undefined
    : 'it needs root'

let directory: string
let daemon: ChildProcess | undefined

/** Runs ctr against the containerd of this test; returns what it prints. */
async function ctr(...args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)('ctr', ['--address', join(directory, 'sock'), '-n', 'test', ...args])
  return stdout
}

async function startContainerd(): Promise<void> {
  const config = join(directory, 'config.toml')
  const path = (name: string): string => JSON.stringify(join(directory, name))
  await writeFile(
    config,
    `version = 2
root = ${path('root')}
state = ${path('state')}
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = ${path('sock')}
[ttrpc]
address = ${path('sock.ttrpc')}
`,
  )
  daemon = spawn('containerd', ['--config', config, '--log-level', 'error'], { stdio: ['ignore', 'ignore', 'inherit'] })
  for (let attempt = 0; daemon.exitCode === null; attempt++) {
    try {
      await ctr('version')
      return
    } catch (error) {
      if (attempt === 300) throw error
      await delay(100)
    }
  }
  throw new Error(`containerd has ended with ${daemon.exitCode}`)
}

/** An index of two images in memory, as `multi`, and an image alone, as `one`. */
async function images() {
  const store = new MemoryStore()
  const platforms = ['linux/amd64', 'linux/arm64']
  const made = []
  for (const platform of platforms) {
    made.push(await putImage(store, { platform, inIndex: true, layers: [randomBytes(50_000)] }))
  }
  const index = await putIndex(
    store,
    made.map(({ manifest }) => manifest),
  )
  const one = await putImage(store, { layers: [randomBytes(10_000), randomBytes(20_000)] })
  await store.tag(index, 'multi')
  await store.tag(one.manifest, 'one')
  return { store, index, one }
}

describe.skipIf(missing !== undefined)(`containerd${missing === undefined ? '' : ` (skipped: ${missing})`}`, () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'oci-ts-containerd-'))
    await startContainerd()
  }, 60_000)
  afterAll(async () => {
    if (daemon !== undefined && daemon.exitCode === null) {
      const exited = once(daemon, 'exit')
      daemon.kill('SIGTERM')
      await exited
    }
    await rm(directory, { recursive: true, force: true })
  })

  it('imports our archives, and exports what we read, with the same digests', async () => {
    const { store, index, one } = await images()
    const [ours, theirs] = [join(directory, 'ours.tar'), join(directory, 'theirs.tar')]
    await writeArchive(ours, [
      { source: store, reference: 'multi', as: 'example.com/multi:1' },
      { source: store, reference: 'one', as: 'example.com/one:1' },
    ])
    await ctr('images', 'import', '--no-unpack', '--all-platforms', ours)
    const listed = await ctr('images', 'list')
    expect(listed).toMatch(new RegExp(`^example.com/multi:1 .*${index.digest}`, 'm'))
    expect(listed).toMatch(new RegExp(`^example.com/one:1 .*${one.manifest.digest}`, 'm'))
    await ctr('images', 'export', '--all-platforms', theirs, 'example.com/multi:1', 'example.com/one:1')
    await using archive = await openArchive(theirs)
    expect((await archive.resolve('example.com/multi:1')).digest).toBe(index.digest)
    const target = new MemoryStore()
    const loaded = await loadArchive(theirs, target)
    expect(loaded.map(({ descriptor }) => descriptor.digest).sort()).toEqual([index.digest, one.manifest.digest].sort())
    expect(await copy(archive, one.manifest.digest, new MemoryStore())).toMatchObject({ digest: one.manifest.digest })
  })

  it('pulls from our registry and pushes to it what we pull, with the same digests', async () => {
    await using server = await createRegistryServer()
    const { store, index } = await images()
    const repository = openRepository(`${server.host}/multi`, { credentials: anonymous })
    await copy(store, 'multi', repository, { as: '1' })
    await ctr('content', 'fetch', '--plain-http', '--all-platforms', `${server.host}/multi:1`)
    expect(await ctr('images', 'list')).toMatch(new RegExp(`^${server.host}/multi:1 .*${index.digest}`, 'm'))
    await ctr('images', 'tag', `${server.host}/multi:1`, `${server.host}/back:2`)
    await ctr('images', 'push', '--plain-http', `${server.host}/back:2`)
    const back = openRepository(`${server.host}/back`, { credentials: anonymous })
    const target = new MemoryStore()
    expect(await copy(back, '2', target)).toMatchObject({ digest: index.digest })
    expect((await target.resolve('2')).digest).toBe(index.digest)
  })
})
