import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { digestOf } from '../../src/image/digest.ts'
import { createRegistryHandler } from '../../src/registry/index.ts'
import { Client, temporaryDirectory } from './support.ts'

const script = fileURLToPath(new URL('../cli/from-sources.ts', import.meta.url))

describe('oci-ts registry', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  const running: ChildProcess[] = []

  beforeAll(async () => {
    directory = await temporaryDirectory()
  })
  afterAll(async () => {
    for (const child of running) child.kill('SIGKILL')
    await directory.remove()
  })

  async function start(...args: readonly string[]): Promise<{ url: string; child: ChildProcess }> {
    const child = spawn(process.execPath, ['--import', 'tsx', script, 'registry', '--port=0', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    running.push(child)
    const [line] = await once(child.stdout, 'data')
    return { url: String(line).replace('listening on ', '').trim(), child }
  }

  /** A client of a server elsewhere. */
  function clientOf(url: string): Client {
    const send = (request: Request): Promise<Response> => {
      const { pathname, search } = new URL(request.url)
      return request.arrayBuffer().then((body) =>
        fetch(`${url}${pathname}${search}`, {
          method: request.method,
          headers: request.headers,
          ...(body.byteLength === 0 ? {} : { body }),
        }),
      )
    }
    const { collectGarbage } = createRegistryHandler({ storage: {} as never })
    return new Client(Object.assign(send, { collectGarbage }))
  }

  it('keeps what is pushed, is a cache in front of another, and ends when it is told to', async () => {
    const origin = await start(`--dir=${join(directory.path, 'origin')}`)
    const image = await clientOf(origin.url).pushImage('team/app', 'v1')
    const cache = await start(`--upstream=${origin.url}`, '--max-size=1m')
    const response = await fetch(`${cache.url}/v2/team/app/manifests/v1`)
    expect(response.headers.get('docker-content-digest')).toBe(image.digest)
    expect((await fetch(`${cache.url}/v2/team/app/blobs/uploads/`, { method: 'POST' })).status).toBe(405)
    for (const { child } of [cache, origin]) {
      child.kill('SIGTERM')
      const [code] = await once(child, 'exit')
      expect(code).toBe(0)
    }
    const reader = await start(`--dir=${join(directory.path, 'origin')}`, '--read-only')
    expect((await fetch(`${reader.url}/v2/team/app/manifests/v1`)).status).toBe(200)
    expect((await fetch(`${reader.url}/v2/team/app/blobs/uploads/`, { method: 'POST' })).status).toBe(405)
  }, 30_000)

  it('lets only its users in, and refuses a quota that is exceeded', async () => {
    const users = join(directory.path, 'users.json')
    await writeFile(users, '{"alice":"wonder"}')
    const { url } = await start(`--users=${users}`, '--max-size=1k')
    expect((await fetch(`${url}/v2/`)).status).toBe(401)
    const authorization = `Basic ${Buffer.from('alice:wonder').toString('base64')}`
    const scope = 'repository:app:pull,push'
    const given = await fetch(`${url}/token?service=oci-ts&scope=${scope}`, { headers: { authorization } })
    const { token } = (await given.json()) as { token: string }
    const body = randomBytes(2000)
    const push = await fetch(`${url}/v2/app/blobs/uploads/?digest=${digestOf(body)}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      body,
    })
    expect(push.status).toBe(403)
  }, 30_000)

  const noDocker = spawnSync('docker-registry', ['--version']).status !== 0
  it.skipIf(noDocker)(
    'is a cache in front of docker-registry (apt-get install docker-registry)',
    async () => {
      const free = createServer().listen(0, '127.0.0.1')
      await once(free, 'listening')
      const { port } = free.address() as { port: number }
      free.close()
      await once(free, 'close')
      const config = join(directory.path, 'config.yml')
      const root = join(directory.path, 'docker')
      await writeFile(
        config,
        `version: 0.1\nstorage: { filesystem: { rootdirectory: ${root} } }\nhttp: { addr: '127.0.0.1:${port}' }\n`,
      )
      const docker = spawn('docker-registry', ['serve', config], { stdio: 'ignore' })
      running.push(docker)
      const origin = `http://127.0.0.1:${port}`
      await vi.waitFor(async () => expect((await fetch(`${origin}/v2/`)).status).toBe(200), { timeout: 10_000 })
      const content = randomBytes(100_000)
      const send = async (method: string, url: string, body: Uint8Array, type: string): Promise<void> => {
        const response = await fetch(url, { method, body: Buffer.from(body), headers: { 'content-type': type } })
        expect(response.status).toBe(201)
      }
      for (const blob of [content, Buffer.from('{}')]) {
        const begun = await fetch(`${origin}/v2/app/blobs/uploads/`, { method: 'POST' })
        const location = new URL(begun.headers.get('location') ?? '', origin)
        location.searchParams.set('digest', digestOf(blob))
        await send('PUT', location.href, blob, 'application/octet-stream')
      }
      const type = 'application/vnd.oci.image.manifest.v1+json'
      const part = (mediaType: string, blob: Uint8Array): object => ({
        mediaType,
        digest: digestOf(blob),
        size: blob.byteLength,
      })
      const config1 = part('application/vnd.oci.image.config.v1+json', Buffer.from('{}'))
      const layers = [part('application/vnd.oci.image.layer.v1.tar', content)]
      const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, config: config1, layers }))
      await send('PUT', `${origin}/v2/app/manifests/v1`, manifest, type)

      const kept = join(directory.path, 'cache')
      const cache = await start(`--upstream=${origin}`, `--dir=${kept}`)
      const pull = async (url: string): Promise<void> => {
        const response = await fetch(`${url}/v2/app/manifests/v1`)
        expect(Buffer.from(await response.arrayBuffer()).equals(manifest)).toBe(true)
        const blob = await fetch(`${url}/v2/app/blobs/${digestOf(content)}`)
        expect(Buffer.from(await blob.arrayBuffer()).equals(content)).toBe(true)
      }
      await pull(cache.url)
      docker.kill('SIGKILL')
      await once(docker, 'exit')
      await pull(cache.url)
      // Killed, and started anew with what it kept.
      cache.child.kill('SIGKILL')
      await once(cache.child, 'exit')
      await pull((await start(`--upstream=${origin}`, `--dir=${kept}`)).url)
    },
    60_000,
  )
})
