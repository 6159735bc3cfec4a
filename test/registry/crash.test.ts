import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Digest, digestOf } from '../../src/image/digest.ts'
import { createRegistryHandler, diskStorage } from '../../src/registry/index.ts'
import { Client, imageManifest, type TestManifest, temporaryDirectory } from './support.ts'

interface Victim {
  readonly url: string
  kill(): Promise<void>
}

const running = new Set<ChildProcess>()

async function startVictim(directory: string): Promise<Victim> {
  const script = fileURLToPath(new URL('./serve.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', script, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  running.add(child)
  const [line] = await once(child.stdout, 'data')
  return {
    url: `http://${String(line).trim()}`,
    async kill() {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      running.delete(child)
    },
  }
}

/** What the client was told is stored. */
interface Acknowledged {
  readonly blobs: Map<Digest, Buffer>
  readonly tags: Map<string, TestManifest>
}

/** Pushes images until the connection breaks. */
async function pushUntilDeath(url: string, name: string, done: Acknowledged): Promise<void> {
  for (let i = 0; ; i += 1) {
    const config = Buffer.from(JSON.stringify({ name, i, rootfs: { type: 'layers', diff_ids: [] } }))
    const layer = randomBytes(randomInt(1, 3_000_000))
    for (const blob of [config, layer]) {
      const digest = digestOf(blob)
      const begun = await fetch(`${url}/v2/crash/blobs/uploads/`, { method: 'POST' })
      const path = begun.headers.get('location') ?? ''
      await fetch(`${url}${path}`, { method: 'PATCH', body: blob })
      const put = await fetch(`${url}${path}?digest=${digest}`, { method: 'PUT' })
      if (put.status !== 201) throw new Error(`put was answered with ${put.status}`)
      done.blobs.set(digest, blob)
    }
    const manifest = imageManifest(config, layer)
    const tag = `${name}-${i}`
    const put = await fetch(`${url}/v2/crash/manifests/${tag}`, {
      method: 'PUT',
      body: manifest.raw,
      headers: { 'content-type': manifest.mediaType },
    })
    if (put.status !== 201) throw new Error(`put was answered with ${put.status}`)
    done.tags.set(tag, manifest)
  }
}

async function checkBlobFiles(directory: string): Promise<void> {
  const root = join(directory, 'blobs', 'sha256')
  // It is not there when death came before the first blob.
  const names = await readdir(root).catch(() => [])
  for (const name of names) {
    const content = await readFile(join(root, name))
    expect(createHash('sha256').update(content).digest('hex')).toBe(name)
  }
}

describe('a registry on disk', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>

  beforeEach(async () => {
    directory = await temporaryDirectory()
  })
  afterEach(async () => {
    for (const child of running) child.kill('SIGKILL')
    await directory.remove()
  })

  it('has everything it acknowledged and nothing torn after it was killed at any moment, again and again', async () => {
    const done: Acknowledged = { blobs: new Map(), tags: new Map() }
    for (let round = 0; round < 6; round += 1) {
      const victim = await startVictim(directory.path)
      const pushes = ['a', 'b', 'c'].map((name) => pushUntilDeath(victim.url, `${name}${round}`, done).catch(() => {}))
      // The moment of death is what is varied here: there is no condition to wait for.
      await delay(randomInt(50, 600))
      await victim.kill()
      await Promise.all(pushes)

      const client = new Client(createRegistryHandler({ storage: diskStorage(directory.path) }))
      for (const [digest, blob] of done.blobs) {
        const response = await client.send('GET', `/v2/crash/blobs/${digest}`)
        expect(response.status).toBe(200)
        expect(Buffer.from(await response.arrayBuffer()).equals(blob)).toBe(true)
      }
      for (const [tag, manifest] of done.tags) {
        const response = await client.send('GET', `/v2/crash/manifests/${tag}`)
        expect(response.headers.get('docker-content-digest')).toBe(manifest.digest)
        expect(Buffer.from(await response.arrayBuffer()).equals(manifest.raw)).toBe(true)
      }
      const { tags = [] }: { tags?: string[] } = JSON.parse(
        await (await client.send('GET', '/v2/crash/tags/list')).text(),
      )
      for (const tag of tags) expect((await client.send('GET', `/v2/crash/manifests/${tag}`)).status).toBe(200)
      await checkBlobFiles(directory.path)
    }
    expect(done.tags.size).toBeGreaterThan(0)
  }, 120_000)

  it('lets a client go on with an upload that was cut off', async () => {
    const content = randomBytes(2_000_000)
    const victim = await startVictim(directory.path)
    const begun = await fetch(`${victim.url}/v2/resume/blobs/uploads/`, { method: 'POST' })
    const path = begun.headers.get('location') ?? ''
    await fetch(`${victim.url}${path}`, { method: 'PATCH', body: content.subarray(0, 1_200_000) })
    await victim.kill()

    const client = new Client(createRegistryHandler({ storage: diskStorage(directory.path) }))
    const status = await client.send('GET', path)
    expect(status.status).toBe(204)
    expect(status.headers.get('range')).toBe('0-1199999')
    const digest = digestOf(content)
    const put = await client.send('PUT', `${path}?digest=${digest}`, {
      body: content.subarray(1_200_000),
      headers: { 'content-range': '1200000-1999999' },
    })
    expect(put.status).toBe(201)
    expect(await readdir(join(directory.path, 'uploads'))).toEqual([])
  })

  it('removes uploads that nobody came back for', async () => {
    const victim = await startVictim(directory.path)
    await fetch(`${victim.url}/v2/left/blobs/uploads/`, { method: 'POST' })
    await victim.kill()
    const uploads = join(directory.path, 'uploads')
    const [left = ''] = await readdir(uploads)
    const old = new Date(Date.now() - 3_700_000)
    await utimes(join(uploads, left), old, old)
    const client = new Client(createRegistryHandler({ storage: diskStorage(directory.path) }))
    await client.push('other', Buffer.from('content'))
    expect(await readdir(uploads)).toEqual([])
  })

  it('keeps a blob once however many repositories have it, and gives its space back with the last', async () => {
    const client = new Client(createRegistryHandler({ storage: diskStorage(directory.path) }))
    const content = randomBytes(1000)
    const digest = await client.push('one', content)
    await client.push('two', content)
    await client.send('POST', `/v2/three/blobs/uploads/?mount=${digest}&from=one`)
    const file = join(directory.path, 'blobs', digest.replace(':', '/'))
    const inodes = await Promise.all(
      ['one', 'two', 'three'].map((name) =>
        stat(join(directory.path, 'repositories', name, '_blobs', digest.replace(':', '/'))),
      ),
    )
    expect(new Set([(await stat(file)).ino, ...inodes.map((stats) => stats.ino)]).size).toBe(1)
    for (const name of ['one', 'two', 'three']) await client.send('DELETE', `/v2/${name}/blobs/${digest}`)
    await expect(stat(file)).rejects.toMatchObject({ code: 'ENOENT' })
    expect(await readdir(join(directory.path, 'repositories'))).toEqual([])
  })
})
